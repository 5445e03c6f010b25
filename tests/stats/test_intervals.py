"""Means and bootstrap intervals: hand-computed figures, invariants, missing values, and how often
intervals cover the truth."""

import fractions
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from benchmarks import coverage
from seal_jax.stats import intervals
from seal_jax.stats.intervals import Estimate, paired_bootstrap, paired_bootstraps


def grouped(values):
    """One question a context."""
    return [[value] for value in values]


def of_means(values_a, values_b, sizes=None, **named):
    """The interval where each context has one value for all of its questions, one or `sizes`."""
    sizes = [1] * len(values_a) if sizes is None else sizes
    a, b = (
        [[value] * n for value, n in zip(of, sizes, strict=True)] for of in (values_a, values_b)
    )
    return paired_bootstrap(a, b, **named)


def family_of(pairs, **named):
    """Intervals of several pairs of arms."""
    return paired_bootstraps([([a], [b]) for a, b in pairs], **named)


def nested_bootstrap(runs_a, runs_b, articles, **named):
    """The interval of one comparison over seeds."""
    return paired_bootstraps([(runs_a, runs_b)], articles, **named).single[0]


_VALUES = st.none() | st.just(math.nan) | st.booleans() | st.floats(-1e6, 1e6)


@given(st.lists(_VALUES))
def test_a_mean_is_of_what_is_there(values):
    there = [v for v in values if v is not None and v == v]
    found = intervals.mean(iter(values))
    if not there:
        assert found is None
    else:
        assert type(found) is float
        assert found == pytest.approx(math.fsum(there) / len(there), rel=1e-9, abs=1e-6)
        # However much is missing, and wherever.
        assert intervals.mean([None, *there, math.nan]) == intervals.mean(there)


def test_a_mean_by_hand():
    assert intervals.mean([True, None, False, math.nan, 0.25]) == 1.25 / 3
    assert intervals.mean(np.array([[1.0, np.nan], [3.0, np.nan]]).flat) == 2
    assert intervals.mean([]) is intervals.mean([None, math.nan]) is None


@st.composite
def _two_arms(draw):
    sizes = draw(st.lists(st.integers(0, 3), max_size=5))
    value = st.none() | st.just(math.nan) | st.integers(-3, 3)  # whose sums are exact
    return [[draw(st.lists(value, min_size=n, max_size=n)) for n in sizes] for _ in range(2)]


@given(_two_arms())
@settings(max_examples=300, deadline=None)
def test_paired_differences_with_missing_parts(arms):
    second, first = arms
    found = intervals.paired(second, first, seed=3, draws=50)
    # What is missing on one side might as well be missing on the other.
    pairs = [
        [
            (s, f) if None not in (s, f) and s == s and f == f else None
            for s, f in zip(*of, strict=True)
        ]
        for of in zip(second, first, strict=True)
    ]
    there = [pair for of in pairs for pair in of if pair]
    assert set(found) == {"difference", "interval"}
    if not there:
        assert found == {"difference": None, "interval": None}
        return
    assert found["difference"] == pytest.approx(sum(s - f for s, f in there) / len(there))
    means = {
        fractions.Fraction(sum(s - f for s, f in of), len(of))
        for of in ([pair for pair in of if pair] for of in pairs)
        if of
    }
    if sum(any(of) for of in pairs) < 2 or len(means) < 2:
        assert found["interval"] is None
        return
    low, high = found["interval"]
    assert low <= found["difference"] <= high
    # A context's missing questions are as if they had not been asked.
    left = [[[pair[side] for pair in of if pair] for of in pairs] for side in range(2)]
    assert intervals.paired(*left, seed=3, draws=50) == found
    assert paired_bootstrap(second, first, seed=3, draws=50) == (
        found["difference"],
        low,
        high,
    )


