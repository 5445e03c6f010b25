"""ReST-EM learns what it is rewarded for: a planted reward rises on held-out contexts."""

import pytest

from seal_jax.loop import train
from seal_jax.settings import Reward


@pytest.fixture(scope="module")
def learn(tiny_settings, change, squad_file, tmp_path_factory):
    def run(rule):
        """Three rounds that reward the share of digits; the gain on articles never trained on."""
        settings = change(
            tiny_settings,
            {
                "reward": Reward(kind="pattern", pattern="[0-9]", replicates=1),
                "data.train_path": squad_file("train", 24),
                "data.eval_path": squad_file("eval", 8),
                "edits.samples": 32,
                "edits.max_new_tokens": 24,
                "edits.contexts_per_batch": 8,
                "restem.rounds": 3,
                "restem.contexts_per_round": 8,
                "restem.rule": rule,
                "restem.sft.learning_rate": 1e-2,
                "restem.sft.epochs": 10,
                "restem.sft.batch_size": 4,
                "evaluation.contexts": 8,
                "evaluation.edits": 32,
                "evaluation.bootstrap_draws": 2000,
            },
        )
        return train.train(settings, str(tmp_path_factory.mktemp(rule)), quiet=True)

    return run


def test_the_planted_reward_rises_under_best_of_m(learn):
    results = learn("best_of_m")
    assert results["planted_reward"]["interval"][0] > 0
    assert all(r["mean_kept_reward"] > 2 * r["mean_reward"] for r in results["rounds"])


def test_the_planted_reward_does_not_rise_under_random_selection(learn):
    assert learn("random")["planted_reward"]["interval"][0] <= 0
