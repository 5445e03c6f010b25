"""Judges, the rubric and a teacher in whole runs, with a loopback endpoint."""

import pytest

from seal_jax.loop import train
from seal_jax.runs import ledger
from seal_jax.settings import Grading, Reward, SettingsError, Teacher
from seal_jax.settings.endpoint import EndpointSettings


def _settings(tiny_settings, change, server, **changes):
    endpoint = EndpointSettings(base_url=server.url, model="judge", attempts=1)
    judged = {"grading": Grading(kind="endpoint", endpoint=endpoint)}
    few = {"restem.rounds": 0, "evaluation.arms": ("base",)}
    return change(tiny_settings, judged | few | changes)


def _answers(workdir):
    with ledger.Ledger(workdir / "ledger", read_only=True) as records:
        return [
            answer
            for segment in records.segments("marks")
            for mark in segment.record["marks"]
            for answer in mark["answers"]
        ]


def test_what_the_judge_could_not_grade_is_apart_from_what_is_wrong(
    tiny_settings, change, endpoint_server, tmp_path, monkeypatch
):
    """The judge says yes, no, nothing useful, and drops a connection."""
    replies = iter(["Yes", "Yes", "No", "Perhaps", None])  # the first to the run's own question
    monkeypatch.setattr(endpoint_server, "script", _Script(lambda: next(replies)), raising=True)
    settings = _settings(tiny_settings, change, endpoint_server)
    results = train.train(settings, str(tmp_path), quiet=True)
    summary = results["arms"]["base"]
    assert (summary["n_answers"], summary["empty_answers"]) == (4, 0), "never blank"
    assert (summary["ungraded_answers"], summary["accuracy"]) == (2, 0.5)
    verdicts = [v for of in results["contexts"].values() for v in of["arms"]["base"]["accuracy"]]
    assert sorted(verdicts, key=str) == [0.0, 1.0, None, None]
    assert "judge" in results["grader"]
    # What wanted a judge is asked again; what a judge said that is no verdict is not.
    assert results["incomplete"].startswith("1 exams could not be graded for want of a judge")
    assert not _answers(tmp_path)
    replies = iter(["Yes", "Yes", "No", "Perhaps", "No"])
    again = train.train(settings, str(tmp_path), quiet=True)
    answers = _answers(tmp_path)
    assert sorted((a["correct"] for a in answers), key=str) == [False, False, None, True]
    [reason] = [answer["ungraded"] for answer in answers if answer["correct"] is None]
    assert "neither yes nor no" in reason and "incomplete" not in again
    summary = again["arms"]["base"]
    assert (summary["ungraded_answers"], summary["accuracy"]) == (1, pytest.approx(1 / 3))


class _Script(dict):
    """Replies to any prompt, in the order of arrival."""

    def __init__(self, make):
        self._make = make

    def get(self, prompt, default=None):
        return [self._make()]


def test_the_rubric_rewards_without_an_inner_loop_and_sees_no_question(
    tiny_settings, change, squad_file, endpoint_server, tmp_path, monkeypatch
):
    scores = iter(range(1, 100))
    monkeypatch.setattr(
        endpoint_server,
        "script",
        _Script(lambda: f"Score: {next(scores) % 5 + 1}"),
        raising=True,
    )
    settings = _settings(
        tiny_settings,
        change,
        endpoint_server,
        **{
            "data.train_path": squad_file("train", 8, canary="XYZZYQ"),
            "reward": Reward(kind="rubric", replicates=1),
            "restem.rounds": 1,
        },
    )
    results = train.train(settings, str(tmp_path), quiet=True)
    with ledger.Ledger(tmp_path / "ledger", read_only=True) as records:
        assert not records.segments("trials"), "no inner loop"
        scored = records.find("rubric", "round 1")["scores"]
        selection = records.find("selection", "round 1")
    assert selection["rewards"] == scored
    for of_context, weights in zip(scored, selection["weights"], strict=True):
        assert of_context[weights.index(1.0)] == max(of_context)
    assert results["rounds"][0]["kept"] == 2
    rubrics = [prompt for prompt in endpoint_server.prompts() if "Coverage:" in prompt]
    assert len(rubrics) == 1 + 8 and not any("XYZZYQ" in prompt for prompt in rubrics)


@pytest.mark.parametrize("kind", ["policy", "model"])
def test_a_model_in_jax_judges_answers_and_self_edits(kind, tiny_settings, change, tmp_path):
    model = tiny_settings.model.path if kind == "model" else ""
    settings = change(
        tiny_settings,
        {
            "grading": Grading(kind=kind, model=model, batch_size=4, buckets=(400, 500)),
            "reward": Reward(kind="rubric", replicates=1),
            "restem.rounds": 1,
            "evaluation.arms": ("base",),
        },
    )
    with pytest.raises(SettingsError, match=r"a first self-edit no score: .* a larger one"):
        train.train(settings, str(tmp_path / "long"), quiet=True)
    short = tmp_path / "prompts"
    short.mkdir()
    (short / "rubric.txt").write_text("{title}: {passage}\n{self_edit}\nThree scores, 1 to 5.")
    settings = change(settings, {"prompts.dir": str(short)})
    results = train.train(settings, str(tmp_path / "run"), quiet=True)
    assert results["grader"].startswith(f"model {tiny_settings.model.path}")
    assert results["rounds"][0]["without_reward"] == 0
    assert all(answer["correct"] is not None for answer in _answers(tmp_path / "run"))


def test_a_teacher_behind_an_endpoint_writes_for_the_learner(
    tiny_settings, change, endpoint_server, tmp_path
):
    endpoint = EndpointSettings(base_url=endpoint_server.url, model="teacher", attempts=1)
    settings = _settings(
        tiny_settings,
        change,
        endpoint_server,
        grading=Grading(),
        teacher=Teacher(endpoint=endpoint),
    )
    settings = change(settings, {"evaluation.arms": ("base", "teacher")})
    results = train.train(settings, str(tmp_path), quiet=True)
    assert len(endpoint_server.requests) == 2
    with ledger.Ledger(tmp_path / "ledger", read_only=True) as records:
        texts = records.find("teacher", "eval")["texts"]
    assert len(texts) == 2 and all(len(of) == 1 for of in texts.values())
    assert results["arms"]["teacher"]["trained_tokens"] > 0