def test_difference_of_means_and_of_pooled_means():
    # a: (1 + 0 + 0.5) / 3 = 0.5; b: (0.5 + 0 + 0.25) / 3 = 0.25
    assert of_means([1, 0, 0.5], [0.5, 0, 0.25], seed=0).value == 0.25
    # a: 3 right of 6 questions; b: 1 of 6. The mean of the contexts' means would differ (0.25).
    a, b = [[1, 1], [0, 0, 1, 0]], [[1, 0], [0, 0, 0, 0]]
    pooled = paired_bootstrap(a, b, seed=0)
    assert pooled.value == pytest.approx(2 / 6, abs=1e-15)
    weighted = of_means([1, 0.25], [0.5, 0], [2, 4], seed=0)
    np.testing.assert_allclose(weighted, pooled, rtol=0, atol=1e-12)


def test_the_resamples_of_three_contexts_by_hand():
    # Differences 0, 0, 3: mean 1, residuals -1, -1, 2, standard error sqrt(3 / 2 * 6) / 3 = 1.
    # Resamples by the number of threes: none (8 of 27) has mean 0 and no spread, so a third of the
    # error counts: t = -3; one (12 of 27) t = 0; two (6 of 27) mean 2 and the same error: t = 1;
    # three (1 of 27): mean 3, t = 6.
    found = intervals._over_contexts(np.array([0.0, 0, 3]), np.ones(3), seed=0, draws=20_000)
    assert (found.difference, found.error, found.freedom) == (1.0, 1.0, 2)
    values, counts = np.unique(found.t_draws.round(9), return_counts=True)
    np.testing.assert_allclose(values, [-3, 0, 1, 6], rtol=0, atol=1e-9)
    np.testing.assert_allclose(counts / 20_000, np.array([8, 12, 6, 1]) / 27, rtol=0, atol=0.01)
    # 1 in 27 is more than the 2.5 % of a tail, so the lower end is 6 errors away. The other
    # quantile is -3, and Student's t with 2 degrees of freedom, 4.3027, counts instead.
    interval = of_means([0, 0, 3], [0, 0, 0], seed=0, draws=20_000)
    np.testing.assert_allclose(interval, [1, 1 - 6, 1 + 4.302653], rtol=0, atol=1e-6)
    # The lower quantile of a mere 80 % interval is -3, past Student's 1.8856; the upper is 1.
    narrower = of_means([0, 0, 3], [0, 0, 0], seed=0, draws=20_000, level=0.8)
    np.testing.assert_allclose(narrower, [1, 1 - 1.885618, 1 + 3], rtol=0, atol=1e-6)


def test_contexts_weigh_as_many_questions_as_they_have():
    # Differences 0 and 1 of 3 questions and 1: mean 1/4, residuals -3/4 and 3/4, standard error
    # sqrt(2 / 1 * 2 * 9 / 16) / 4 = 3/8. Student's t with 1 degree of freedom: 12.7062.
    interval = of_means([0, 1], [0, 0], [3, 1], seed=0)
    half = 12.706205 * 3 / 8
    np.testing.assert_allclose(interval, [0.25, 0.25 - half, 0.25 + half], rtol=0, atol=1e-5)


def test_ungraded_answers_are_left_out_pairwise():
    a = [[1, None, 1], [math.nan, 0], [1], [0, 1]]
    b = [[0, 1, 1], [1, 1], [None], [0, 0]]
    left = paired_bootstrap(a, b, seed=0, draws=500)
    # Without the third context, which has no question left.
    assert left.value == pytest.approx((1 + 0 - 1 + 0 + 1) / 5)
    kept = intervals._over_contexts(
        np.array([0.5, -1, 0, 0.5]), np.array([2.0, 1, 0, 2]), seed=0, draws=500
    )
    assert left == kept.interval(0.95)
    assert kept.freedom == 2
    # The same by contexts: what is missing there is left out as well.
    means_a, means_b = [1.0, 0, None, 0.5], [0.5, 1, 1, 0]
    assert of_means(means_a, means_b, [2, 1, 1, 2], seed=0, draws=500) == left


