"""A whole run whose M-steps follow advantages, with heads under a grammar, on two devices."""

import json

import numpy as np
import pytest

from seal_jax.core import policy_gradient, restem
from seal_jax.loop import m_step, train
from seal_jax.runs.ledger import Ledger


@pytest.fixture(scope="module")
def ran(tiny_settings, change, tmp_path_factory):
    """(workdir, results, examples of each M-step by stage) of a run of RLOO with a control."""
    workdir, trained = tmp_path_factory.mktemp("run"), {}
    settings = change(
        tiny_settings,
        {
            "edits.directives": ("epochs",),
            "edits.max_new_tokens": 24,
            "restem.rounds": 1,
            "restem.update": "rloo",
            "restem.kl": 0.1,
            "restem.sft.batch_size": 3,
            "restem.sft.microbatch": 2,
            "evaluation.arms": ("base", "edit_after", "edit_random"),
        },
    )
    plain = m_step.m_step

    def watched(run, policy, examples, *, stage):
        trained[stage.line] = examples
        return plain(run, policy, examples, stage=stage)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "m_step", watched)
        results = train.train(settings, str(workdir), quiet=True)
    return workdir, results, trained


def _records(workdir, kind):
    with Ledger(workdir / "ledger", read_only=True) as records:
        found = [segment.record for segment in records.segments(kind)]
    return {record["stage"].get("line", ""): record for record in found}


def test_every_rewarded_self_edit_is_learned_by_its_advantage(ran):
    workdir, results, trained = ran
    selected = _records(workdir, "selection")
    rewards = np.array(selected[""]["rewards"], float)
    expected = policy_gradient.advantages(rewards, "rloo")
    np.testing.assert_array_equal(np.float32(selected[""]["weights"]), expected)
    assert (expected > 0).any() and (expected < 0).any()
    weights = [one.weight for one in trained[""]]
    assert weights == [weight for row in selected[""]["weights"] for weight in row if weight]
    assert all(one.scope == "head" and one.allowed for one in trained[""])
    assert results["rounds"][0]["kept"] == len(weights)


def test_the_control_knows_no_reward(ran):
    """1 to 4, dealt out by chance, of which RLOO makes these: 4/3 of the distance from the mean."""
    control = _records(ran[0], "selection")["random"]
    assert all(reward is None for row in control["rewards"] for reward in row)
    for row in control["weights"]:
        np.testing.assert_allclose(sorted(row), [-2, -2 / 3, 2 / 3, 2], rtol=1e-6)
    assert control["weights"][0] != sorted(control["weights"][0])


def test_each_step_is_recorded_and_measured(ran):
    workdir, _, trained = ran
    for line, record in _records(workdir, "policy").items():
        first, *others = record["steps"]
        # Two epochs of batches of three.
        assert 1 + len(others) == 2 * -(-len(trained[line]) // 3)
        assert (first["ratio"], first["kl"], first["clip_fraction"]) == (1, 0, 0)
        assert all(step["kl"] > 0 for step in others)
        assert set(first) == {"loss", "grad_norm", "learning_rate", "ratio", "kl", "clip_fraction"}
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    measured = [line["M-step/kl"] for line in lines if "M-step/clip fraction" in line]
    assert measured == [step["kl"] for step in _records(workdir, "policy")[""]["steps"]]


def test_a_pair_of_the_best_and_the_worst_is_one_step(tiny_settings, change):
    """DPO's batches hold whole pairs, in one order of pairs an epoch."""
    recipe = change(tiny_settings, {"restem.sft.batch_size": 2}).restem.sft
    examples = [restem.SftExample((i, i), 1, (-1.0) ** i) for i in range(1, 9)]

    class Opened:
        settings = tiny_settings

        class devices:
            data_shards = 2

    stage = train.Stage(kind="round", round=1)
    found = list(m_step._epoch(Opened, examples, recipe, stage, 0, 2))
    assert [batch.weights_B.tolist() for _, batch in found] == [[-1, 1, -1, 1]] * 2
    pairs = [place.reshape(-1, 2) for place, _ in found]
    assert sorted(np.concatenate(pairs)[:, 0]) == [0, 2, 4, 6]
    assert all((of[:, 1] == of[:, 0] + 1).all() for of in pairs)
    for places, batch in found:
        np.testing.assert_array_equal(batch.tokens_BxT[:, 0], places + 1)
