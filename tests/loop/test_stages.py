"""What a run shares between its stages, and what it shows of them."""

import dataclasses
import types

import pytest

from seal_jax.loop import stages
from seal_jax.loop.run import Run
from seal_jax.runs.ledger import Ledger
from seal_jax.settings import Inner, Reward, Settings


def test_a_run_keeps_the_last_thing_asked_for_by_identity(tmp_path):
    run = Run(None, None, tmp_path / "checkpoints", quiet=True)
    made = []

    def make():
        made.append(len(made))
        return made[-1]

    first, second = [1], [2]
    assert [run.keep_one((first,), make) for _ in range(2)] == [0, 0]
    assert run.keep_one((first, second), make) == 1
    assert run.keep_one((first,), make) == 2, "one thing is kept, not two"
    assert run.keep_one(([1],), make) == 3, "an equal object is another one"
    assert made == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "kind, shown",
    [("accuracy", "reward 0.5"), ("gold_log_likelihood", "reward -3"), ("length", "")],
)
def test_the_reward_so_far_is_shown(tmp_path, monkeypatch, capsys, kind, shown):
    settings = dataclasses.replace(
        Settings(), inner=Inner(candidates=1), reward=Reward(kind=kind, replicates=1)
    )
    answers = [
        {
            "answers": [{"correct": i == 1, "gold_log_likelihood": -2.0 * i, "empty": False}],
            "reason": None,
            "dropped_tokens": 0,
            "dropped_sequences": 0,
        }
        for i in (1, 2)
    ]
    monkeypatch.setattr(
        stages.trials,
        "try_group",
        lambda session, params, members, **_: {
            "trials": [answers[members[0].number]],
            "real_tokens": 1,
            "computed_tokens": 1,
        },
    )
    candidates = [types.SimpleNamespace(number=i, lengths=(3,), replicate=0) for i in (0, 1)]
    session = types.SimpleNamespace(settings=settings)
    with (
        Ledger(tmp_path / "ledger") as records,
        Run(session, records, tmp_path / "checkpoints", quiet=False) as run,
    ):
        stages.try_all(run, None, candidates, stage="round 1", width=8)
    (line,) = [x for x in capsys.readouterr().err.splitlines() if "round 1: adapt: 2/2" in x]
    assert line.endswith(shown) and ("reward" in line) == bool(shown)