def test_too_few_contexts_have_no_interval():
    assert paired_bootstrap([[1, 1], [None]], [[0, 1], [1]], seed=0) == (0.5, None, None)
    assert of_means([1.0], [0.25], seed=0) == (0.75, None, None)
    assert of_means([1.0, math.nan], [0.25, 1], seed=0) == (0.75, None, None)
    nothing = Estimate(None, None, None)
    assert paired_bootstrap([[1], [None]], [[None], [1]], seed=0) == nothing
    assert paired_bootstrap([], [], seed=0) == nothing
    assert paired_bootstrap([[], []], [[], []], seed=0) == nothing
    assert of_means([], [], seed=0) == nothing
    assert nothing.ends is None


def _arms(seed, contexts=30):
    generator = np.random.default_rng(seed)
    return generator.normal(0.3, 1, contexts), generator.normal(0, 1, contexts)


def test_a_context_effect_that_both_arms_share_changes_nothing():
    a, b = _arms(0)
    shared = np.random.default_rng(1).normal(0, 100, len(a))
    together, apart = (
        of_means(a + shared, b + shared, seed=0),
        of_means(a, b, seed=0),
    )
    np.testing.assert_allclose(together, apart, rtol=0, atol=1e-11)


def test_swapping_the_arms_mirrors_the_interval():
    a, b = _arms(0)
    one, other = of_means(a, b, seed=0), of_means(b, a, seed=0)
    np.testing.assert_allclose(other, [-one.value, -one.high, -one.low], rtol=0, atol=1e-12)


def test_the_scale_of_the_numbers_of_questions_does_not_matter():
    a, b = _arms(0)
    sizes = np.arange(1, 31)
    one, other = (of_means(a, b, of, seed=0) for of in (sizes, sizes * 4))
    np.testing.assert_allclose(one, other, rtol=0, atol=1e-12)
    assert one != of_means(a, b, seed=0)


def test_the_same_seed_repeats_in_blocks_of_any_size(monkeypatch):
    a, b = _arms(0)
    first = of_means(a, b, seed=3, draws=1000)
    assert of_means(a, b, seed=4, draws=1000) != first
    monkeypatch.setattr(intervals, "_CELLS", 30 * 7)
    assert of_means(a, b, seed=3, draws=1000) == first


def test_width_agrees_with_the_normal_theory():
    a, b = _arms(5, contexts=400)
    interval = of_means(a, b, seed=0)
    width = 2 * 1.96 * np.std(a - b, ddof=1) / np.sqrt(400)
    assert interval.high - interval.low == pytest.approx(width, rel=0.03)
    narrower = of_means(a, b, seed=0, level=0.5)
    assert narrower.high - narrower.low == pytest.approx(width * 0.6745 / 1.96, rel=0.04)


@pytest.mark.parametrize("contexts", [4, 12])
def test_what_is_detectable_is_found_four_times_in_five(contexts):
    # Of contexts whose differences have a standard deviation of 2.
    z = np.arange(contexts) - (contexts - 1) / 2
    spread = 2 * z / z.std(ddof=1)
    least = intervals.detectable(spread[:, None].tolist(), [[7.0]] * contexts)
    drawn = np.random.default_rng(0).normal(least, 2, (20_000, contexts))
    found = stats.ttest_1samp(drawn, 0, axis=1).pvalue < 0.05
    assert found.mean() == pytest.approx(0.8, abs=0.01)


def test_what_is_detectable_by_hand():
    # Tables of Student's t at 0.975 and 0.8 for 11 degrees of freedom: 2.201 and 0.876, of which
    # the sum is the usual approximation; a standard error of 1 / sqrt(12).
    values = [[1.0], [-1.0]] * 6
    error = math.sqrt(12 / 11) / math.sqrt(12)
    found = intervals.detectable(values, [[0.0]] * 12)
    assert found == pytest.approx((2.201 + 0.876) * error, rel=0.005)
    thirty = [[30 * value] for [value] in values]
    assert intervals.detectable(thirty, [[0.0]] * 12) == pytest.approx(30 * found)


