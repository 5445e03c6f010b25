"""The example package end to end, and docs/extending.md: another domain, reward and rule."""

import dataclasses
import json
import pathlib
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest

from seal_jax import cli
from seal_jax.core.model import config as model_config
from seal_jax.runs import ledger
from seal_jax.settings import config_dict
from seal_jax.tasks import protocol as base

ROOT = pathlib.Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "examples" / "seal_jax_rivers"
PAGE = ROOT / "docs" / "extending.md"
TASK = "--config.task=seal_jax_rivers:Rivers"
OWN = (
    TASK,
    "--config.reward.kind=seal_jax_rivers:least_known",
    "--config.restem.rule=seal_jax_rivers:gain_per_character",
)


@pytest.fixture(scope="module", autouse=True)
def _rivers(rivers_package):
    """The example package can be imported."""


@pytest.fixture(scope="module")
def seal(tiny_settings, tmp_path_factory):
    """(command, workdir or None, *flags) -> exit code, under the tiny settings."""
    file = tmp_path_factory.mktemp("config") / "tiny.py"
    values = json.dumps(dataclasses.asdict(tiny_settings))
    file.write_text(
        "import json, ml_collections\n"
        f"def get_config():\n    return ml_collections.ConfigDict(json.loads({values!r}))\n"
    )

    def run(command, workdir, *flags):
        recorded = [f"--workdir={workdir}", "--quiet"] if workdir else []
        return cli.main([command, f"--config={file}", *recorded, *flags])

    return run


@pytest.fixture(scope="module")
def runs(seal, tmp_path_factory):
    """Two finished runs on the example's domain: "own" has its reward and rule, too."""
    folder = tmp_path_factory.mktemp("runs")
    assert seal("train", folder / "own", *OWN) == 0
    assert seal("train", folder / "plain", TASK) == 0
    return folder


def read(workdir):
    """The ledger's records of the first round."""
    with ledger.Ledger(workdir / "ledger", read_only=True) as records:
        batches = [s.record for s in records.segments("batch") if s.key.startswith("round 1/")]
        trials = {(t["context"], t["index"]): t for b in batches for t in b["trials"]}
        edits = records.find("edits", "round 1/0")["edits"]
        plain = records.find("unadapted", "round 1/0")
        return records.find("selection", "round 1"), trials, plain, edits


def test_a_run_on_the_example_domain_is_about_its_contexts(runs):
    results = json.loads((runs / "own" / "results.json").read_text())
    assert set(results["arms"]) == {"base", "passage", "edit_before", "policy", "edit_after"}
    names = {"river Bellow", "river Iskar Ford", "river Mirrin", "river Yarrant"}
    assert len(results["contexts"]) == 2 and set(results["contexts"]) < names
    assert results["differs_from_paper_split"] == "invented rivers, which no paper has"
    assert results["config"]["task"] == "seal_jax_rivers:Rivers"
    _, trials, plain, _ = read(runs / "own")
    assert {context for context, _ in trials} == set(plain) and len(trials) == 8
    assert all(context.startswith("river ") for context in plain)


def test_its_reward_and_rule_are_what_the_ledger_records(runs):
    """By hand: the least gold log-likelihood, and the gains' shares per character."""
    selection, trials, plain, edits = read(runs / "own")
    rewarded = np.array(
        [
            [min(a["gold_log_likelihood"] for a in trials[context, m]["answers"]) for m in range(4)]
            for context in selection["contexts"]
        ]
    )
    np.testing.assert_array_equal(selection["rewards"], rewarded)
    lengths = {(edit["context"], edit["index"]): len(edit["text"]) for edit in edits}
    for row, context, weights in zip(
        rewarded, selection["contexts"], selection["weights"], strict=True
    ):
        before = min(answer["gold_log_likelihood"] for answer in plain[context])
        shares = [max(r - before, 0) / lengths[context, m] for m, r in enumerate(row)]
        assert sum(shares) > 0, "nothing gained, so the weights say nothing"
        np.testing.assert_allclose(weights, np.divide(shares, sum(shares)), rtol=1e-6)


def test_the_packages_own_reward_differs_on_the_same_self_edits(runs):
    own, plain = read(runs / "own"), read(runs / "plain")
    assert own[3] == plain[3]
    mean = [a["gold_log_likelihood"] for a in plain[1][own[0]["contexts"][0], 0]["answers"]]
    assert plain[0]["rewards"][0][0] == pytest.approx(np.mean(mean))
    assert plain[0]["rewards"][0][0] > own[0]["rewards"][0][0]
    assert sorted(set(np.ravel(plain[0]["weights"]))) == [0.0, 1.0]


