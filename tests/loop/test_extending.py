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
from seal_jax.core import families
from seal_jax.reports import records
from seal_jax.runs import ledger
from seal_jax.settings import config_dict
from seal_jax.tasks.base import Task

ROOT = pathlib.Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "examples" / "seal_jax_rivers"
PAGE = ROOT / "docs" / "extending.md"
TASK = "--config.task=seal_jax_rivers:Rivers"
OWN = (
    TASK,
    "--config.reward.kind=seal_jax_rivers:least_known",
    "--config.restem.rule=seal_jax_rivers:gain_per_character",
)
HEADS = ('{"learning_rate": 1e-3, "epochs": 1}', '{"learning_rate": 3e-2, "epochs": 3}')
DIRECTED = {  # what is changed of the tests' tiny settings
    "restem.rounds": 1,
    "edits.max_new_tokens": 48,
    "edits.directives": ("learning_rate", "epochs"),
    "directives.min_learning_rate": 1e-3,
    "directives.max_learning_rate": 3e-2,
    "directives.max_epochs": 3,
    "directives.fixed": HEADS,
    "directives.oracle": HEADS[1],
    "evaluation.arms": (
        *("base", "edit_before", "edit_after", "random", "fixed", "oracle"),
        "edit_random",
    ),
    "continual.sequences": 2,
    "continual.passages": 2,
    "continual.bounds": ("separate",),
    "continual.unrelated": 2,
}


@pytest.fixture(scope="module", autouse=True)
def _rivers(rivers_package):
    """The example package can be imported."""


