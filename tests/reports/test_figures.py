"""`report --figures` and `compare --figures`: what stands on the pictures, and where they go."""

import json
import sys
import xml.etree.ElementTree as ET

import pytest

from seal_jax import cli
from seal_jax.reports import out_file, run_records
from seal_jax.reports.figures import of_run, sheet, write

from . import made_runs
from .conftest import some_answers

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "made"
    changes = {"directives": {"edits base": {
        "valid": 3, "invalid": 1, "distinct": 2, "commonest": "", "commonest_times": 2,
        "learning_rate": [1e-4, 1e-3, 3e-3], "epochs": [2.0, 3.0, 5.0],
    }}}  # fmt: skip
    return run_records.read(str(made_runs.knowledge(folder, rounds=2, changes=changes)))


def picture(run, name):
    [found] = dict(of_run.pictures(run))[name]
    return found


def test_what_is_compared_is_said_with_its_interval_and_its_count(run):
    alt = picture(run, "differences").alt
    assert "accuracy (points) +12.5 [−5.0, +31.2]" in alt
    assert "gold log-likelihood (nats) +0.50 [+0.25, +0.75]" in alt
    assert "2 contexts; 4 questions" in alt and "95 % bootstrap intervals" in alt


def test_times_are_in_the_order_of_the_run(run):
    assert picture(run, "time").figures == [
        "round 1: sample 6, adapt 75", "self-edit before RL: adapt 30",
    ]  # fmt: skip


def test_directives_say_that_lines_are_quartiles(run):
    found = picture(run, "directives")
    assert "learning rate 0.001   (0.0001 to 0.003)" in found.alt and "3 of 4 valid" in found.alt
    assert "not intervals of an estimate" in found.alt


def test_a_picture_without_data_says_why(run):
    found = dict(of_run.pictures(run))
    assert found["continual"] == "it is no continual run"
    assert "two learners" in found["editors"]


def test_editors_by_learners(tmp_path, write_run):
    arms = ("base", "edit_before", "policy", "edit_after_base", "edit_after")
    answers = {arm: some_answers([[-5 - k, -4 - k]] * 4) for k, arm in enumerate(arms)}
    found = picture(run_records.read(write_run("run", answers)), "editors")
    assert "RL's self-edit, base model learns: gold log-likelihood −7.50" in found.alt
    assert "nothing, RL's policy learns: gold log-likelihood −6.50" in found.alt


def test_heat_maps_have_every_value_of_a_matrix(run):
    matrix = [[-9.0, -8.0], [-2.0, None], [-3.0, -1.5]]
    of = {"keeps_old_data": False, "unrelated": None, "summary": {"gold_log_likelihood": {
        "start": -8.5, "own": -1.75, "end": -2.25, "retained_share": None,
        "share_over_unmitigated": None, "own_gain_of_unmitigated": None,
    }}, "matrices": {"gold_log_likelihood": {
        "matrix": matrix, "standard_errors": [[0.1, 0.1]] * 3,
    }}}  # fmt: skip
    results = run.results | {"continual": {"none": of}, "sequences": [[], []]}
    changed = type(run)(**{**vars_of(run), "results": results})
    [found] = dict(of_run.pictures(changed))["continual"]
    expected = "none: before −9.00 −8.00, after edit 1 −2.00 –, after edit 2 −3.00 −1.50"
    assert expected in found.alt and "means of 2 sequences" in found.alt


def vars_of(run):
    return {name: getattr(run, name) for name in run.__dataclass_fields__}


@pytest.mark.parametrize("make, drawn", [
    (lambda to: made_runs.few_shot(to, adapted=[[5, 4]]), ["arms", "differences", "directives"]),
    (lambda to: made_runs.few_shot(to, curated=True), []),
    (lambda to: made_runs.knowledge(to, finished=False), ["learning"]),
    (lambda to: made_runs.knowledge(to, batches=1), []),
])  # fmt: skip
def test_runs_of_every_kind(tmp_path, make, drawn):
    found = of_run.pictures(run_records.read(str(make(tmp_path / "run"))))
    assert [name for name, of in found if not isinstance(of, str)] == drawn


@pytest.fixture
def matplotlib():
    return pytest.importorskip("matplotlib")