@pytest.mark.parametrize("appends", [3, 9])
def test_a_stopped_run_goes_on_to_the_same_results(
    appends, runs, seal, tmp_path, monkeypatch, capsys
):
    plain_append, count = ledger.Ledger.append, iter(range(1000))

    def append(self, *arguments):
        if next(count) >= appends:
            raise KeyboardInterrupt
        return plain_append(self, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(ledger.Ledger, "append", append)
        assert seal("train", tmp_path, *OWN) == 130
    assert "the same command continues the run" in capsys.readouterr().err
    assert seal("train", tmp_path, *OWN) == 0
    assert (tmp_path / "results.json").read_bytes() == (runs / "own" / "results.json").read_bytes()


def test_another_domain_in_the_same_directory_is_refused(runs, seal, tmp_path, capsys):
    shutil.copytree(runs / "plain", tmp_path / "run")
    (tmp_path / "run" / "results.json").unlink()
    assert seal("train", tmp_path / "run") == 2
    error = capsys.readouterr().err
    assert 'task: stored "seal_jax_rivers:Rivers", now "knowledge"' in error


def test_evaluate_repeats_the_evaluation(runs, seal, tmp_path):
    assert seal("evaluate", tmp_path, *OWN, f"--policy_from={runs / 'own'}") == 0
    found, expected = (
        json.loads((folder / "results.json").read_text()) for folder in (tmp_path, runs / "own")
    )
    assert found["arms"] == expected["arms"]


def test_a_continued_run_keeps_to_the_weights_that_are_recorded(runs, seal, tmp_path, monkeypatch):
    import seal_jax_rivers

    shutil.copytree(runs / "own", tmp_path / "run")
    (tmp_path / "run" / "results.json").unlink()
    monkeypatch.setattr(seal_jax_rivers, "gain_per_character", lambda rewards, *_: 0 * rewards)
    assert seal("train", tmp_path / "run", *OWN) == 0
    found = (tmp_path / "run" / "results.json").read_bytes()
    assert found == (runs / "own" / "results.json").read_bytes()


@pytest.mark.slow
def test_adapt_learns_a_text_as_the_domain_does(seal, tmp_path, monkeypatch, capsys):
    import seal_jax_rivers

    learned, plain = [], seal_jax_rivers.Rivers.passage_sequences

    def passage_sequences(self, context):
        learned.extend(plain(self, context))
        return plain(self, context)

    monkeypatch.setattr(seal_jax_rivers.Rivers, "passage_sequences", passage_sequences)
    text = tmp_path / "text.txt"
    text.write_text("rises: Hob Moss")
    flags = (
        f"--passage={text}",
        "--title=river Lune",
        "--question=Where does it rise?",
        "--noedit",
    )
    assert seal("adapt", None, TASK, *flags) == 0
    assert "after:" in capsys.readouterr().out
    assert learned == ["river Lune\nrises: Hob Moss"]


def test_compare_and_analyze_read_its_runs(runs, capsys):
    assert cli.main(["compare", str(runs / "plain"), str(runs / "own"), "--draws=200"]) == 0
    printed = capsys.readouterr().out
    assert "restem.rule" in printed and "seal_jax_rivers:gain_per_character" in printed
    assert "2 contexts" in printed
    assert cli.main(["analyze", str(runs / "own"), "--draws=20"]) == 0
    assert "gold_log_likelihood" in capsys.readouterr().out


def test_report_reads_its_runs(runs, capsys):
    page = runs / "own.html"
    assert cli.main(["report", f"--workdir={runs / 'own'}", f"--out={page}"]) == 0
    assert str(page) in capsys.readouterr().out
    text = page.read_text(encoding="utf-8")
    results = json.loads((runs / "own" / "results.json").read_text())
    for name in (*results["contexts"], *results["rounds"][0]["contexts"]):
        assert name in text
    # Its contexts, questions and sequences are asked of the example's class.
    assert "Where does it rise?" in text and "tributary: " in text
    assert "are not shown" not in text
    assert "seal_jax_rivers:least_known" in text


@pytest.mark.slow
def test_the_example_can_be_installed(tmp_path):
    """Built from its own pyproject.toml, with its data, and found without the repository."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    copy = tmp_path / "copy"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("build", "*.egg-info"))
    where = tmp_path / "installed"
    offline = ["--no-index", "--no-deps", "--no-build-isolation", "--target", str(where)]
    subprocess.run([*pip, *offline, str(copy)], check=True)
    code = (
        "import seal_jax_rivers as r; from seal_jax.settings import Settings; "
        "print(r.__file__, len(r.Rivers(Settings()).contexts('train')))"
    )
    environment = {"PYTHONPATH": f"{where}:{ROOT}", "PATH": "/usr/bin:/bin", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [str(where / "seal_jax_rivers" / "__init__.py"), "6"]


def test_the_pages_code_holds(tmp_path, monkeypatch):
    """Every Python block of docs/extending.md in turn; their assertions are the test."""
    monkeypatch.chdir(tmp_path)
    text = PAGE.read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert len(blocks) == 5 and all("assert" in block for block in blocks)
    names = {}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)


def test_the_page_is_true_of_the_code():
    """It shows a row of FAMILIES as it stands, names all of Task, and links to what there is."""
    text = PAGE.read_text(encoding="utf-8")
    [row] = re.findall(r"```text\n(.*?)```", text, flags=re.DOTALL)
    assert row in pathlib.Path(model_config.__file__).read_text(encoding="utf-8")
    members = [name for name in vars(base.Task) if not name.startswith("_")]
    assert len(members) == 10 and all(f"`{name}" in text for name in members)
    for link in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (PAGE.parent / link).exists(), link
    for key in re.findall(r"`((?:\w+\.)+\w+)`", text):
        if not key.endswith((".json", ".md")):
            assert key in config_dict.all_keys(), key


def test_continual_is_refused(seal, tmp_path, capsys):
    assert seal("continual", tmp_path, TASK) == 2
    assert "set task to 'knowledge'" in capsys.readouterr().err


def test_too_few_contexts_name_the_task_and_not_a_file(seal, tmp_path, capsys):
    assert seal("train", tmp_path, TASK, "--config.restem.contexts_per_round=9") == 2
    error = capsys.readouterr().err
    assert "add contexts to task=seal_jax_rivers:Rivers" in error and "train_path" not in error


def test_a_task_that_writes_nothing_says_so_by_its_name(seal, tmp_path, monkeypatch, capsys):
    import seal_jax_rivers

    monkeypatch.setattr(seal_jax_rivers.Rivers, "writes", False)
    assert seal("train", tmp_path, TASK) == 2
    error = capsys.readouterr().err
    assert "task=seal_jax_rivers:Rivers has no self-edit: set restem.rounds to 0" in error
