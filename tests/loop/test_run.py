"""What a run shares between its stages, and what it shows of them."""

import types

import pytest

from seal_jax.core import batching
from seal_jax.judges.graders import LocalGrader
from seal_jax.loop import attempt, inner_loop
from seal_jax.loop.run import Run
from seal_jax.loop.session import EncodedLesson
from seal_jax.loop.stage import Stage
from seal_jax.runs.ledger import Ledger
from seal_jax.settings import Reward


@pytest.fixture
def run(without_model, tiny_settings, change, tmp_path):
    """(changes of the settings) -> a run without a model, one candidate at once."""
    opened = []

    def make(changes):
        session = without_model(change(tiny_settings, {"inner.candidates": 1, **changes}))
        opened.append(Ledger(tmp_path / "ledger"))
        return Run(session, opened[0], tmp_path / "checkpoints", quiet=False)

    yield make
    for records in opened:
        records.close()


def test_a_run_keeps_the_last_thing_asked_for_by_identity(run):
    kept = run({})
    made = []

    def make():
        made.append(len(made))
        return made[-1]

    first, second = [1], [2]
    assert [kept.keep_one((first,), make) for _ in range(2)] == [0, 0]
    assert kept.keep_one((first, second), make) == 1
    assert kept.keep_one((first,), make) == 2, "one thing is kept, not two"
    assert kept.keep_one(([1],), make) == 3, "an equal object is another one"
    assert made == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "kind, shown",
    [("accuracy", "reward 0.5"), ("gold_log_likelihood", "reward -3"), ("length", "")],
)
def test_the_reward_so_far_is_shown(run, monkeypatch, capsys, kind, shown):
    """Of two adapted models; the first answers both of its questions, at -2 nats each."""
    tokens = batching.TokenCounts(real=1, computed=1)
    monkeypatch.setattr(
        inner_loop, "train", lambda *_, **__: types.SimpleNamespace(tokens=tokens, results_K=None)
    )

    def examine(session, params, piece, *_):
        [one] = piece
        questions = one.context.questions
        return [
            {
                **one.describe(),
                "reason": None,
                "texts": {q.id: "wrong" if one.index else q.answer for q in questions},
                "gold_log_likelihoods": {q.id: -2.0 * (one.index + 1) for q in questions},
            }
        ]

    monkeypatch.setattr(attempt, "_examine", examine)
    making = run({"reward": Reward(kind=kind, replicates=1)})
    # One self-edit sampled twice: each has a record of its own.
    lesson = EncodedLesson(sequences=((1, 2, 3),), loss_masks=(None,), learning_rate=1.0, epochs=1)
    context = making.session.task.contexts("eval")[0]
    tried = [
        attempt.Candidate(context=context, index=i, replicate=0, lesson=lesson) for i in (0, 1)
    ]
    policy = types.SimpleNamespace(digest=(), params=None)
    attempt.attempt(making, policy, tried, stage=Stage(kind="round", round=1), width=8)
    (line,) = [x for x in capsys.readouterr().err.splitlines() if "round 1: adapt: 2/2" in x]
    assert line.endswith(shown) and ("reward" in line) == bool(shown)


def test_the_same_answers_are_marked_once(run, monkeypatch):
    """Also after the ledger has sorted their keys."""
    asked, plain = [], LocalGrader.grade
    monkeypatch.setattr(
        LocalGrader, "grade", lambda self, of: (asked.append(len(of)), plain(self, of))[1]
    )
    making = run({})
    context, stage = making.session.task.contexts("eval")[0], Stage(kind="round", round=1)
    first, second = (question.id for question in context.questions)
    for key, ids in (("one", (first, second)), ("other", (second, first))):
        said = {"texts": dict.fromkeys(ids, "red"), "gold_log_likelihoods": {first: -1, second: -3}}
        [found] = attempt.mark(making, key, [(context, said)], stage)
        assert [answer["question"] for answer in found["answers"]] == [first, second]
        assert found["scores"] == {"accuracy": 0.0, "gold_log_likelihood": -2.0}
    assert asked == [2]
    assert [s.key for s in making.ledger.segments("marks")] == ["one", "other"]
