"""A reward without gold answers: agreement with the base model that reads the passage."""

import html
import json

import numpy as np
import pytest

from seal_jax.loop import rewards, train
from seal_jax.loop import sample as sampling
from seal_jax.loop.sample import Edit
from seal_jax.reports import analyze, words
from seal_jax.reports.html import report
from seal_jax.runs import ledger
from seal_jax.settings import Reward, SettingsError
from seal_jax.tasks import registry
from seal_jax.tasks.base import Task
from seal_jax.tasks.knowledge import gaps
from seal_jax.tasks.protocol import Context, Question

LABEL = "agreement with the reading model on {} questions {}; not a measure of knowledge"


@pytest.fixture(scope="module")
def settings(tiny_settings, change):
    """One round, with the arm that self-distils token by token; questions by rule in training."""
    return change(
        tiny_settings,
        {
            "reward.kind": "agreement",
            "reward.questions": "rule",
            "inner.loss": "distillation",
            "restem.rounds": 1,
            "evaluation.arms": ("base", "self_distillation", "edit_before", "edit_after"),
        },
    )


@pytest.fixture(scope="module")
def writer():
    """The base model writes one question about each passage, of the form that is asked for."""
    plain = sampling.sample
    from seal_jax.loop import sources

    def write(run, policy, prompts, *, stage, **how):
        found = plain(run, policy, prompts, stage=stage, **how)
        if stage.what != "distilled_questions":
            return found
        return [[Edit(**{**vars(one), "text": "Question 1: How many mills?"}) for one in of]
                for of in found]  # fmt: skip

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources, "sample", write)
        yield