@pytest.fixture(scope="module")
def seal(tiny_settings, change, tmp_path_factory):
    """(command, workdir or None, *flags) -> exit code, under tiny settings with directives."""
    file = tmp_path_factory.mktemp("config") / "tiny.py"
    values = dataclasses.asdict(change(tiny_settings, DIRECTED))
    file.write_text(
        "import ml_collections\n"
        f"def get_config():\n    return ml_collections.ConfigDict({values!r})\n"
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
    assert seal("train", folder / "plain", TASK, f"--reuse={folder / 'own'}") == 0
    return folder


def results_of(workdir):
    return json.loads((workdir / "results.json").read_text())


def first_round(workdir):
    """The first round's records, its selection, and its trials by (context, index)."""
    of = records.read(workdir / "ledger")["round 1"]
    trials = {(trial["context"], trial["index"]): trial for trial in of.trials}
    return of, of.others["selection"][0], trials


def test_a_run_on_the_example_domain_is_about_its_contexts(runs):
    results = results_of(runs / "own")
    assert set(results["arms"]) == {
        *("base", "random", "fixed", "oracle", "edit_before", "policy", "edit_after"),
        *("policy_random", "edit_random"),
    }
    names = {"river Bellow", "river Iskar Ford", "river Mirrin", "river Yarrant"}
    assert len(results["contexts"]) == 2 and set(results["contexts"]) < names
    assert results["differs_from_paper_split"] == "invented rivers, which no paper has"
    assert results["config"]["task"] == "seal_jax_rivers:Rivers"
    assert results["words"] == {"context": "river", "question": "question"}
    of, _, trials = first_round(runs / "own")
    assert {context for context, _ in trials} == set(of.answers) and len(trials) == 8
    assert all(context.startswith("river ") for context in of.answers)


def test_its_reward_and_rule_are_what_the_ledger_records(runs):
    """By hand: the least gold log-likelihood, and the gains' shares per character."""
    of, selection, trials = first_round(runs / "own")
    rewarded = np.array(
        [
            [min(a["gold_log_likelihood"] for a in trials[context, m]["answers"]) for m in range(4)]
            for context in selection["contexts"]
        ]
    )
    np.testing.assert_array_equal(selection["rewards"], rewarded)
    lengths = {(edit["context"], edit["index"]): len(edit["text"]) for edit in of.edits}
    for row, context, weights in zip(
        rewarded, selection["contexts"], selection["weights"], strict=True
    ):
        before = min(answer["gold_log_likelihood"] for answer in of.answers[context]["answers"])
        shares = [max(r - before, 0) / lengths[context, m] for m, r in enumerate(row)]
        assert sum(shares) > 0, "nothing gained, so the weights say nothing"
        np.testing.assert_allclose(weights, np.divide(shares, sum(shares)), rtol=1e-6)


def test_the_packages_own_reward_differs_on_the_same_self_edits(runs):
    of_own, own, _ = first_round(runs / "own")
    of_plain, plain, trials = first_round(runs / "plain")
    assert of_own.edits == of_plain.edits
    mean = [a["gold_log_likelihood"] for a in trials[own["contexts"][0], 0]["answers"]]
    assert plain["rewards"][0][0] == pytest.approx(np.mean(mean))
    assert plain["rewards"][0][0] > own["rewards"][0][0]
    assert sorted(set(np.ravel(plain["weights"]))) == [0.0, 1.0]


def test_self_edits_say_how_they_are_learned(runs):
    """Each head is within the limits, and its inner loop takes the steps that it asks for."""
    of, _, trials = first_round(runs / "own")
    heads = set()
    for edit in of.edits:
        trial = trials[edit["context"], edit["index"]]
        assert edit["text"].startswith(f"{trial['head']}\n")
        said = json.loads(trial["head"])
        assert trial["steps"] == said["epochs"] * trial["sequences"]
        assert 1e-3 <= said["learning_rate"] <= 3e-2
        heads.add(trial["head"])
    assert len(heads) > 1
    results = results_of(runs / "own")
    assert results["rounds"][0]["directives"]["valid"] == 8
    assert results["directives"]["oracle"]["commonest"] == HEADS[1]
    assert results["best_fixed"]["fixed"]["head"] in HEADS
    assert results["directives"]["fixed"]["distinct"] == 1


def test_three_wordings_are_asked_and_the_commonest_answer_counts(runs):
    of, _, _ = first_round(runs / "own")
    [record] = of.others["answers"]
    assert len(record["of"]) == 2
    for said in record["of"]:
        assert len(said["texts"]) == 6 and len(said["gold_log_likelihoods"]) == 2
        for answer in of.answers[said["context"]]["answers"]:
            texts = [said["texts"][f"{answer['question']}/{n}"] for n in range(3)]
            assert answer["votes"] == {text: texts.count(text) for text in texts}
            assert answer["text"] == max(texts, key=texts.count)


def test_its_own_score_stands_beside_the_accuracy(runs):
    results = results_of(runs / "own")
    assert [(m["name"], m["per"]) for m in results["metrics"]] == [
        ("accuracy", "question"),
        ("whole_sheet", "context"),
        ("gold_log_likelihood", "question"),
    ]
    for context in results["contexts"].values():
        for arm in context["arms"].values():
            assert len(arm["accuracy"]) == 2 and len(arm["whole_sheet"]) == 1
            assert arm["whole_sheet"][0] == float(arm["accuracy"] == [1.0, 1.0])
    assert {pair["metric"] for pair in results["pairs"]} == {m["name"] for m in results["metrics"]}


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


def test_evaluate_repeats_the_evaluation_and_has_the_other_sources(runs, seal, tmp_path):
    """The arms of the training run but the control's, and those of contexts and of a teacher."""
    policy = f"--policy_from={runs / 'own'}"
    expected = results_of(runs / "own")
    completions = tmp_path / "teacher.jsonl"
    completions.write_text(
        "".join(
            json.dumps({"context": context, "completion": "It is long. It is cold."}) + "\n"
            for context in expected["contexts"]
        )
    )
    kept = [a for a in DIRECTED["evaluation.arms"] if a != "edit_random"]
    arms = [*kept, "edit_random", "passage", "passage_steps", "teacher"]
    flags = (f"--config.evaluation.arms={tuple(arms)}", f"--config.teacher.file={completions}")
    assert seal("evaluate", tmp_path / "run", *OWN, *flags, policy) == 0
    found = results_of(tmp_path / "run")["arms"]
    assert set(found) == {*kept, "policy", "passage", "passage_steps", "teacher"}
    said = results_of(tmp_path / "run")["directives"]
    assert "edits base" in said and not {"passage", "teacher"} & set(said), "they have no heads"
    for name in kept:
        assert found[name] == expected["arms"][name], name
    # Two sentences and the sheet; and as many steps as the base's own self-edit takes.
    of = records.read(tmp_path / "run" / "ledger")
    taught = of["eval teacher"].trials
    assert [(trial["sequences"], trial["head"]) for trial in taught] == [(3, "")] * 2
    steps = {t["context"]: t["steps"] for t in of["eval edit_before"].trials}
    assert {t["context"]: t["steps"] for t in of["eval passage_steps"].trials} == steps


def test_a_continued_run_keeps_to_the_weights_that_are_recorded(runs, seal, tmp_path, monkeypatch):
    import seal_jax_rivers

    shutil.copytree(runs / "own", tmp_path / "run")
    (tmp_path / "run" / "results.json").unlink()
    monkeypatch.setattr(seal_jax_rivers, "gain_per_character", lambda rewards, *_: 0 * rewards)
    assert seal("train", tmp_path / "run", *OWN) == 0
    found = (tmp_path / "run" / "results.json").read_bytes()
    assert found == (runs / "own" / "results.json").read_bytes()


def test_rivers_are_learned_one_after_another(runs, seal, tmp_path):
    """Continual self-edits, each under its own directives, from the trained policy."""
    assert seal("continual", tmp_path, TASK, f"--policy_from={runs / 'plain'}") == 0
    results = results_of(tmp_path)
    assert all(id.startswith("river ") for of in results["sequences"] for id in of)
    assert set(results["continual"]["none"]["summary"]) == {
        *("accuracy", "whole_sheet", "gold_log_likelihood"),
    }
    of = records.read(tmp_path / "ledger")["continual none"]
    updates = [update for record in of.others["learned"] for update in record["updates"]]
    assert len(updates) == 4 and results["continual"]["none"]["failed_updates"] == 0
    for update in updates:
        assert update["steps"] == json.loads(update["head"])["epochs"] * update["sequences"]


def test_a_domain_without_gold_texts_is_measured_by_its_verdicts(
    runs, seal, tmp_path, monkeypatch, capsys
):
    """Nothing is scored by likelihood: a reward, the arms and the reports do without."""
    import seal_jax_rivers

    plain = seal_jax_rivers.Rivers.exam

    def exam(self, context, view):
        return dataclasses.replace(plain(self, context, view), scored=())

    monkeypatch.setattr(seal_jax_rivers.Rivers, "exam", exam)
    flags = ("--config.reward.kind=accuracy", "--config.evaluation.arms=('base', 'edit_after')")
    assert seal("train", tmp_path, TASK, *flags) == 0
    results = results_of(tmp_path)
    assert results["rounds"][0]["without_reward"] == 0
    for arm in results["arms"].values():
        assert arm["n_answers"] == 4 and arm["ungraded_answers"] == 0
        assert arm["accuracy"] is not None and arm["gold_log_likelihood"] is None
    assert results["matched_minus_mismatched"] == {"edit_after": None}
    assert cli.main(["analyze", str(tmp_path), "--draws=20"]) == 0
    assert "accuracy" in capsys.readouterr().out


def test_many_rivers_are_learned_in_one_delta(runs, seal, tmp_path):
    """The form "corpus": sentences of each self-edit, and each sheet once."""
    flags = (
        "--config.evaluation.form=corpus",
        "--config.evaluation.arms=('base', 'prompt', 'passage', 'passage_steps', 'edit_before')",
        "--config.edits.directives=()",
        "--config.answers.prompt_buckets=(256,)",
        "--config.corpus.buckets=(128,)",
        "--config.corpus.epochs=1",
        "--config.corpus.lora.rank=2",
    )
    assert seal("evaluate", tmp_path, TASK, *flags) == 0
    arms = results_of(tmp_path)["arms"]
    assert arms["passage"]["sequences"] == 2
    assert arms["passage_steps"]["sequences"] == arms["edit_before"]["sequences"] > 2
    edits = records.read(tmp_path / "ledger")["eval edits base"].edits
    from seal_jax_rivers import _SENTENCE_END

    said = [
        part for e in edits for part in _SENTENCE_END.split(e["text"]) if re.search(r"\w", part)
    ]
    assert arms["edit_before"]["sequences"] == len(said) + 2


def test_directives_of_several_rivers_are_not_learned_together(seal, tmp_path, capsys):
    flags = (TASK, "--config.continual.bounds=('joint',)")
    assert seal("continual", tmp_path, *flags) == 2
    assert (
        "continual.bounds: 'joint' learns the self-edits of several contexts"
        in capsys.readouterr().err
    )


@pytest.mark.slow
def test_adapt_learns_a_text_as_the_domain_does(seal, tmp_path, monkeypatch, capsys):
    import seal_jax_rivers

    learned, plain = [], seal_jax_rivers.Rivers.context_sequences

    def context_sequences(self, context):
        if context.title == "river Lune":
            learned.extend(plain(self, context))
        return plain(self, context)

    monkeypatch.setattr(seal_jax_rivers.Rivers, "context_sequences", context_sequences)
    text = tmp_path / "text.txt"
    text.write_text("rises: Hob Moss")
    flags = (
        f"--passage={text}",
        "--title=river Lune",
        "--question=Where does it rise?",
        "--noedit",
    )
    assert seal("adapt", None, TASK, *flags) == 0
    said = capsys.readouterr().out
    assert re.search("^question +before +after +reading$", said, re.M)
    assert set(learned) == {"river Lune\nrises: Hob Moss"}


def test_compare_and_analyze_read_its_runs(runs, capsys):
    assert cli.main(["compare", str(runs / "plain"), str(runs / "own"), "--draws=200"]) == 0
    printed = capsys.readouterr().out
    assert "restem.rule" in printed and "seal_jax_rivers:gain_per_character" in printed
    assert "2 rivers" in printed and "whole sheet" in printed
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


def test_plan_counts_in_its_contexts(seal, tmp_path):
    """One group of 8 inner loops; its models and the plain one are asked 6 prompts, 2 at once."""
    file = tmp_path / "plan.json"
    assert seal("plan", None, TASK, f"--json={file}") == 0
    planned = json.loads(file.read_text())
    calls = {program["name"]: program["calls"] for program in planned["programs"]}
    assert (calls["inner update"], calls["answers"], calls["log-likelihoods"]) == (1, 6, 2)
    assert any("10 training sequences" in note for note in planned["notes"])


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
    assert len(blocks) == 6 and all("assert" in block for block in blocks)
    names = {}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)


