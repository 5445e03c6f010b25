"""`report`: what the file says of runs, finished, unfinished or incomplete, and what it escapes."""

import html.parser
import json
import re

import pytest

from seal_jax import cli
from seal_jax.reports import run_records, words
from seal_jax.reports.html import report
from seal_jax.runs import results_file, run_dir

from . import made_runs


class _Page(html.parser.HTMLParser):
    """The tags of a page with their attributes, its visible text, and its data."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.words, self.data, self._within = [], [], None, []
        self.feed(text)
        self.text = re.sub(r"\s+", " ", " ".join(self.words))
        self.about = self.text.partition("Every setting")[0]

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag in ("script", "style"):
            self._within.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        if self._within and self._within[-1][0] == tag:
            self._within.pop()

    def handle_data(self, data):
        if not self._within:
            self.words.append(data)
        elif self._within[-1][1].get("id") == "data":
            self.data = json.loads(data)

    def named(self, name):
        return [attributes for tag, attributes in self.tags if tag == name]


def _report(folder):
    return _Page(report.write(str(folder)).read_text(encoding="utf-8"))


def _row(page, *cells):
    """Whether cells follow one another in the page's text."""
    return " ".join(cells) in page.text


def test_a_finished_run(tmp_path):
    folder = made_runs.knowledge(tmp_path / "run one", contexts=3, edits=2, replicates=2)
    before = sorted(path.name for path in folder.rglob("*"))
    page = _report(folder)
    assert sorted(path.name for path in folder.rglob("*")) == sorted([*before, "report.html"])
    assert "run one" in page.text and "· finished" in page.text
    assert _row(page, "restem.rule", "best_of_m") and _row(page, "jax", "0.10.2")
    assert _row(page, "too long", "7")
    gains = json.loads((folder / "results.json").read_text())["arms"]
    mean = f"{100 * gains['edit_before']['accuracy']:.1f}"
    # All answers are right, so the mean itself has no interval.
    assert mean == "100.0" and _row(page, "self-edit before RL", mean, "+12.5", "[−5.0, +31.2]")
    assert _row(page, "self-edit before RL − base model", "gold log-likelihood", "+0.50 nats")
    assert _row(page, "self-edit before RL", "+1.25", "[+0.50, +2.00]", "2")
    titles = [a.get("aria-label") for a in page.named("svg") if a.get("role") == "img"]
    gain = "Gain over base model in"
    assert titles[:2] == [f"{gain} accuracy (%)", f"{gain} gold log-likelihood (nats)"]
    assert titles[2:4] == ["Reward by round", "M-step loss"]
    assert titles[4].startswith("Rewards of round 1; mean ")
    assert "Reliability, with 95 % intervals" in page.text
    assert _row(page, "round 1", "6", "3", "12", "2,700", "3,600", "1 min 20 s", "adapt 1 min 15 s")
    assert "inner loops an hour" in page.text
    assert "Continual self-edits" not in page.text


def test_it_opens_with_what_came_of_the_run_and_ends_with_the_settings(tmp_path):
    folder = made_runs.knowledge(tmp_path / "run")
    page = _report(folder)
    said = words.of_run(run_records.read(str(folder)))
    opening = page.text.partition("What came of it")[2].partition("Gain over base model")[0]
    printed = opening.replace("\u00a0", " ").replace("−", "-")
    assert printed.split() == " ".join(said).split() and "interval [−5.0" in opening
    assert "+12.5 [−5.0, +31.2]" in page.text.partition("Gain over base model in accuracy")[2]
    links = [a["href"] for a in page.named("a")[1:]]
    assert links[:2] == ["#outcome", "#arms"] and links[-2:] == ["#explorer", "#about"]
    ticks = page.text.partition("Gain over base model in gold")[0]
    assert ticks.split()[-4:] == ["0", "10", "20", "30"]


