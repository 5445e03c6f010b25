"""The E-step's rules: which self-edits of a context are kept, and with what weight."""

import math

import numpy as np
import pytest

from seal_jax.core import restem
from seal_jax.core.restem import SelectionRule

NAN = math.nan


@pytest.mark.parametrize(
    ("rule", "rewards", "weights"),
    [
        # Ties: the first.
        (SelectionRule("best_of_m"), [[0.2, 0.6, 0.6], [0.5, 0.5, 0.5]], [[0, 1, 0], [1, 0, 0]]),
        # A self-edit without a reward is never the best, also where the others are negative.
        (SelectionRule("best_of_m"), [[NAN, -2.0, -3.0], [NAN, NAN, 0.0]], [[0, 1, 0], [0, 0, 1]]),
        (SelectionRule("best_of_m"), [[NAN, NAN, NAN], [0.0, 0.1, 0.0]], [[0, 0, 0], [0, 1, 0]]),
        # `k` is of "top_k" only.
        (SelectionRule("best_of_m", k=2), [[0.1, 0.2, 0.3]], [[0, 0, 1]]),
        (SelectionRule("top_k", k=2), [[0.1, 0.3, 0.3], [0.3, 0.3, 0.3]], [[0, 1, 1], [1, 1, 0]]),
        (SelectionRule("top_k", k=2), [[NAN, 0.1, NAN], [NAN, NAN, NAN]], [[0, 1, 0], [0, 0, 0]]),
        (SelectionRule("top_k", k=5), [[0.1, NAN, 0.3]], [[1, 0, 1]]),
        (SelectionRule("all"), [[0.0, NAN, -1.0], [NAN, NAN, NAN]], [[1, 0, 1], [0, 0, 0]]),
    ],
)
def test_select(rule, rewards, weights):
    found = restem.select(np.array(rewards), rule)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, weights)


@pytest.mark.parametrize(
    ("threshold", "weights"),
    [
        # Gains: 0, 0.25, NaN; and 0.5, -0.5, 0.75. A gain equal to the threshold is not enough.
        (0.0, [[0, 1, 0], [1, 0, 1]]),
        (0.25, [[0, 0, 0], [1, 0, 1]]),
        (0.5, [[0, 0, 0], [0, 0, 1]]),
        (-1.0, [[1, 1, 0], [1, 1, 1]]),
    ],
)
def test_threshold_compares_with_the_context_without_an_edit(threshold, weights):
    rewards = [[0.25, 0.5, NAN], [1.0, 0.0, 1.25]]
    rule = SelectionRule("threshold", threshold=threshold)
    found = restem.select(rewards, rule, baselines_C=[0.25, 0.5])
    np.testing.assert_array_equal(found, weights)


@pytest.mark.parametrize("name", ["threshold", "positive_only"])
def test_gains_need_baselines(name):
    with pytest.raises(ValueError, match=f"'{name}' needs baselines_C"):
        restem.select([[0.5]], SelectionRule(name))


def test_positive_only_keeps_what_beats_the_unadapted_model():
    rewards = [[0.25, 0.5, NAN, 0.125], [-3.0, -2.0, -2.5, NAN], [0.5, 0.0, 0.0, 0.0]]
    # `threshold` is not of this rule; nothing beats a baseline that is not known.
    rule = SelectionRule("positive_only", threshold=10.0)
    found = restem.select(rewards, rule, baselines_C=[0.25, -2.5, NAN])
    np.testing.assert_array_equal(found, [[0, 1, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]])
    own = [[0.0, 0.5, 0.0, 0.25], [-4.0, -1.0, NAN, 0.0], [0.25, 0.0, 0.0, -1.0]]
    found = restem.select(rewards, rule, baselines_C=own)
    np.testing.assert_array_equal(found, [[1, 0, 0, 0], [1, 0, 0, 0], [1, 0, 0, 1]])


def test_equal_accuracies_stay_equal_through_rounding():
    """The means of one set of accuracies, added up in two orders."""
    less, more = (0.6 + 0.4 + 0.2) / 3, (0.2 + 0.4 + 0.6) / 3
    assert less < more
    rule = SelectionRule("best_of_m")
    np.testing.assert_array_equal(restem.select([[less, more]], rule), [[1, 0]])
    rule = SelectionRule("positive_only")
    np.testing.assert_array_equal(restem.select([[more]], rule, baselines_C=[less]), [[0]])
    np.testing.assert_array_equal(
        restem.select([[0.8]], SelectionRule("threshold", threshold=0.2), baselines_C=[0.6]), [[0]]
    )