def test_the_page_is_true_of_the_code():
    """It shows a row of FAMILIES as it stands, names all of Task, and links to what there is."""
    text = PAGE.read_text(encoding="utf-8")
    [row] = re.findall(r"```text\n(.*?)```", text, flags=re.DOTALL)
    assert row in pathlib.Path(families.__file__).read_text(encoding="utf-8")
    members = [name for name in vars(Task) if not name.startswith("_")]
    assert len(members) > 30
    assert [name for name in members if not re.search(rf"`{name}[`(]", text)] == []
    for link in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (PAGE.parent / link).exists(), link
    for key in re.findall(r"`((?:\w+\.)+\w+)`", text):
        if not key.endswith((".json", ".md")):
            assert key in config_dict.all_keys(), key


def test_too_few_contexts_name_the_task_and_not_a_file(seal, tmp_path, capsys):
    assert seal("train", tmp_path, TASK, "--config.restem.contexts_per_round=9") == 2
    error = capsys.readouterr().err
    assert "add contexts to task=seal_jax_rivers:Rivers" in error and "train_path" not in error


@pytest.mark.parametrize("value", ["nonsense", "a b:c", "module:", ":name", "a:b:c", "a.:b"])
def test_another_reward_is_refused_with_those_of_the_task(value, seal, tmp_path, capsys):
    assert seal("train", tmp_path, TASK, f"--config.reward.kind={value}") == 2
    error = capsys.readouterr().err
    assert f"reward.kind={value!r} is none of task=seal_jax_rivers:Rivers" in error
    assert "one of accuracy, whole_sheet, gold_log_likelihood, mix," in error
    assert "or module:function" in error


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("directives.fixed", "()", "the arm 'fixed' chooses among some heads: give directives.f"),
        ("directives.fixed", "('{}',)", "directives.fixed has '{}': the first line must be an ob"),
        ("directives.oracle", "", "directives.oracle has '': the first line is not JSON"),
    ],
)
def test_heads_that_cannot_be_followed_are_refused_before_the_run(
    key, value, message, seal, tmp_path, capsys
):
    assert seal("train", tmp_path, TASK, f"--config.{key}={value}") == 2
    assert message in capsys.readouterr().err
    assert not list((tmp_path / "ledger").glob("[0-9]*.json"))


def test_tuning_needs_development_contexts(seal, tmp_path, capsys):
    flags = [TASK, "--config.tuning.learning_rates=(1e-3,)", "--config.tuning.epochs=(1,)"]
    assert seal("train", tmp_path, *flags) == 2
    assert "which the self-edits of this run say themselves" in capsys.readouterr().err
    flags += ["--config.edits.directives=()", "--config.evaluation.arms=('base', 'passage')"]
    assert seal("train", tmp_path, *flags) == 2
    assert "there are 0 development contexts" in capsys.readouterr().err


def test_a_task_that_writes_nothing_says_so_by_its_name(seal, tmp_path, monkeypatch, capsys):
    import seal_jax_rivers

    monkeypatch.setattr(seal_jax_rivers.Rivers, "writes", False)
    flags = (TASK, "--config.evaluation.arms=('base', 'passage')")
    assert seal("train", tmp_path, *flags) == 2
    error = capsys.readouterr().err
    assert "task=seal_jax_rivers:Rivers has no self-edit: set restem.rounds to 0" in error
