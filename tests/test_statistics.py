"""Bootstrap intervals: hand-computed differences, invariants, and how often they cover the
truth."""

import math

import numpy as np
import pytest

from seal_jax import statistics
from seal_jax.statistics import Interval, paired_bootstrap, paired_cluster_bootstrap


def test_difference_of_means_and_of_pooled_means():
    # a: (1 + 0 + 0.5) / 3 = 0.5; b: (0.5 + 0 + 0.25) / 3 = 0.25
    assert paired_bootstrap([1, 0, 0.5], [0.5, 0, 0.25], seed=0).difference == 0.25
    # a: 3 right of 6 questions; b: 1 of 6. The mean of the contexts' means would differ (0.25).
    a, b = [[1, 1], [0, 0, 1, 0]], [[1, 0], [0, 0, 0, 0]]
    pooled = paired_cluster_bootstrap(a, b, seed=0)
    assert pooled.difference == pytest.approx(2 / 6, abs=1e-15)
    weighted = paired_bootstrap([1, 0.25], [0.5, 0], [2, 4], seed=0)
    assert weighted == pooled


def test_quantiles_are_widened_as_t_asks():
    # 12 contexts: t(0.975, 11) = 2.200985, times sqrt(12 / 11) = 2.298841, normal tail 0.010757
    assert statistics._tail(12, 0.95) == pytest.approx(0.010757, abs=2e-6)
    # 200 contexts: t(0.975, 199) = 1.971957, times sqrt(200 / 199) = 1.976905, normal tail 0.024026
    assert statistics._tail(200, 0.95) == pytest.approx(0.024026, abs=2e-6)


def test_the_resamples_of_two_contexts():
    # Differences 0 and 1: resamples have mean 0, 0.5, 1 with probability 1/4, 1/2, 1/4. At two
    # contexts the quantiles are the extremes.
    assert paired_bootstrap([0, 1], [0, 0], seed=0) == Interval(0.5, 0.0, 1.0)
    # With weights 3 and 1 the ends stay and the centre moves: 1 / 4.
    assert paired_bootstrap([0, 1], [0, 0], [3, 1], seed=0) == Interval(0.25, 0.0, 1.0)
    means = np.concatenate([i.mean(axis=1) for i in statistics._resamples(2, 20_000, seed=1)])
    assert np.mean(means == 0.5) == pytest.approx(0.5, abs=0.015)
    assert np.mean(means == 1.0) == pytest.approx(0.25, abs=0.015)


def _arms(seed, contexts=30):
    generator = np.random.default_rng(seed)
    return generator.normal(0.3, 1, contexts), generator.normal(0, 1, contexts)


def test_a_context_effect_that_both_arms_share_changes_nothing():
    a, b = _arms(0)
    shared = np.random.default_rng(1).normal(0, 100, len(a))
    together, apart = (
        paired_bootstrap(a + shared, b + shared, seed=0),
        paired_bootstrap(a, b, seed=0),
    )
    np.testing.assert_allclose(together, apart, rtol=0, atol=1e-11)


def test_swapping_the_arms_mirrors_the_interval():
    a, b = _arms(0)
    one, other = paired_bootstrap(a, b, seed=0), paired_bootstrap(b, a, seed=0)
    np.testing.assert_allclose(other, [-one.difference, -one.high, -one.low], rtol=0, atol=1e-12)


def test_the_scale_of_the_weights_does_not_matter():
    a, b = _arms(0)
    weights = np.arange(1, 31)
    one, other = (paired_bootstrap(a, b, w, seed=0) for w in (weights, weights * 4))
    assert one == other
    assert one != paired_bootstrap(a, b, seed=0)


def test_the_same_seed_repeats_in_blocks_of_any_size(monkeypatch):
    a, b = _arms(0)
    first = paired_bootstrap(a, b, seed=3, draws=1000)
    assert paired_bootstrap(a, b, seed=4, draws=1000) != first
    monkeypatch.setattr(statistics, "_CELLS", 30 * 7)
    assert paired_bootstrap(a, b, seed=3, draws=1000) == first