@pytest.mark.parametrize("values", [[], [[1.0]], [[1.0], [None]], [[1.0], [1.0]]])
def test_without_an_interval_nothing_says_what_is_detectable(values):
    assert intervals.detectable(values, [[0.0] for _ in values]) is None


@pytest.mark.fault("18")
@pytest.mark.parametrize("contexts", [2, 12])
@pytest.mark.parametrize(("a", "b"), [(0.75, 0.25), (0.3, 0.1), (-500.1, -500.2), (0.5, 0.5)])
def test_equal_differences_have_no_interval(a, b, contexts):
    """0.3 - 0.1 and the like are not the same in every context but for their last bits."""
    values_a = np.full(contexts, a) + np.where(np.arange(contexts) % 2, 1.0, 0.0)
    values_b = np.full(contexts, b) + np.where(np.arange(contexts) % 2, 1.0, 0.0)
    found = of_means(values_a, values_b, seed=0, draws=50)
    assert found.value == pytest.approx(a - b)
    assert found.ends is None
    json = intervals.paired(grouped(values_a), grouped(values_b), seed=0, draws=50)
    assert json == {"difference": found.value, "interval": None}


@pytest.mark.fault("18", control=True)
def test_differences_that_vary_a_little_have_an_interval():
    low, high = of_means([0.5, 0.5, 0.501], [0, 0, 0], seed=0, draws=50).ends
    assert low < 0.5 < high


@pytest.mark.fault("18")
@pytest.mark.parametrize("paired", [False, True])
@pytest.mark.parametrize("gain", [0.0, 0.1, 1 / 3])
def test_equal_differences_over_seeds_have_no_interval(gain, paired):
    own = [[0.3, 0.7, 0.1], [0.3, 0.7, 0.1]]  # of the contexts, in both seeds
    runs = [[[[value + of] for value in run] for run in own] for of in (gain, 0.0)]
    found = nested_bootstrap(*runs, "xyz", paired=paired, seed=0, draws=50)
    assert found.value == pytest.approx(gain)
    assert found.ends is None
    if not paired:  # where seeds differ there is something to tell
        runs[0][1] = [[value + 1 for value in of] for of in runs[0][1]]
        assert nested_bootstrap(*runs, "xyz", paired=False, seed=0, draws=50).ends


@pytest.mark.fault("18")
@pytest.mark.parametrize("value", [1.0, 0.1 + 0.2, -2.5, 0.0])
def test_a_statistic_that_no_resample_changes_has_no_interval(value):
    values = value * (1 + np.array([0, 1e-15, 0, 0, 0]))
    found = intervals.bootstrap(lambda chosen: values[chosen].mean(axis=1), 5, seed=0, draws=50)
    assert found.value == pytest.approx(value) and found.ends is None


@pytest.mark.parametrize("b", [[[1], [1, 0, 1]], [[1], [1, 0], [1]], [[1], []]])
def test_contexts_that_do_not_match_are_refused(b):
    a = [[1], [1, 0]]
    with pytest.raises(ValueError, match="same contexts with the same questions"):
        paired_bootstrap(a, b, seed=0)


def test_infinite_values_are_refused():
    with pytest.raises(ValueError, match="a value is infinite"):
        paired_bootstrap([[1], [math.inf]], [[1], [1]], seed=0)


def test_comparisons_that_say_the_same_cost_nothing():
    a, b = map(grouped, _arms(0))
    family = family_of([(a, b), (b, a), (a, b)], seed=0, draws=2000)
    assert family.corrected_level == pytest.approx(0.95, abs=0.002)
    assert family.single[0] == paired_bootstrap(a, b, seed=0, draws=2000)