def test_the_explorer_holds_what_was_recorded(tmp_path):
    folder = made_runs.knowledge(
        tmp_path / "run",
        contexts=3,
        edits=3,
        replicates=2,
        edit_text=lambda c, m: f"1. One {c}.\nTwo {m}.",
    )
    data = _report(folder).data
    [stage, base, arm] = data["stages"]
    names = [stage["name"], base["label"], arm["label"]]
    assert names == ["round 1", "evaluation: base model", "evaluation: self-edit before RL"]
    assert [len(of["contexts"]) for of in data["stages"]] == [3, 2, 2]
    for c, context in enumerate(stage["contexts"]):
        about = data["contexts"][context["at"]]
        assert about["title"] == f"train article {c}"
        assert about["questions"][1][0] == f"What of train {c} comes at place 1?"
        rewards = [edit["reward"] for edit in context["edits"]]
        assert rewards == sorted(rewards, reverse=True)
        assert sum(edit["kept"] for edit in context["edits"]) == 1 and context["edits"][0]["kept"]
        for edit in context["edits"]:
            m = edit["number"]
            assert edit["text"] == f"1. One {c}.\nTwo {m}." and edit["cut"] == (m == 0)
            became = [about["sequences"][at] for at in edit["sequences"]]
            title = f"train article {c}\n"
            assert became == [f"{title}1. One {c}.", f"{title}Two {m}.", title + about["text"]]
            right = [answer[2] for trial in edit["trials"] for answer in trial["answers"]]
            assert len(right) == 4 and sum(right) / 4 == edit["reward"]
        assert [answer[0] for answer in context["base"]] == [0, 1]
    [adapted] = arm["contexts"][0]["edits"]
    assert adapted["text"] == "Held out facts."
    assert arm["contexts"][0]["base"] == base["contexts"][0]["base"]


_EVIL = '</script><img src=x onerror="window.bad=1"><script>window.bad=1</script><!--'


def test_texts_are_text(tmp_path):
    folder = made_runs.knowledge(
        tmp_path / "a<b>&",
        edit_text=lambda c, m: _EVIL,
        changes={"model": _EVIL, "left_out": {"train": {_EVIL: 1}}},
    )
    written = report.write(str(folder)).read_text(encoding="utf-8")
    page = _Page(written)
    assert len(page.named("script")) == 2 and not page.named("img") and not page.named("b")
    assert page.data["stages"][0]["contexts"][0]["edits"][0]["text"] == _EVIL
    assert page.text.count(_EVIL) == 2 and "a<b>&" in page.text
    assert "<img" not in written and 'onerror="' not in written.replace('\\"', "")


def test_nothing_is_loaded_from_elsewhere(tmp_path):
    written = report.write(str(made_runs.knowledge(tmp_path / "run"))).read_text()
    page = _Page(written)
    for tag, attributes in page.tags:
        assert tag not in ("link", "iframe", "object", "embed", "base", "form")
        assert "src" not in attributes and attributes.get("href", "#").startswith("#")
        assert not any(name.startswith("on") for name in attributes)
    assert not re.search(r"url\(|@import|https?://(?!www\.w3\.org/2000/svg)", written)
    [policy] = [a["content"] for a in page.named("meta") if "http-equiv" in a]
    assert policy.startswith("default-src 'none';") and "'sha256-" in policy


def test_an_unfinished_run(tmp_path):
    folder = made_runs.knowledge(tmp_path / "run", contexts=3, edits=2, batches=2)
    page = _report(folder)
    assert "not finished: what is recorded so far" in page.text
    assert _row(page, "round 1", "6", "2 of 3", "4", "1,800", "2,400")
    assert "Times are written when the run is finished" in page.text
    assert [a["href"] for a in page.named("a")[1:]] == [
        "#reliability",
        "#cost",
        "#explorer",
        "#about",
    ]
    [stage] = page.data["stages"]
    tried = [len(edit["trials"]) for context in stage["contexts"] for edit in context["edits"]]
    assert tried == [1, 1, 1, 1, 0, 0]
    rewards = [edit["reward"] for context in stage["contexts"] for edit in context["edits"]]
    assert None not in rewards[:4] and rewards[4:] == [None, None]