def test_files_in_both_themes_with_their_words(matplotlib, run, tmp_path, capsys):
    assert cli.main(["report", f"--workdir={run.path}", f"--figures={tmp_path}"]) == 0
    told = capsys.readouterr().out
    assert "continual: no picture, since it is no continual run" in told
    names = {path.name for path in tmp_path.iterdir()}
    for name in ("arms", "differences", "learning", "directives", "time"):
        assert {f"{name}-light.svg", f"{name}-dark.svg"} <= names
    for theme in sheet.THEMES:
        root = ET.parse(tmp_path / f"differences-{theme.name}.svg").getroot()
        assert root.get("width") == "700" and root.get("role") == "img"
        assert "+12.5 [−5.0, +31.2]" in root.find(f"{SVG}desc").text
        ground = root.find(f".//{SVG}g[@id='patch_1']/{SVG}path").get("style")
        assert f"fill: {theme.paper}" in ground
    page = (tmp_path / "figures.md").read_text()
    assert f"seal report --workdir={run.path} --figures={tmp_path}" in page
    assert "prefers-color-scheme: dark" in page and "+12.5 [−5.0, +31.2]" in page


def test_the_same_run_makes_the_same_files(matplotlib, run):
    one = picture(run, "arms")
    assert sheet.svg(one, sheet.THEMES[0]) == sheet.svg(one, sheet.THEMES[0])


def test_somebody_elses_file_stays(matplotlib, run, tmp_path):
    (tmp_path / "arms-light.svg").write_text("<svg/>")
    with pytest.raises(out_file.OutError, match="--figures="):
        write.write(of_run.pictures(run), str(tmp_path), "seal report")
    assert (tmp_path / "arms-light.svg").read_text() == "<svg/>"


def test_without_matplotlib_the_command_to_install_it_is_said(run, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert cli.main(["report", f"--workdir={run.path}", f"--figures={tmp_path / 'new'}"]) == 2
    assert "pip install 'seal_jax[figures]'" in capsys.readouterr().err


@pytest.fixture
def three_seeds(write_run):
    def of(seed):
        likelihoods = {"base": -9.0, "edit_before": -8.0 + seed, "edit_after_base": -5.0 - seed,
                       "edit_random_base": -6.5}  # fmt: skip
        answers = {
            arm: some_answers([[of + 0.1 * c, of - 0.2 * c] for c in range(4)])
            for arm, of in likelihoods.items()
        }
        return write_run(f"seed-{seed}", answers, config={"seed": seed})

    return ",".join(of(seed) for seed in range(3))


def test_seeds_stand_on_the_picture_with_the_level(matplotlib, three_seeds, tmp_path):
    found = tmp_path / "compared.json"
    command = ["compare", three_seeds, "--level=0.9", f"--figures={tmp_path / 'figures'}"]
    assert cli.main([*command, f"--json={found}"]) == 0
    root = ET.parse(tmp_path / "figures" / "seeds-light.svg").getroot()
    alt = root.find(f"{SVG}desc").text
    within = {
        (one["second"]["arm"], one["first"]["arm"]): one
        for one in json.loads(found.read_text())["within"]["intervals"]
        if one["metric"] == "gold_log_likelihood"
    }
    own, turned = (
        within["edit_after_base", "edit_before"],
        within["edit_random_base", "edit_after_base"],
    )
    low, high = own["interval"]
    shown = f"{own['difference']:+.2f} [{low:+.2f}, {high:+.2f}]".replace("-", "−")
    assert "RL: RL's self-edit, base learner − self-edit before RL" in alt and shown in alt
    low, high = (-edge for edge in reversed(turned["interval"]))
    shown = f"{-turned['difference']:+.2f} [{low:+.2f}, {high:+.2f}]".replace("-", "−")
    assert "random-selection self-edit, base learner: accuracy" in alt and shown in alt
    assert "3 seeds (0, 1, 2)" in alt and "90 % bootstrap intervals" in alt


def test_tokens_need_runs_that_train_on_other_numbers_of_them(matplotlib, write_run, tmp_path):
    def of(name, tokens, epochs):
        answers = {
            "base": some_answers([[-9.0, -8.0 + c] for c in range(4)]),
            "edit_before": some_answers([[-7.0 + epochs, -6.0 + c] for c in range(4)]),
        }
        path = write_run(name, answers, config={"inner": {"epochs": epochs}})
        file = tmp_path / name / "results.json"
        found = json.loads(file.read_text())
        found.pop("sha256", None)
        found["arms"]["edit_before"]["trained_tokens"] = tokens
        file.write_text(json.dumps(found))
        return path

    runs = [of("few", 100, 1), of("many", 400, 4)]
    assert cli.main(["compare", *runs, f"--figures={tmp_path / 'figures'}"]) == 0
    root = ET.parse(tmp_path / "figures" / "tokens-light.svg").getroot()
    alt = root.find(f"{SVG}desc").text
    assert "100 tokens: gold log-likelihood" in alt and "400 tokens: gold log-likelihood" in alt