def test_unrelated_comparisons_cost_what_chance_asks():
    generator = np.random.default_rng(0)
    pairs = [[grouped(arm) for arm in generator.normal(0, 1, (2, 400))] for _ in range(5)]
    family = family_of(pairs, seed=0, draws=20_000)
    # Five independent intervals hold at once with the probability of one to the fifth power.
    assert family.corrected_level == pytest.approx(0.95 ** (1 / 5), abs=0.001)
    for single, corrected in zip(family.single, family.corrected, strict=True):
        # Normal quantiles of the two levels: 2.5688 and 1.9600.
        ratio = (corrected.high - corrected.low) / (single.high - single.low)
        assert ratio == pytest.approx(2.5688 / 1.9600, rel=0.04)


def test_correction_is_never_worse_than_bonferronis():
    # Differences 0, 0, 0, 1 at another place for each comparison: a resample in one's tail is in no
    # other's.
    pairs = [(grouped(row), grouped([0] * 4)) for row in np.eye(4)]
    family = family_of(pairs, seed=0, draws=2000, level=0.6)
    assert 0.6 < family.corrected_level <= 1 - 0.4 / 4 + 1e-3


@pytest.mark.fault("18")
def test_a_comparison_that_never_varies_leaves_the_level():
    varied, constant = grouped([0, 0, 3]), grouped([1, 1, 1])
    family = family_of([(varied, constant), (constant, constant)], seed=0, draws=99)
    assert family.corrected_level == 0.95
    assert family.single[1] == family.corrected[1] == Estimate(0, None, None)


def test_a_comparison_without_an_interval_leaves_the_others_as_they_are():
    a, b = (grouped(arm) for arm in np.random.default_rng(0).normal(0, 1, (2, 12)))
    few = [[1.0]] + [[None]] * 11
    family = family_of([(few, b), (a, b), (b, few), (b, a[::-1])], seed=0, draws=99)
    assert family.single[0][1:] == family.corrected[0][1:] == (None, None)
    assert family.single[0].value == -family.single[2].value == 1 - b[0][0]
    others = family_of([(a, b), (b, a[::-1])], seed=0, draws=99)
    assert family.corrected[1::2] == others.corrected
    assert family.corrected_level == others.corrected_level > 0.95


def _runs(gains, contexts=4, questions=2):
    """Runs in which every question of context c has the value gains[run][c]."""
    return [[[gain] * questions for gain in run] for run in gains]


def test_nested_standard_error_by_hand():
    # Two seeds, two articles of two passages, one difference a passage (2 questions each):
    # seed 0: 0 2 | 4 6, seed 1: 2 4 | 6 8; mean 4.
    # Seeds: means 3 and 5, variance 2, over 2 seeds: 1.
    # Articles: means over seeds 2 and 6; residual sums (2 - 4) / 2 = -1 and 1: 2 / 1 * 2 = 4.
    gains = [[0, 2, 4, 6], [2, 4, 6, 8]]
    article_P = np.array([0, 0, 1, 1])
    sums = np.array(gains, dtype=float) * 2
    found = intervals._over_levels([sums], np.full(4, 2.0), article_P, seed=0, draws=10)
    assert found.difference == 4
    assert found.error == pytest.approx(math.sqrt(1 + 4))
    # Satterthwaite: (1 + 4)^2 / (1^2 / 1 + 4^2 / 1).
    assert found.freedom == pytest.approx(25 / 17)
    # Apart, b's seeds all alike: the variance between seeds is a's.
    apart = intervals._over_levels(
        [sums, np.zeros((3, 4))], np.full(4, 2.0), article_P, seed=0, draws=10
    )
    assert (apart.difference, apart.error) == (4, found.error)