def test_a_run_whose_judge_failed_shows_why_and_what_there_is(tmp_path):
    folder = made_runs.knowledge(tmp_path / "run", changes={"incomplete": "4 exams <ungraded>"})
    page = _report(folder)
    assert "not finished: 4 exams <ungraded>" in page.text and "· finished" not in page.text
    assert "Accuracy (%)" in page.text  # the arms are there all the same
    page = _report(made_runs.knowledge(tmp_path / "unmarked", batches=2, marks=False))
    [stage] = page.data["stages"]
    edits = [edit for context in stage["contexts"] for edit in context["edits"]]
    assert ["answers" in trial for edit in edits for trial in edit["trials"]] == [True] * 2 + [
        False
    ] * 2
    assert [edit["reward"] is None for edit in edits] == [False] * 2 + [True] * 4


def test_an_unfinished_evaluation_shows_means_without_intervals(tmp_path):
    page = _report(made_runs.knowledge(tmp_path / "run", finished=False))
    assert "Arms so far" in page.text and "not comparable yet" in page.text
    assert re.search(r"base model 4 [\d.]+ % −[\d.]+ nats", page.text)
    assert re.search(r"self-edit before RL 4 [\d.]+ % −[\d.]+ nats", page.text)


def test_what_an_arm_cost_stands_beside_it(tmp_path):
    folder = made_runs.knowledge(tmp_path / "run")
    own, other = (
        json.loads((folder / "results.json").read_text())["arms"][arm]["accuracy"]
        for arm in ("edit_before", "base")
    )
    facts = f"{(own - other) * 4 * 2:.2f}"  # of 4 answers in half a minute
    page = _report(folder)
    assert f"2,400 tokens, 18 steps, 30 seconds, {facts} facts a minute".replace("-", "−") in (
        page.text.replace("-", "−")
    )
    assert re.search(rf"self-edit before RL .* 2,400 18 30 {facts}".replace("-", "."), page.text)
    # What an earlier process did took no time in this one.
    timing = json.loads((folder / "timing.json").read_text())
    for changed in (
        {"resumed": True},  # as older versions wrote it
        {"resumed": True, "replayed": ["eval edit_before: adapt"]},
    ):
        (folder / "timing.json").write_text(json.dumps(timing | changed))
        text = _report(folder).text
        assert "2,400 tokens, 18 steps" in text and "18 steps, 30" not in text
        assert "facts a minute" not in text
    (folder / "timing.json").write_text(json.dumps(timing | {"resumed": True, "replayed": ["x"]}))
    assert "2,400 tokens, 18 steps, 30 seconds" in _report(folder).text


def test_data_that_is_gone_and_a_run_of_nothing(tmp_path):
    folder = made_runs.knowledge(tmp_path / "run")
    (tmp_path / "run-train.json").unlink()
    (folder / "timing.json").unlink()
    page = _report(folder)
    assert "The texts of contexts are not shown, since they were not found" in page.text
    [first, *_] = page.data["contexts"]
    assert first["questions"][0][1] is None and first["text"] is None
    edit = page.data["stages"][0]["contexts"][0]["edits"][0]
    assert edit["text"] and edit["sequences"] is None and edit["trials"]
    run_dir.open_run(tmp_path / "new", {"seed": 0}).close()
    page = _report(tmp_path / "new")
    assert "Nothing is recorded yet" in page.text and page.data["stages"] == []