@pytest.fixture(scope="module")
def finished(settings, writer, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "finished"
    return workdir, train.train(settings, str(workdir), quiet=True)


def _records(workdir, kind):
    with ledger.Ledger(workdir / "ledger", read_only=True) as records:
        return {one.key: one.record for one in records.segments(kind)}


def test_a_reward_is_the_likelihood_of_what_the_reader_answers(finished, settings):
    workdir, results = finished
    [summary] = results["rounds"]
    read = _records(workdir, "questions")["train read"]["of"]
    asked = _records(workdir, "questions")["train"]["of"]
    task = registry.open_task(settings)
    contexts = {context.id: context for context in task.contexts("train")}
    answers = _records(workdir, "answers")
    said = {
        id: text.strip()
        for key, record in answers.items()
        if key.startswith("train prompt/")
        for of in record["of"]
        for id, text in of["texts"].items()
    }
    for id in summary["contexts"]:
        made = gaps.gaps(contexts[id].text, 2, contexts[id].title)
        assert [of[1:] for of in asked[id]] == [list(gap) for gap in made]  # of the passage alone
        assert read[id] == [[q, text, said[q]] for q, text, _ in asked[id] if said[q]]
    # The mean over the context's questions, of the trial with the self-edit's number.
    [selection] = _records(workdir, "selection").values()
    trials = [
        trial
        for key, record in _records(workdir, "trials").items()
        if key.startswith("round 1/")
        for trial in record["trials"]
    ]
    assert len(trials) == 8
    for trial in trials:
        earned = selection["rewards"][selection["contexts"].index(trial["context"])]
        known = trial["gold_log_likelihoods"]
        assert list(known) == [q for q, _, _ in read[trial["context"]]]
        assert earned[trial["index"]] == pytest.approx(np.mean(list(known.values())))
    assert summary["mean_reward"] < 0 and summary["without_reward"] == 0


def test_it_is_labelled_and_in_no_headline(finished, settings, capsys, tmp_path, change):
    workdir, results = finished
    [summary] = results["rounds"]
    read = _records(workdir, "questions")["train read"]["of"]
    count = sum(len(read[id]) for id in summary["contexts"])
    label = LABEL.format(count, "made by rule")
    assert summary["reward"] == label
    page = html.unescape(report.write(str(workdir), str(tmp_path / "report.html")).read_text())
    assert "agreement with the reading model, not knowledge" in page
    assert "(said the reading model)" in page
    for stage in analyze.analyze(str(workdir), draws=20)["stages"]:
        assert any("reading model" in note for note in stage["notes"])
    # Held-out contexts are asked their own gold questions: no paragraph and no metric has it.
    assert [metric["name"] for metric in results["metrics"]] == ["accuracy", "gold_log_likelihood"]
    stored = json.loads((workdir / "results.json").read_text())
    assert not any("agreement" in of for of in words.of_results(stored))
    arm = results["arms"]["self_distillation"]
    assert arm["label"] == "self-distillation" and arm["trained_tokens"] > 0
    assert "questions written by" not in results["grader"]
    train.train(settings, str(tmp_path / "again"), reuse=(str(workdir),))
    assert f"round 1: the reward is {label}" in capsys.readouterr().out


@pytest.mark.parametrize("appends", [1, 2, 3, 5, 12, 14])
def test_a_stopped_run_ends_with_the_same_results(
    appends, finished, settings, tmp_path, monkeypatch
):
    workdir, _ = finished
    plain, count = ledger.Ledger.append, iter(range(1000))

    def append(self, *arguments):
        if next(count) >= appends:
            raise KeyboardInterrupt
        return plain(self, *arguments)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(ledger.Ledger, "append", append)
        train.train(settings, str(tmp_path), quiet=True)
    train.train(settings, str(tmp_path), quiet=True)
    assert (tmp_path / "results.json").read_bytes() == (workdir / "results.json").read_bytes()


@pytest.mark.parametrize("shuffled", [False, True])
def test_a_planted_self_edit_is_kept_unless_answers_are_shuffled(
    shuffled, settings, change, tmp_path, monkeypatch
):
    """The third self-edit teaches "violet"; the reader answers it, or "slate" by a shuffle."""
    from seal_jax.loop import questions
    from seal_jax.loop import sample as sample_lib

    plain_sample, plain_answer = sample_lib.sample, questions.attempt.answer
    texts = ["slate slate slate", "mill mill mill", "violet violet violet", "red red red"]

    def write(run, policy, prompts, *, stage, **how):
        found = plain_sample(run, policy, prompts, stage=stage, **how)
        if stage.kind != "round":
            return found
        return [[Edit(**{**vars(one), "text": texts[m]}) for m, one in enumerate(of)]
                for of in found]  # fmt: skip

    def answer(run, policy, contexts, *, stage, **how):
        found = plain_answer(run, policy, contexts, stage=stage, **how)
        if stage.split == "train":
            for of in found.values():
                for one in of["answers"]:
                    one["text"] = "slate slate" if shuffled else "violet violet"
        return found

    monkeypatch.setattr(sample_lib, "sample", write)
    monkeypatch.setattr(questions.attempt, "answer", answer)
    settings = change(settings, {"evaluation.arms": ("base",)})
    train.train(settings, str(tmp_path), quiet=True)
    [selection] = _records(tmp_path, "selection").values()
    best = [int(np.argmax(earned)) for earned in selection["rewards"]]
    assert best == [0 if shuffled else 2] * 2


def test_questions_that_a_weak_model_cannot_write_are_refused(settings, change, tmp_path):
    settings = change(settings, {"reward.questions": "policy"})
    with pytest.raises(
        SettingsError, match=r"the policy wrote no question.*reward.questions='rule"
    ):
        train.train(settings, str(tmp_path), quiet=True)


def test_what_cannot_be_is_refused(settings):
    with pytest.raises(ValueError, match="questions is for the reward 'agreement'"):
        Reward(kind="accuracy", questions="rule")
    # Only of a task that can have questions asked.
    kinds = [rewards.kinds(of) for of in (registry.open_task(settings), Task(settings))]
    assert [rewards.AGREEMENT in of for of in kinds] == [True, False]


def test_the_label_says_whose_questions_they_are():
    contexts = [Context("a", "A", "", (Question("1", "?", "x"),) * 3), Context("b", "B", "")]
    own = rewards.labelled(Reward(kind="agreement"), contexts)
    assert own == LABEL.format(3, "that the model wrote itself")
    assert rewards.labelled(Reward(kind="accuracy"), contexts) == ""