def test_longest_does_not_look_at_the_reward():
    rewards = [[0.9, 0.1, NAN], [0.2, 0.3, 0.1]]
    lengths = [[3, 7, 9], [5, 4, 5]]
    found = restem.select(rewards, SelectionRule("longest"), lengths_CxM=lengths)
    np.testing.assert_array_equal(found, [[0, 1, 0], [1, 0, 0]])
    with pytest.raises(ValueError, match="'longest' needs lengths_CxM"):
        restem.select(rewards, SelectionRule("longest"))


def test_weighted_is_a_softmax_within_the_context():
    rule = SelectionRule("weighted", temperature=0.5)
    rewards = [[0.0, 0.5 * math.log(3), NAN], [NAN, NAN, NAN], [-900.0, -900.0, -2000.0]]
    found = restem.select(rewards, rule)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, [[0.25, 0.75, 0], [0, 0, 0], [0.5, 0.5, 0]], atol=1e-7)


def test_random_selection_does_not_look_at_the_reward():
    rule = SelectionRule("random")
    rewards = np.random.default_rng(0).random((400, 4))
    rewards[:, 3] = NAN
    rewards[0] = NAN
    found = restem.select(rewards, rule, seed=3)
    np.testing.assert_array_equal(found.sum(axis=1), [0] + [1] * 399)
    np.testing.assert_array_equal(restem.select(-rewards, rule, seed=3), found)
    assert not np.array_equal(restem.select(rewards, rule, seed=4), found)
    # 133 of each are expected; four deviations of a binomial are 38.
    assert (np.abs(found.sum(axis=0) - [133, 133, 133, 0]) < 38).all()
    best = restem.select(rewards, SelectionRule("best_of_m"))
    assert 0.2 < (found * best).sum() / 399 < 0.47  # it meets the best by chance: 1/3


@pytest.mark.fault("13")
def test_what_is_drawn_of_a_context_is_its_own():
    """Whatever other contexts there are, and however many more self-edits it has."""
    rule, names = SelectionRule("random"), [f"c{i}" for i in range(30)]
    rewards = np.zeros((30, 4))
    found = restem.select(rewards, rule, seed=3, names_C=names)
    kept = np.array([0, 3, 4, 17, 29])
    some = restem.select(rewards[kept], rule, seed=3, names_C=[names[i] for i in kept])
    np.testing.assert_array_equal(some, found[kept])
    backwards = restem.select(rewards, rule, seed=3, names_C=names[::-1])
    np.testing.assert_array_equal(backwards, found[::-1])
    # Of more self-edits another may be drawn, but only one of those that came to them.
    more = restem.select(np.zeros((30, 6)), rule, seed=3, names_C=names)
    same = (more[:, :4] == found).all(axis=1)
    assert 10 < same.sum() < 30 and (more[~same, 4:].sum(axis=1) == 1).all()
    without = restem.select(
        np.pad(rewards, [(0, 0), (0, 2)], constant_values=NAN), rule, seed=3, names_C=names
    )
    np.testing.assert_array_equal(without[:, :4], found)


@pytest.mark.fault("10", control=True)
@pytest.mark.parametrize("shift", [-3.0, 0.5, 40.0])
def test_shares_follow_differences_of_rewards_alone(shift):
    rewards = np.random.default_rng(0).normal(size=(5, 4))
    rewards[1, 2] = NAN
    rule = SelectionRule("weighted", temperature=0.3)
    found = restem.select(rewards + shift, rule)
    np.testing.assert_allclose(found, restem.select(rewards, rule), rtol=1e-5)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(name="best"), "one of best_of_m, top_k, .*, longest, all, not 'best'"),
        (dict(name="top_k", k=0), "k must be at least 1, not 0"),
        (dict(name="threshold", threshold=NAN), "threshold must be a finite number, not nan"),
        (dict(name="weighted", temperature=0.0), "temperature must be a finite number above 0"),
    ],
)
def test_impossible_rules(fields, message):
    with pytest.raises(ValueError, match=message):
        SelectionRule(**fields)


def test_a_self_edit_without_reward_never_displaces_one_with_the_lowest():
    rewards_CxM = np.array([[np.nan, -np.inf], [np.nan, -1.0]])
    kept = restem.select(rewards_CxM, restem.SelectionRule("best_of_m"))
    np.testing.assert_array_equal(kept, [[0, 1], [0, 1]])