def test_arc_and_curate(tmp_path):
    page = _report(made_runs.few_shot(tmp_path / "arc"))
    # Neither task was solved: that is no interval from 0 to 0 (row 18).
    assert _row(page, "in-context learning", "0.0") and "[0.0, 0.0]" not in page.text
    assert _row(page, "train", "it takes 900 tokens", "1") and "few-shot learning" in page.text
    assert _row(page, "few_shot.train_tasks", "all") and "prompts.edit_format" not in page.about
    assert _row(page, "self-edits of base", "1 valid, 0 not; basic 0%, chain 0%")
    assert _row(page, "best fixed recipe", "chosen for its mean reward in training, of 0.250")
    assert (page.data["word"], page.data["whole"]) == ("task", "solved")
    [stage] = page.data["stages"]
    about = {page.data["contexts"][c["at"]]["id"]: c for c in stage["contexts"]}
    first = page.data["contexts"][0]
    assert (first["title"], first["shown"]) == (
        "task aa",
        {"demonstrations": [["01/23", "32/10"]] * 2},
    )
    assert first["tests"] == [["45", "54"]] and first["questions"] == [["test 1", None]]
    assert first["text"] is None  # the pictures show it
    [best, other, refused] = about["bb"]["edits"]
    assert (best["number"], best["reward"], other["reward"]) == (1, 1.0, 0.0)
    assert best["trials"][0]["answers"] == [[0, ["54"], True, -2.0]]
    assert best["trials"][0]["scores"] == {"solved": 1.0, "graded": 1.0}
    assert json.loads(best["head"])["training"]["learning_rate"] == 0.001
    assert refused["trials"] == [] and refused["refused"].startswith("not a recipe: ")
    assert about["aa"]["base"] == [[0, [], False, -3.0]]

    page = _report(made_runs.few_shot(tmp_path / "curated", curated=True))
    assert "curate" in page.text and _row(page, "curate", "1 of 2", "1", "9", "9")
    found = {"solved": 0.5, "graded": 0.25, "questions": 2, "failed": 0}
    results = {"tasks": {"aa": found}, "solved": [], "filter": "by hand", "recipe": "one"}
    results["left_out"] = {"too long": 3}
    run_dir.write_json(tmp_path / "curated" / "results.json", results)
    page = _report(tmp_path / "curated")
    assert "0 of 1 tasks are solved under one (by hand)" in page.text
    assert _row(page, "aa", "50.0", "0.250", "2", "0") and _row(page, "train", "too long", "3")
    [context] = page.data["contexts"]
    assert (context["id"], context["tests"]) == ("aa/0", [["01/23", "32/10"]])


def test_directives_of_passages(tmp_path):
    names = ("learning_rate", "epochs")
    folder = made_runs.knowledge(tmp_path / "run", directives=names)
    results = json.loads((folder / "results.json").read_text())
    described = {"valid": 3, "invalid": 1, "epochs": [2.0, 4.0, 4.0], "distinct": 2}
    described |= {"commonest": "{...}", "commonest_times": 2}
    results["rounds"][0]["directives"] = described
    results["directives"] = {"edits policy": {"valid": 0, "invalid": 2}}
    run_dir.write_json(folder / "results.json", results)
    page = _report(folder)
    said = "3 valid, 1 not; median epochs 4; 2 distinct"
    assert _row(page, "round 1", said, "{...}")
    assert _row(page, "self-edits of policy", "none valid of 2")
    edit = page.data["stages"][0]["contexts"][0]["edits"][0]
    assert edit["head"] == '{"learning_rate": 1e-3, "epochs": 4}'
    assert len(edit["sequences"]) == 9  # the head is no training sequence


def test_the_continual_experiment(tmp_path):
    """Two mitigations on one colour scale, the summary, and a bound."""
    matrix = [[0.3, 0.25], [0.5, None], [0.4, 0.45]]
    errors = [[0.01, 0.02], [0.03, None], [0.04, None]]
    share = {"value": 0.625, "interval": [0.5, 0.75]}
    plain = {
        "matrices": {"accuracy": {"matrix": matrix, "standard_errors": errors}},
        "summary": {
            "accuracy": {"start": 0.275, "own": 0.475, "end": 0.425, "retained_share": share}
        },
        "unrelated": {"loss": 3.5, "rise": {"value": 0.04, "interval": None}},
        "keeps_old_data": False,
    }
    flat = [[0.3, 0.3], [0.3, None], [0.3, 0.7]]
    mitigated = {
        **plain,
        "matrices": {"accuracy": {"matrix": flat, "standard_errors": errors}},
        "summary": {"accuracy": plain["summary"]["accuracy"] | {"own_gain_of_unmitigated": share}},
        "unrelated": None,
        "keeps_old_data": True,
    }
    bound = {"end": {"accuracy": 0.61}, "unrelated": None, "keeps_old_data": True}
    changes = {
        "continual": {"none": plain, "replay": mitigated},
        "bounds": {"joint": bound},
        "sequences": [["a", "b"]] * 8,
    }
    page = _report(made_runs.knowledge(tmp_path / "run", changes=changes))
    assert _row(page, "none", "27.5", "47.5", "42.5", "0.62 [0.50, 0.75]", "0.04")
    assert _row(page, "replay (keeps old data)", "27.5", "47.5", "42.5")
    assert _row(page, "bound: joint", "61.0")
    assert "8 sequences" in page.text
    shown = re.search(r"none: accuracy \(%\) passage 1 passage 2 (.*?) replay: accuracy", page.text)
    numbers = re.findall(r"after edit \d|±?\d+\.\d", shown[1])
    assert numbers == [
        "30.0", "±1.0", "25.0", "±2.0",
        "after edit 1", "50.0", "±3.0",
        "after edit 2", "40.0", "±4.0", "45.0",
    ]  # fmt: skip
    shares = [a["style"] for a in page.named("span") if "heat" in a.get("class", "")]
    # From the least, 0.25 of "none", to the largest, 0.7 of "replay".
    assert shares[1] == "--share:0.000" and shares[-1] == "--share:1.000"
    assert {"href": "#continual"} in page.named("a")


