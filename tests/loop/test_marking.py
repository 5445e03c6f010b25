"""What was tried and how it was marked are apart: a judge that fails costs no inner loop."""

import json

import pytest

from seal_jax.judges import graders
from seal_jax.loop import answering, inner_loop, m_step, sample, train
from seal_jax.reports import records
from seal_jax.settings import SettingsError
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
    assert judge.calls <= 4, "an arm is marked once, or not at all where another said the same"
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
    judged_by(lambda answer, call: _NO_JUDGE if call == 2 else None)  # the round's inner loops
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


def test_what_no_judge_ever_marks_is_missing_and_breaks_nothing(
    settings, change, judged_by, tmp_path, capsys
):
    """Of the round only the adapted models' answers are graded, of the evaluation nothing."""
    judged_by(lambda answer, call: None if call == 2 else ("it is no yes and no no", False))
    few = change(settings, {"reward.kind": "accuracy", "restem.rule": "positive_only"})
    found = train.train(few, str(tmp_path))
    [summary] = found["rounds"]
    assert (summary["mean_unadapted"], summary["kept"]) == (None, 0)
    assert summary["mean_reward"] is not None
    assert "incomplete" not in found, "to ask again would help nobody"
    for arm in found["arms"].values():
        assert (arm["accuracy"], arm["ungraded_answers"]) == (None, 4)
        assert arm["gold_log_likelihood"] < 0
    missing = [pair for pair in found["pairs"] if pair["metric"] == "accuracy"]
    assert missing and all(pair["difference"] is None for pair in missing)
    assert json.loads((tmp_path / "results.json").read_text())["arms"] == found["arms"]
    printed = capsys.readouterr().out
    assert "M-step is skipped" in printed and "ungraded" in printed
    stages = records.read(tmp_path / "ledger")
    assert all(t["scores"]["accuracy"] is not None for t in stages["round 1"].trials)
    assert all(t["scores"]["accuracy"] is None for t in stages["eval passage"].trials)


def test_a_round_without_any_verdict_has_no_reward(settings, change, judged_by, tmp_path, capsys):
    judged_by(lambda answer, call: ("it is no yes and no no", False))
    few = change(settings, {"reward.kind": "accuracy", "evaluation.arms": ("base",)})
    [summary] = train.train(few, str(tmp_path))["rounds"]
    assert (summary["without_reward"], summary["kept"]) == (8, 0)
    assert (summary["mean_reward"], summary["mean_unadapted"]) == (None, None)
    assert "round 1: no self-edit has a reward" in capsys.readouterr().out
