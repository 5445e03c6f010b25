"""Figures with their intervals: means, differences between arms, and statistics of contexts.

Contexts are what is drawn: the questions of a context share its passage and are not independent.

Differences between two arms on the same contexts have a studentised interval (bootstrap-t; Efron &
Tibshirani, "An Introduction to the Bootstrap", 1993, ch. 12): each resample's difference is
measured in standard errors of that resample, and the quantiles of that t statistic take the place
of Student's. On a dozen contexts this alone can be too narrow or, where most differences are zero,
absurdly wide, so two bounds are set:

- a resample's standard error counts as no less than a third of the sample's own;
- on neither side is the interval narrower than Student's t would make it.

Simulated coverage of 95 % intervals is 93 to 97 % at 12 and at 200 contexts, for binary answers and
for log-likelihood differences as skewed as an exponential variable. docs/statistics.md has the
tables, the methods that were tried, and the command that repeats them.

Several comparisons: see `Family`. Several outer-loop seeds: see `nested_bootstrap`. Any other
statistic of contexts, such as a reliability: see `bootstrap`.

None and NaN stand for a value that is missing, such as an answer that could not be graded. Missing
values are left out, and what cannot be told from what is left is None: a figure without any value,
an interval below two contexts.
"""

import itertools
import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats

_CELLS = 1 << 20  # draws x contexts that are held at a time
_LEAST_ERROR = 1 / 3  # of a resample's standard error, as a share of the sample's

# One value a question, by context.
Values = Sequence[Sequence[float | None]]


class Interval(NamedTuple):
    """A difference between two means, a - b, and its confidence interval, in the values' unit."""

    difference: float | None
    low: float | None
    high: float | None

    @property
    def ends(self) -> list[float] | None:
        """[low, high], or None where there is no interval."""
        return None if self.low is None or self.high is None else [self.low, self.high]

    @property
    def excludes_zero(self) -> bool:
        """Whether both ends lie on one side of zero."""
        return self.ends is not None and (self.ends[0] > 0 or self.ends[1] < 0)


class Family(NamedTuple):
    """Intervals of several comparisons on the same contexts.

    Attributes:
      single: the interval of each comparison at the level that was asked for.
      corrected: the same at the level `corrected_level`, so that all of them cover at once as often
        as the level says.
      corrected_level: chosen from the joint resamples (Beran, "Balanced Simultaneous Confidence
        Sets", 1988): the share of resamples in which every t statistic lies within its own
        quantiles is the level. Comparisons that say the same thing cost nothing; unrelated ones
        cost what Bonferroni's correction does, and never more. Those without an interval do not
        count.
    """

    single: list[Interval]
    corrected: list[Interval]
    corrected_level: float


class Estimate(NamedTuple):
    """A statistic of contexts and its confidence interval; None where the data cannot tell."""

    value: float | None
    low: float | None
    high: float | None


def mean(values: Iterable[float | bool | None]) -> float | None:
    """The mean of the values that are there; None where none is.

    >>> mean([1, None, 0, float("nan")]), mean([None])
    (0.5, None)
    """
    there = [value for value in values if value is not None and not math.isnan(value)]
    return float(np.mean(there)) if there else None


def paired(second: Values, first: Values, *, seed: int, draws: int) -> dict[str, Any]:
    """The difference second - first as `paired_cluster_bootstrap` finds it, ready for JSON.

    Args:
      second: [C][Q] for each context, one value for each of its questions.
      first: [C][Q] the same questions.
      seed: what the resamples follow from.
      draws: number of resamples.

    Returns:
      {"difference": None where no question has both values, "interval": [low, high], or None where
      fewer than two contexts have such a question}.

    >>> paired([[1, 1], [None]], [[0, 1], [1]], seed=0, draws=10)
    {'difference': 0.5, 'interval': None}
    """
    found = paired_cluster_bootstrap(second, first, seed=seed, draws=draws)
    return {"difference": found.difference, "interval": found.ends}