def test_nested_resamples_draw_seeds_articles_and_passages():
    def statistics_of(seeds, passages_by_article, draws=20_000):
        sums = np.array(seeds, dtype=float)[:, None] + np.concatenate(passages_by_article)
        article_P = np.repeat(np.arange(2), [len(of) for of in passages_by_article])
        weight_P = np.ones(len(article_P))
        return intervals._over_levels([sums], weight_P, article_P, seed=0, draws=draws).t_draws

    def shares(draws):
        values, counts = np.unique(draws.round(6), return_counts=True)
        return dict(zip(values.tolist(), (counts / len(draws)).tolist(), strict=True))

    # Only seeds differ (-1, 1; standard error 1): both the same half of the time, then no spread is
    # left and a third of the error counts.
    assert shares(statistics_of([-1, 1], [[0], [0]])) == pytest.approx(
        {-3: 0.25, 0: 0.5, 3: 0.25}, abs=0.015
    )
    # Only articles differ: the same.
    assert shares(statistics_of([0, 0], [[-1], [1]])) == pytest.approx(
        {-3: 0.25, 0: 0.5, 3: 0.25}, abs=0.015
    )
    # Only passages differ within articles, whose means are alike: drawing whole articles would
    # change nothing, drawing passages does.
    within = statistics_of([0, 0], [[-1, 1], [-1.5, 1.5]])
    assert within is None  # nothing varies between articles, so the error is 0
    mixed = statistics_of([0, 0], [[-1, 1], [0.5, 1.5]])
    whole = statistics_of([0, 0], [[0], [1]])
    assert set(shares(whole)) == {-3.0, 0.0, 3.0}
    assert len(shares(mixed)) > 5


def test_nested_bootstrap_pairs_seeds_or_draws_them_apart():
    shared = np.random.default_rng(0).normal(0, 10, (4, 1))
    own = np.random.default_rng(1).normal(0, 1, (2, 4, 6))
    a, b = _runs(shared + own[0] + 1), _runs(shared + own[1])
    articles = ["x", "x", "y", "y", "z", "z"]
    paired = nested_bootstrap(a, b, articles, seed=0, draws=500)
    apart = nested_bootstrap(a, b, articles, paired=False, seed=0, draws=500)
    assert paired.value == pytest.approx(apart.value)
    assert apart.high - apart.low > 3 * (paired.high - paired.low)
    # Articles are told apart by name, wherever they stand.
    places = [4, 0, 2, 5, 1, 3]
    a_moved, b_moved = ([[run[p] for p in places] for run in runs] for runs in (a, b))
    moved = [articles[p] for p in places]
    again = nested_bootstrap(a_moved, b_moved, moved, seed=0, draws=20_000)
    before = nested_bootstrap(a, b, articles, seed=0, draws=20_000)
    np.testing.assert_allclose(again, before, rtol=0.05)


def test_nested_bootstrap_counts_questions_that_every_run_has():
    a = [[[1, None], [2, 2]], [[1, 5], [2, 4]]]
    b = [[[0, 0], [0, 0]], [[0, 0], [0, math.nan]]]
    found = nested_bootstrap(a, b, ["x", "y"], seed=0, draws=100)
    assert found.value == pytest.approx((1 + 2 + 1 + 2) / 4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([], [], "xy"), "0 and 0 seeds"),
        (([[[1], [1]]] * 2, [[[1], [1]]] * 3, "xy"), "2 and 3 seeds"),
        (([[[1], [1]]] * 2, [[[1], [1]]] * 2, "xyz"), "3 articles for 2 contexts"),
        (([[[1], [1]]] * 2, [[[1], [1, 1]]] * 2, "xy"), "same contexts with the same questions"),
    ],
)
def test_nested_bootstrap_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        nested_bootstrap(*arguments, seed=0)


def test_too_few_seeds_or_articles_have_no_interval():
    a, b = [[[3, 1], [2]], [[5, 1], [2]]], [[[1, None], [1]]] * 2
    # Of c0's first question and c1's: gains 2 and 1 with the one seed, 4 and 1 with the other.
    assert nested_bootstrap(a, b, "xx", seed=0) == (2, None, None)
    assert nested_bootstrap(a[:1], b[:1], "xy", seed=0) == (1.5, None, None)
    assert nested_bootstrap(a, b[:1], "xy", paired=False, seed=0) == (2, None, None)
    assert nested_bootstrap(a, [[[None, None], [1]]] * 2, "xy", seed=0) == (1, None, None)
    assert nested_bootstrap(a, [[[None] * 2, [None]]] * 2, "xy", seed=0) == (None, None, None)
    assert nested_bootstrap([[], []], [[], []], [], seed=0) == (None, None, None)


