"""Each update of the M-step learns a planted reward, and nothing where the reward is shuffled."""

import numpy as np
import pytest

from benchmarks import noisy_rewards


@pytest.mark.parametrize("update", noisy_rewards.UPDATES)
def test_a_planted_reward_is_learned_and_a_shuffled_one_is_not(update):
    """Four rounds of 8 prompts with 8 texts each; a quarter of the tokens is rewarded at first."""
    start, *learned = noisy_rewards.learn(update, 1.0, 7, 3e-2, 2)
    assert 0.2 < start < 0.3
    assert learned[-1] > start + 0.1 and learned[-1] == max(learned)
    _, *shuffled = noisy_rewards.learn(update, 1.0, 7, 3e-2, 2, shuffled=True)
    assert max(np.abs(np.array(shuffled) - start)) < 0.05