def paired_bootstrap(
    values_a: ArrayLike,
    values_b: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    seed: int,
    draws: int = 10_000,
    level: float = 0.95,
) -> Interval:
    """The interval of the (weighted) mean difference over contexts.

    Args:
      values_a: [contexts] one value for each context under arm a, such as its mean accuracy. A
        context without a value under both arms is left out.
      values_b: [contexts] the same contexts, in the same order, under arm b.
      weights: [contexts] positive, such as each context's number of questions: the difference is
        then that of the pooled means. None weighs all alike.
      seed: what the resamples follow from.
      draws: number of resamples.
      level: the coverage that is aimed at, between 0 and 1.

    Returns:
      The difference a - b with its interval.

    Raises:
      ValueError: lengths that differ, infinite values, or weights that are not positive.
    """
    a, b = _vector(values_a, "values_a"), _vector(values_b, "values_b")
    weight = np.ones_like(a) if weights is None else _vector(weights, "weights")
    if not len(a) == len(b) == len(weight):
        raise ValueError(
            f"values_a has {len(a)} contexts, values_b {len(b)} and weights {len(weight)}: give "
            "one value for each context, in one order."
        )
    if not (weight > 0).all():
        raise ValueError("weights: expected positive numbers; leave out contexts of weight 0.")
    _check(draws, level)
    there = ~np.isnan(a - b)
    difference, weight = np.where(there, a - b, 0.0), np.where(there, weight, 0.0)
    return _over_contexts(difference, weight, seed, draws).interval(level)


def paired_cluster_bootstrap(
    groups_a: Values, groups_b: Values, *, seed: int, draws: int = 10_000, level: float = 0.95
) -> Interval:
    """The interval of the difference between pooled means, whole contexts being resampled.

    A question counts only where both arms have a value, and a context by the number of its
    questions that count.

    Args:
      groups_a: for each context, one value for each of its questions under arm a.
      groups_b: the same questions under arm b.
      seed: see `paired_bootstrap`.
      draws: see `paired_bootstrap`.
      level: see `paired_bootstrap`.

    Returns:
      The mean of a minus that of b over the questions that count, with its interval.

    Raises:
      ValueError: a context has not the same number of questions in both arms, or a value is
        infinite.

    >>> paired_cluster_bootstrap([[1, 1], [0, None]], [[0, 1], [0, 1]], seed=0).difference
    0.3333333333333333
    """
    return paired_cluster_bootstraps(
        [(groups_a, groups_b)], seed=seed, draws=draws, level=level
    ).single[0]


def paired_cluster_bootstraps(
    comparisons: Sequence[tuple[Values, Values]],
    *,
    seed: int,
    draws: int = 10_000,
    level: float = 0.95,
) -> Family:
    """`paired_cluster_bootstrap` of several comparisons (a, b) on the same contexts, corrected."""
    _check(draws, level)
    found = []
    for groups_a, groups_b in comparisons:
        sums_a, sums_b, weight = _pairwise([groups_a], [groups_b])
        means = (sums_a - sums_b)[0] / np.maximum(weight, 1)
        found.append(_over_contexts(means, weight, seed, draws))
    return _family(found, level)


def nested_bootstrap(
    runs_a: Sequence[Values],
    runs_b: Sequence[Values],
    articles: Sequence[Hashable],
    *,
    paired: bool = True,
    seed: int,
    draws: int = 10_000,
    level: float = 0.95,
) -> Interval:
    """The interval of a difference between two settings that ran with several outer-loop seeds.

    Every resample draws seeds, draws articles, and draws passages within each drawn article. Seeds
    and articles are crossed, since every seed was tested on the same ones. The standard error adds
    the variance between seeds to that between articles, which includes that of their passages; its
    degrees of freedom are Satterthwaite's. A question counts only where every run has a value.

    With 3 seeds the interval is honest but wide: where seeds differ more than articles do,
    Student's t with 2 degrees of freedom makes it 4.3 standard errors to either side.

    Args:
      runs_a: for each seed, for each context, one value for each question (as in
        `paired_cluster_bootstrap`) under setting a. An interval needs 2 seeds.
      runs_b: the same contexts and questions under setting b.
      articles: the article of each context. An interval needs 2 with a value.
      paired: run i of a and run i of b have the same seed, and are drawn together; else each
        setting's seeds are drawn on their own.
      seed: see `paired_bootstrap`.
      draws: see `paired_bootstrap`.
      level: see `paired_bootstrap`.

    Returns:
      The mean of a minus that of b, over seeds and the questions that count, with its interval.

    Raises:
      ValueError: no seeds, or seeds, contexts and questions that do not match.
    """
    return nested_bootstraps(
        [(runs_a, runs_b)], articles, paired=paired, seed=seed, draws=draws, level=level
    ).single[0]


