"""What was tried and how it was marked are apart: a judge that fails costs no inner loop."""

import dataclasses
import json

import pytest

from seal_jax.judges import graders
from seal_jax.judges.rubric import Scored
from seal_jax.loop import answering, attempt, inner_loop, m_step, rewards, sample, train
from seal_jax.loop.run import Run
from seal_jax.loop.stage import Stage
from seal_jax.reports import records
from seal_jax.runs.ledger import Ledger
from seal_jax.settings import Reward, SettingsError
from seal_jax.tasks.protocol import Verdict


class _Judge:
    """Grades by the local rules, but for answers of which `fails` says (a reason, retry)."""

    name = "a judge"

    def __init__(self, fails=lambda answer, call: None):
        self.fails, self.calls, self.questions = fails, 0, []

    def grade(self, answers):
        self.calls += 1
        self.questions += [answer.question for answer in answers]
        plain = graders.LocalGrader().grade(answers)
        failed = [self.fails(answer, self.calls) for answer in answers]
        return [
            Verdict(correct=None, empty=False, reason=of[0], retry=of[1]) if of else verdict
            for of, verdict in zip(failed, plain, strict=True)
        ]


@pytest.fixture
def judged_by(monkeypatch):
    """(fails) -> the judge of the runs from now on."""

    def make(*fails):
        judge = _Judge(*fails)
        monkeypatch.setattr(graders, "make_grader", lambda settings, model: judge)
        return judge

    return make


@pytest.fixture
def computes_nothing():
    """(monkeypatch) -> from now on no text is sampled, no model adapted, asked or trained."""

    def forbid(patch):
        def refuse(*_, **__):
            raise AssertionError("this was done before")

        for module, name in (
            (sample, "_sample"),
            (inner_loop, "train"),
            (answering, "ask"),
            (m_step, "train"),
        ):
            patch.setattr(module, name, refuse)

    return forbid


@pytest.fixture(scope="module")
def settings(tiny_settings, change, squad_file):
    """One round; questions tell by a word which split they are of."""
    return change(
        tiny_settings,
        {
            "data.train_path": squad_file("train", 8, canary="taught"),
            "data.eval_path": squad_file("eval", 4, canary="evaluated"),
            "restem.rounds": 1,
            "evaluation.arms": ("base", "passage", "edit_after"),
        },
    )


_NO_JUDGE = ("the judge did not reply", True)


@pytest.mark.fault("S2", control=True)
def test_the_same_command_asks_the_judge_again_and_nothing_else(
    settings, judged_by, computes_nothing, tmp_path, monkeypatch
):
    judged_by()
    undisturbed = train.train(settings, str(tmp_path / "undisturbed"), quiet=True)
    assert "incomplete" not in undisturbed
    judge = judged_by(lambda answer, _: _NO_JUDGE if "evaluated number 1" in answer.query else None)
    found = train.train(settings, str(tmp_path / "run"), quiet=True)
    assert found["incomplete"].startswith("8 exams could not be graded for want of a judge")
    assert "eval passage" in found["incomplete"] and "round 1" not in found["incomplete"]
    assert list(found["arms"]) == list(undisturbed["arms"])
    for name, arm in found["arms"].items():
        assert (arm["ungraded_answers"], arm["n_answers"]) == (2, 4)
        assert arm["accuracy"] is not None
        assert arm["gold_log_likelihood"] == undisturbed["arms"][name]["gold_log_likelihood"]
    assert found["rounds"] == undisturbed["rounds"]
    judge = judged_by()
    with monkeypatch.context() as patched:
        computes_nothing(patched)
        again = train.train(settings, str(tmp_path / "run"), quiet=True)
    assert again == undisturbed
    assert judge.calls <= 1 + 4, "an arm is marked once, or not at all where another said the same"
    assert len(set(judge.questions)) == 4, "the whole exam is marked again, and nothing else"
    assert all("evaluated" in question for question in judge.questions)
    files = [(tmp_path / name / "results.json").read_bytes() for name in ("run", "undisturbed")]
    assert files[0] == files[1]


def test_a_reward_that_needs_the_judge_stops_the_run_and_continues_it_later(
    settings, change, judged_by, computes_nothing, tmp_path, monkeypatch
):
    few = change(settings, {"reward.kind": "accuracy", "evaluation.arms": ("base",)})
    judged_by()
    undisturbed = train.train(few, str(tmp_path / "undisturbed"), quiet=True)
    judged_by(lambda answer, call: _NO_JUDGE if call == 3 else None)  # the round's inner loops
    with pytest.raises(SettingsError, match="round 1: 8 exams could not be graded") as raised:
        train.train(few, str(tmp_path / "run"), quiet=True)
    assert "the same command continues the run, without an inner loop done twice" in str(
        raised.value
    )
    assert not (tmp_path / "run" / "results.json").exists()
    judged_by()
    with monkeypatch.context() as patched:
        patched.setattr(inner_loop, "train", None)
        patched.setattr(sample, "_sample", None)
        assert train.train(few, str(tmp_path / "run"), quiet=True) == undisturbed


_NO_ANSWER = ("it is no yes and no no", False)