# Data of benchmarks/coverage.py, where docs/statistics.md's tables with more data sets are from.
_REALISTIC = (*coverage.DATA[:3], *coverage.DATA[5:9])  # the rest is more extreme


@pytest.mark.parametrize("data", _REALISTIC, ids=lambda data: data.name)
@pytest.mark.parametrize(("contexts", "datasets", "draws"), [(12, 2000, 500), (200, 500, 250)])
def test_intervals_cover_the_truth_as_often_as_they_say(data, contexts, datasets, draws):
    found = coverage.coverage(
        data, contexts=contexts, datasets=datasets, draws=draws, seed=contexts
    )
    assert 0.93 <= found <= 0.97


def test_plain_percentile_intervals_would_not_cover():
    data, generator, covered = coverage.DATA[1], np.random.default_rng(0), 0
    truth = data.truth
    for number in range(300):
        a, b = data.draw(generator, 12)
        percentile = coverage.rivals(a, b, draws=300, seed=number)["percentile"]
        covered += coverage.covers(percentile, truth)
    assert covered / 300 < 0.93


def test_families_are_covered_whole():
    sizes = dict(arms=4, contexts=12, datasets=400, draws=400, seed=1)
    single, corrected, level = coverage.family_coverage("exponential", **sizes)
    assert single < 0.9
    assert 0.93 <= corrected <= 0.985
    assert 0.98 < level <= 1 - 0.05 / 6 + 1e-12


@pytest.mark.parametrize("data", coverage.NESTED[1:4], ids=lambda data: data.name)
def test_nested_intervals_cover_the_truth(data):
    found = coverage.nested_coverage(data, seeds=3, articles=6, datasets=500, draws=200, seed=1)
    assert 0.92 <= found <= 0.98


def test_quantiles_are_widened_as_t_asks():
    # 12 contexts: t(0.975, 11) = 2.200985, times sqrt(12 / 11) = 2.298841, normal tail 0.010757
    assert intervals._widened_tail(12, 0.95) == pytest.approx(0.010757, abs=2e-6)
    # 200 contexts: t(0.975, 199) = 1.971957, times sqrt(200 / 199) = 1.976905, normal tail 0.024026
    assert intervals._widened_tail(200, 0.95) == pytest.approx(0.024026, abs=2e-6)


def test_the_mean_of_two_contexts():
    # Of 0 and 1 the resamples' means are 0, 0.5 and 1; at two contexts the quantiles are extremes.
    values = np.array([0.0, 1.0])
    found = intervals.bootstrap(lambda chosen: values[chosen].mean(axis=1), 2, seed=0)
    assert found == (0.5, 0.0, 1.0)
    means = np.concatenate([i.mean(axis=1) for i in intervals._resamples(2, 20_000, seed=1)])
    assert np.mean(means == 0.5) == pytest.approx(0.5, abs=0.015)
    assert np.mean(means == 1.0) == pytest.approx(0.25, abs=0.015)


def test_undefined_resamples_are_left_out_if_they_are_few():
    values = np.random.default_rng(0).normal(size=30)

    def undefined(share):
        def statistic(chosen):
            means = values[chosen].mean(axis=1)
            means[1 : 1 + int(share * len(means))] = np.nan
            return means

        return intervals.bootstrap(statistic, 30, seed=1, draws=500)

    few, many = undefined(0.05), undefined(0.2)
    assert few.low < few.value == many.value < few.high
    assert many.low is many.high is None
    alone = intervals.bootstrap(lambda chosen: values[chosen].mean(axis=1), 1, seed=1)
    assert alone.value == values[0] and alone.low is None
    assert intervals.bootstrap(lambda chosen: chosen, 0, seed=1) == (None, None, None)