def nested_bootstraps(
    comparisons: Sequence[tuple[Sequence[Values], Sequence[Values]]],
    articles: Sequence[Hashable],
    *,
    paired: bool = True,
    seed: int,
    draws: int = 10_000,
    level: float = 0.95,
) -> Family:
    """`nested_bootstrap` of several comparisons (a, b) on the same contexts, corrected."""
    _check(draws, level)
    numbers = {article: number for number, article in enumerate(dict.fromkeys(articles))}
    article_P = np.array([numbers[article] for article in articles], dtype=np.int64)
    found = []
    for runs_a, runs_b in comparisons:
        if not (runs_a and runs_b) or (paired and len(runs_a) != len(runs_b)):
            raise ValueError(
                f"{len(runs_a)} and {len(runs_b)} seeds: expected some of either setting, and as "
                "many of one as of the other where they are paired."
            )
        sums_a, sums_b, weight = _pairwise(runs_a, runs_b)
        if len(weight) != len(article_P):
            raise ValueError(
                f"{len(article_P)} articles for {len(weight)} contexts: name each context's one."
            )
        sources = [sums_a - sums_b] if paired else [sums_a, -sums_b]
        found.append(_over_levels(sources, weight, article_P, seed, draws))
    return _family(found, level)


def bootstrap(
    statistic: Callable[[NDArray[np.int64]], NDArray[np.float64]],
    contexts: int,
    *,
    seed: int,
    draws: int = 10_000,
    level: float = 0.95,
) -> Estimate:
    """The percentile interval of any statistic of contexts, whole contexts being resampled.

    The quantiles are moved outwards as Student's t asks for at that number of contexts (the
    expanded percentile interval of Hesterberg, "What Teachers Should Know About the Bootstrap",
    2015). For differences between means the other functions' intervals cover better.

    Args:
      statistic: from [n, contexts] indices of contexts, a resample a row, to [n] values; NaN where
        a resample leaves it undefined.
      contexts: how many there are; the statistic of all of them, once each, is the estimate.
      seed: what the resamples follow from.
      draws: number of resamples.
      level: the coverage that is aimed at, between 0 and 1.

    Returns:
      The estimate with its interval. The ends are None for fewer than 2 contexts, and where over a
      tenth of the resamples leave the statistic undefined; undefined ones are left out.
    """
    value = float(statistic(np.arange(contexts)[None])[0]) if contexts else math.nan
    if math.isnan(value):
        return Estimate(None, None, None)
    if contexts < 2:
        return Estimate(value, None, None)
    drawn = np.concatenate([statistic(chosen) for chosen in _resamples(contexts, draws, seed)])
    defined = drawn[~np.isnan(drawn)]
    if len(defined) < 0.9 * draws:
        return Estimate(value, None, None)
    tail = _widened_tail(contexts, level)
    low, high = np.quantile(defined, [tail, 1 - tail])
    return Estimate(value, float(low), float(high))


class _Studentized(NamedTuple):
    """A difference and what its interval follows from.

    Attributes:
      difference: the estimate, or None.
      error: its standard error.
      freedom: the degrees of freedom of that error.
      t_draws: [draws] the t statistic of each resample (see `_t_statistics`); None where there is
        too little for an interval.
    """

    difference: float | None
    error: float = math.nan
    freedom: float = math.nan
    t_draws: NDArray[np.float64] | None = None

    def interval(self, level: float) -> Interval:
        """The bootstrap-t interval, but on neither side narrower than Student's."""
        if self.difference is None or self.t_draws is None:
            return Interval(self.difference, None, None)
        if self.error == 0:
            return Interval(self.difference, self.difference, self.difference)
        tail = (1 - level) / 2
        student = float(special.stdtrit(self.freedom, 1 - tail))
        low, high = np.quantile(self.t_draws, [tail, 1 - tail])
        return Interval(
            self.difference,
            self.difference - max(float(high), student) * self.error,
            self.difference + max(float(-low), student) * self.error,
        )


def _family(found: Sequence[_Studentized], level: float) -> Family:
    """Intervals at the level, and at the higher one that all hold at once."""
    corrected = level
    drawn = [one.t_draws for one in found if one.t_draws is not None]
    if len(drawn) > 1:
        # For each resample, how far in its own tails the comparison that fares worst is.
        ranks = stats.rankdata(drawn, axis=1) - 0.5
        shares = ranks / ranks.shape[1]
        worst = 2 * np.minimum(shares, 1 - shares).min(axis=0)
        corrected = max(1 - float(np.quantile(worst, 1 - level)), level)
    return Family(
        [one.interval(level) for one in found],
        [one.interval(corrected) for one in found],
        corrected,
    )