@pytest.mark.fault("8")
def test_what_no_judge_marks_is_missing_and_said_at_the_end(
    settings, change, judged_by, tmp_path, capsys
):
    """The reward needs no verdicts: nothing is graded, and everything else is there."""
    judged_by(lambda answer, call: _NO_ANSWER)
    few = change(settings, {"restem.rule": "positive_only"})
    found = train.train(few, str(tmp_path))
    assert found["incomplete"].startswith("18 exams could not be graded for want of a judge (")
    assert found["incomplete"].count("it is no yes and no no") == 1
    for arm in found["arms"].values():
        assert (arm["accuracy"], arm["ungraded_answers"]) == (None, 4)
        assert arm["gold_log_likelihood"] < 0
    missing = [pair for pair in found["pairs"] if pair["metric"] == "accuracy"]
    assert missing and all(pair["difference"] is None for pair in missing)
    assert json.loads((tmp_path / "results.json").read_text())["arms"] == found["arms"]
    printed = capsys.readouterr().out
    assert "gave no verdict on a first answer" in printed.split("round 1")[0]
    assert "The reward does not need one, so the run goes on." in printed
    assert found["incomplete"] in printed and "ungraded" in printed
    assert "accuracy" not in records.read(tmp_path / "ledger")["eval passage"].trials[0]["scores"]
    judged_by()
    again = train.train(few, str(tmp_path), quiet=True)
    assert "incomplete" not in again and again["arms"]["base"]["accuracy"] is not None


@pytest.mark.fault("8")
@pytest.mark.parametrize("lasts, stage", [(1, "round 1"), (3, "eval base")])
def test_a_stage_without_any_verdict_stops_a_run_whose_reward_needs_them(
    lasts, stage, settings, change, judged_by, computes_nothing, tmp_path, monkeypatch
):
    """The judge replies no more from a call on; nothing of the kind is recorded."""
    few = change(settings, {"reward.kind": "accuracy", "evaluation.arms": ("base",)})
    judged_by(lambda answer, call: _NO_ANSWER if call > lasts else None)
    with pytest.raises(SettingsError, match=f"{stage}: . exams could not be .*no yes and no no"):
        train.train(few, str(tmp_path), quiet=True)
    assert not (tmp_path / "results.json").exists()
    judged_by()
    found = train.train(few, str(tmp_path), quiet=True)
    assert "incomplete" not in found and found["arms"]["base"]["ungraded_answers"] == 0


@pytest.mark.fault("8")
def test_a_judge_that_cannot_judge_is_seen_before_the_work(
    settings, change, judged_by, computes_nothing, tmp_path, monkeypatch
):
    few = change(settings, {"reward.kind": "accuracy"})
    for reason in (_NO_ANSWER, _NO_JUDGE):
        judge = judged_by(lambda answer, call, reason=reason: reason)
        with monkeypatch.context() as patched:
            computes_nothing(patched)
            with pytest.raises(SettingsError, match="no verdict on a first answer") as raised:
                train.train(few, str(tmp_path), quiet=True)
        assert reason[0] in str(raised.value) and judge.calls == 1
    assert "evaluated" in judge.questions[0], "a real question"


@pytest.mark.fault("S2")
def test_a_rubric_that_fails_is_no_record(settings, change, tmp_path, without_model):
    judged = {"grading.kind": "policy", "reward": Reward(kind="rubric", replicates=1)}
    settings = change(settings, judged)
    run = _run(without_model(settings), tmp_path)
    contexts, stage = run.session.task.contexts("eval")[:2], Stage(kind="round", round=1)
    texts = [["red", "blue"]] * 2
    scores = iter([None, 2.0, 3.0, 4.0])

    class Rubric:
        def score(self, pairs):
            return [
                Scored(score, None if score else "status 500", retry=not score)
                for score in (next(scores, 5.0) for _ in pairs)
            ]

    object.__setattr__(run.session, "rubric", Rubric())
    with pytest.raises(SettingsError, match=r"1 of 4 self-edits could not .* \(status 500\)"):
        rewards.of_texts(run, contexts, texts, stage)
    assert rewards.of_texts(run, contexts, texts, stage) == [[5.0, 5.0], [5.0, 5.0]]


@pytest.mark.fault("8")
def test_a_unit_without_a_verdict_is_kept_where_the_judge_gave_others(
    settings, judged_by, tmp_path, without_model
):
    """A judge that has no word for one answer does not keep a run from its end."""
    judge = judged_by(lambda answer, call: _NO_ANSWER if call == 1 else None)
    run = _run(dataclasses.replace(without_model(settings), grader=judge), tmp_path)
    stage = Stage(kind="round", round=1)
    marked = []
    for context in run.session.task.contexts("eval")[:2]:
        said = {"texts": {q.id: "red" for q in context.questions}, "gold_log_likelihoods": {}}
        marked += attempt.mark(run, context.id, [(context, said)], stage, settled=True)
    assert len(run.ungraded) == 1 and len(run.ledger.segments("marks")) == 1
    attempt.settle(run, stage, marked)
    assert not run.ungraded and len(run.ledger.segments("marks")) == 2
    assert judge.calls == 2


def _run(session, folder):
    return Run(session, Ledger(folder / "ledger"), folder / "checkpoints", quiet=True)