def test_width_agrees_with_the_normal_theory():
    a, b = _arms(5, contexts=400)
    interval = paired_bootstrap(a, b, seed=0)
    width = 2 * 1.96 * np.std(a - b, ddof=1) / np.sqrt(400)
    assert interval.high - interval.low == pytest.approx(width, rel=0.03)
    narrower = paired_bootstrap(a, b, seed=0, level=0.5)
    assert narrower.high - narrower.low == pytest.approx(width * 0.6745 / 1.96, rel=0.04)


def test_equal_differences_have_no_width():
    interval = paired_bootstrap(np.full(12, 0.75), np.full(12, 0.25), seed=0)
    assert interval == Interval(0.5, 0.5, 0.5)
    assert interval.excludes_zero


@pytest.mark.parametrize(
    ("low", "high", "excludes"), [(0.1, 0.2, 1), (-0.2, -0.1, 1), (0.0, 0.1, 0)]
)
def test_excluding_zero(low, high, excludes):
    assert Interval(0.1, low, high).excludes_zero == bool(excludes)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1.0], [1.0]), "needs 2 or more"),
        (([1, 2], [1, 2, 3]), "values_a has 2 contexts, values_b 3 and weights 2"),
        (([1, np.nan], [1, 2]), "values_a: expected one finite number.*1 not finite"),
        (([1, 2], [1, 2], [1, 0]), "leave out contexts of weight 0"),
        (([[1, 2]], [1, 2]), r"got shape \(1, 2\)"),
    ],
)
def test_bad_values_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        paired_bootstrap(*arguments, seed=0)


@pytest.mark.parametrize("b", [[[1], [1, 0, 1]], [[1], [1, 0], [1]], [[1], []]])
def test_contexts_that_do_not_match_are_refused(b):
    a = [[1], []] if b[1] == [] else [[1], [1, 0]]
    with pytest.raises(ValueError, match="same contexts with the same questions"):
        paired_cluster_bootstrap(a, b, seed=0)


def _questions(contexts, generator):
    """Two arms whose contexts differ in difficulty; 4 or 5 questions each; their true
    difference."""
    difficulty = generator.beta(2, 2, contexts)
    sizes = generator.integers(4, 6, contexts)
    a = [generator.binomial(1, 0.2 + 0.8 * p, n) for p, n in zip(difficulty, sizes, strict=True)]
    b = [generator.binomial(1, 0.8 * p, n) for p, n in zip(difficulty, sizes, strict=True)]
    return a, b, 0.2


def _coverage(contexts, runs, draws, seed):
    generator = np.random.default_rng(seed)
    covered = 0
    for run in range(runs):
        a, b, truth = _questions(contexts, generator)
        interval = paired_cluster_bootstrap(a, b, seed=run, draws=draws)
        covered += interval.low <= truth <= interval.high
    return covered / runs


@pytest.mark.parametrize(("contexts", "runs", "draws"), [(12, 2000, 600), (200, 800, 400)])
def test_intervals_cover_the_truth_as_often_as_they_say(contexts, runs, draws):
    assert 0.93 <= _coverage(contexts, runs, draws, seed=0) <= 0.97


def test_plain_percentile_intervals_would_not_cover(monkeypatch):
    monkeypatch.setattr(statistics, "_tail", lambda contexts, level: (1 - level) / 2)
    assert _coverage(12, 1000, 600, seed=0) < 0.93


def test_bootstrap_of_any_statistic():
    """The mean's interval is the paired bootstrap's; NaN resamples are left out if they are few."""
    values = np.random.default_rng(0).normal(size=30)
    found = statistics.bootstrap(lambda chosen: values[chosen].mean(axis=1), 30, seed=1, draws=500)
    assert found == pytest.approx(paired_bootstrap(values, np.zeros(30), seed=1, draws=500))

    def undefined(share):
        def statistic(chosen):
            means = values[chosen].mean(axis=1)
            means[1 : 1 + int(share * len(means))] = np.nan
            return means

        return statistics.bootstrap(statistic, 30, seed=1, draws=500)

    few, many = undefined(0.05), undefined(0.2)
    assert few.low < few.value == many.value < few.high
    assert math.isnan(many.low) and math.isnan(many.high)
    alone = statistics.bootstrap(lambda chosen: values[chosen].mean(axis=1), 1, seed=1)
    assert alone.value == values[0] and math.isnan(alone.low)
    assert math.isnan(statistics.bootstrap(lambda chosen: chosen, 0, seed=1).value)