def _t_statistics(
    shift_B: NDArray[np.float64], error_B: NDArray[np.float64], error: float
) -> NDArray[np.float64]:
    """[B] t statistics of resamples, of which `_LEAST_ERROR` bounds the standard errors.

    Args:
      shift_B: each resample's difference minus the sample's.
      error_B: each resample's standard error.
      error: the sample's; where it is 0 nothing varies, and every statistic is 0.
    """
    if error == 0:
        return np.zeros_like(shift_B)
    return shift_B / np.maximum(error_B, _LEAST_ERROR * error)


def _over_contexts(
    difference_C: NDArray[np.float64], weight_C: NDArray[np.float64], seed: int, draws: int
) -> _Studentized:
    """A weighted mean of differences, contexts being resampled; weights of 0 are left out."""
    used = int((weight_C > 0).sum())
    if not used:
        return _Studentized(None)
    total = weight_C.sum()
    difference = float((weight_C * difference_C).sum() / total)
    if used < 2:
        return _Studentized(difference)
    residual_C = weight_C * (difference_C - difference)
    spread = used / (used - 1)
    error = math.sqrt(spread * (residual_C**2).sum()) / total
    columns = np.stack(
        [weight_C, residual_C, residual_C**2, residual_C * weight_C, weight_C**2], axis=1
    )

    def statistic(chosen_BxC: NDArray[np.int64]) -> NDArray[np.float64]:
        count_BxC = _counts(chosen_BxC)
        weight_B, shift_B, squares_B, cross_B, weights_B = (count_BxC @ columns).T
        weight_B = np.maximum(weight_B, 1e-300)  # none of the contexts that count was drawn
        shift_B = shift_B / weight_B
        squares_B = squares_B - 2 * shift_B * cross_B + shift_B**2 * weights_B
        return _t_statistics(shift_B, np.sqrt(spread * np.maximum(squares_B, 0)) / weight_B, error)

    drawn = [statistic(chosen) for chosen in _resamples(len(weight_C), draws, seed)]
    return _Studentized(difference, error, used - 1, np.concatenate(drawn))