def test_a_planted_reward(tmp_path):
    planted = {"before": 0.01, "after": 0.03, "difference": 0.02, "interval": [0.01, 0.03]}
    folder = made_runs.knowledge(tmp_path / "run")
    results = json.loads((folder / "results.json").read_text())
    for key in ("arms", "pairs", "contexts", "matched_minus_mismatched"):
        del results[key]
    run_dir.write_json(folder / "results.json", results | {"planted_reward": planted})
    assert _row(_report(folder), "difference", "+0.0200", "[+0.0100, +0.0300]")
    missing = dict.fromkeys(planted) | {"before": 0.01}
    run_dir.write_json(folder / "results.json", results | {"planted_reward": missing})
    page = _report(folder)
    assert _row(page, "before RL", "0.0100") and _row(page, "difference", "–")


def test_figures_that_are_missing_leave_the_rest(tmp_path):
    folder = made_runs.knowledge(tmp_path / "run")
    results = json.loads((folder / "results.json").read_text())
    accuracy, nats = results["pairs"]
    accuracy |= {"difference": None, "interval": None}
    nats["interval"] = None
    results["matched_minus_mismatched"]["edit_before"]["interval"] = None
    results["arms"]["edit_before"]["accuracy"] = None
    for context in results["contexts"].values():
        of = context["arms"]["edit_before"]
        of["accuracy"] = [None] * len(of["accuracy"])
    run_dir.write_json(folder / "results.json", results)
    page = _report(folder)
    arm, base = "self-edit before RL", "base model"
    assert _row(page, arm, "–", "–")
    assert _row(page, f"{arm} − {base}", "accuracy", "–")
    assert _row(page, f"{arm} − {base}", "gold log-likelihood", "+0.50 nats")
    assert _row(page, arm, "+1.25", "2")


def test_the_command_and_what_it_refuses(tmp_path, capsys):
    folder = made_runs.knowledge(tmp_path / "run")
    out = tmp_path / "page.html"
    assert cli.main(["report", f"--workdir={folder}", f"--out={out}"]) == 0
    assert capsys.readouterr().out == f"written to {out}\n"
    assert cli.main(["report", f"--workdir={folder}", f"--out={out}"]) == 0  # replaces its own
    capsys.readouterr()
    kept = tmp_path / "notes.html"
    kept.write_text("<p>mine</p>")
    (tmp_path / "empty").mkdir()
    for arguments, message in (
        ([], "report needs --workdir=RUN"),
        ([f"--workdir={tmp_path}/none"], "none: there is no such directory"),
        ([f"--workdir={tmp_path}"], "holds files but no seal_jax run"),
        ([f"--workdir={folder}", f"--out={kept}"], "notes.html is there already, and is no report"),
        ([f"--workdir={folder}", f"--out={tmp_path}/empty"], "empty is a directory"),
        ([f"--workdir={folder}", f"--out={tmp_path}/no/x.html"], "there is no directory"),
    ):
        assert cli.main(["report", *arguments]) == 2
        printed = capsys.readouterr().err
        assert printed.startswith("error: ") and message in printed
    assert kept.read_text() == "<p>mine</p>"
    (folder / "results.json").write_text("{")
    with pytest.raises(results_file.DamagedError, match=r"results\.json is damaged"):
        report.write(str(folder))