def _over_levels(
    sources: Sequence[NDArray[np.float64]],
    weight_P: NDArray[np.float64],
    article_P: NDArray[np.int64],
    seed: int,
    draws: int,
) -> _Studentized:
    """A weighted mean over seeds and passages; seeds, articles and passages are resampled.

    Args:
      sources: one [S, P] array of weighted sums for each set of seeds that is drawn on its own; the
        mean is the sum of theirs.
      weight_P: each passage's weight.
      article_P: each passage's article, counted from 0.
    """
    used = len(set(article_P[weight_P > 0].tolist()))
    if not used:
        return _Studentized(None)
    if used < 2 or min(map(len, sources)) < 2:
        total = sum(float(source_SxP.sum(axis=1).mean()) for source_SxP in sources)
        return _Studentized(total / float(weight_P.sum()))
    articles = int(article_P.max()) + 1
    size_A = np.bincount(article_P, minlength=articles)
    order = np.argsort(article_P, kind="stable")
    first_A = np.cumsum(size_A) - size_A
    sources = [source_SxP[:, order] for source_SxP in sources]
    weight_P = weight_P[order]

    def estimate(sums: Sequence[NDArray[np.float64]], weight_BxA: NDArray[np.float64]):
        """Difference, squared error and degrees of freedom, from sums [B, S, A]."""
        weight_B = np.maximum(weight_BxA.sum(axis=1), 1e-300)
        sum_BxA = sum(sum_BxSxA.mean(axis=1) for sum_BxSxA in sums)
        difference_B = sum_BxA.sum(axis=1) / weight_B
        residual_BxA = (sum_BxA - difference_B[:, None] * weight_BxA) / weight_B[:, None]
        variances = [(used / (used - 1) * (residual_BxA**2).sum(axis=1), used - 1)]
        for sum_BxSxA in sums:
            seeds = sum_BxSxA.shape[1]
            mean_BxS = sum_BxSxA.sum(axis=2) / weight_B[:, None]
            variances.append((mean_BxS.var(axis=1, ddof=1) / seeds, seeds - 1))
        squared_B = sum(variance_B for variance_B, _ in variances)
        least = sum(variance_B**2 / freedom for variance_B, freedom in variances)
        return difference_B, squared_B, squared_B**2 / np.maximum(least, 1e-300)

    every_A = [np.add.reduceat(x, first_A, axis=-1)[None] for x in (*sources, weight_P)]
    [difference], [squared], [freedom] = estimate(every_A[:-1], every_A[-1])
    error = math.sqrt(squared)

    # Apart, so that comparisons with other numbers of seeds meet the same articles and passages.
    generator, generator_of_seeds = (np.random.default_rng([seed, part]) for part in range(2))
    longest = int(size_A.max())
    block = max(1, _CELLS // (articles * longest))
    drawn = []
    for start in range(0, draws, block):
        count = min(block, draws - start)
        article_BxA = generator.integers(articles, size=(count, articles))
        size_BxA = size_A[article_BxA][..., None]
        place = (generator.random((count, articles, longest)) * size_BxA).astype(np.int64)
        taken = np.arange(longest) < size_BxA
        passage = np.where(taken, first_A[article_BxA][..., None] + place, 0)
        sums = []
        for source_SxP in sources:
            seeds = len(source_SxP)
            seed_BxS = generator_of_seeds.integers(seeds, size=(count, seeds))
            sum_SxBxA = np.stack([(x[passage] * taken).sum(axis=2) for x in source_SxP])
            sums.append(sum_SxBxA[seed_BxS, np.arange(count)[:, None]])
        difference_B, squared_B, _ = estimate(sums, (weight_P[passage] * taken).sum(axis=2))
        drawn.append(_t_statistics(difference_B - difference, np.sqrt(squared_B), error))
    return _Studentized(float(difference), error, float(freedom), np.concatenate(drawn))


def _resamples(contexts: int, draws: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """[draws, contexts] in blocks: which contexts are in each resample."""
    generator = np.random.default_rng(seed)
    block = max(1, _CELLS // contexts)
    for start in range(0, draws, block):
        yield generator.integers(contexts, size=(min(block, draws - start), contexts))


def _counts(chosen_BxC: NDArray[np.int64]) -> NDArray[np.float64]:
    """[B, C] how often each context is in each resample."""
    count, contexts = chosen_BxC.shape
    places = chosen_BxC + contexts * np.arange(count)[:, None]
    counts = np.bincount(places.ravel(), minlength=count * contexts)
    return counts.reshape(count, contexts).astype(np.float64)


def _widened_tail(contexts: int, level: float) -> float:
    """The quantile to read at either end: the normal tail of the widened t quantile."""
    t = float(special.stdtrit(contexts - 1, (1 + level) / 2))
    return NormalDist().cdf(-math.sqrt(contexts / (contexts - 1)) * t)


def _pairwise(
    runs_a: Sequence[Values], runs_b: Sequence[Values]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Sums [runs, contexts] of either side's values, and the number of questions that count."""
    everything = [*runs_a, *runs_b]
    sizes = [[len(group) for group in run] for run in everything]
    if any(size != sizes[0] for size in sizes):
        raise ValueError(
            f"numbers of questions: {sizes[0]} in one arm, "
            f"{next(size for size in sizes if size != sizes[0])} in the other: expected the same "
            "contexts with the same questions."
        )
    # None becomes NaN.
    values = np.array([[*itertools.chain.from_iterable(run)] for run in everything], np.float64)
    context = np.repeat(np.arange(len(sizes[0])), np.array(sizes[0], np.int64))
    counts = ~np.isnan(values).any(axis=0)
    if np.isinf(values).any():
        raise ValueError("a value is infinite: expected finite numbers, None where there is none.")

    def sums(row: NDArray[np.float64]) -> NDArray[np.float64]:
        of = np.bincount(context[counts], weights=row[counts], minlength=len(sizes[0]))
        return of.astype(np.float64)

    summed = np.array([sums(row) for row in values])
    return summed[: len(runs_a)], summed[len(runs_a) :], sums(np.ones(values.shape[1]))


def _vector(values: ArrayLike, name: str) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or np.isinf(array).any():
        raise ValueError(
            f"{name}: expected one finite number for each context, None where there is none; got "
            f"shape {array.shape}, {int(np.isinf(array).sum())} infinite."
        )
    return array


def _check(draws: int, level: float) -> None:
    if draws < 1 or not 0 < level < 1:
        raise ValueError(f"draws={draws}, level={level}: expected draws >= 1 and 0 < level < 1.")
