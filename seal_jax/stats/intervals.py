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

Several comparisons, and several outer-loop seeds: see `paired_bootstraps`. Any other statistic of
contexts, such as a reliability: see `bootstrap`.

None and NaN stand for a value that is missing, such as an answer that could not be graded. Missing
values are left out, and what cannot be told from what is left is None: a figure without any value,
an interval below two contexts. Nor have values that are all the same an interval: two contexts that
gain 0.1 each say nothing of how contexts differ, and an interval of no width would claim that none
does.
"""

import itertools
import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

_CELLS = 1 << 20  # draws x contexts that are held at a time
_LEAST_ERROR = 1 / 3  # of a resample's standard error, as a share of the sample's
_ROUNDING = 1e-9  # differences that vary by less, relative to their size, are the same

Array = NDArray[np.float64]
Places = NDArray[np.int64]
# One value a question, by context.
Values = Sequence[Sequence[float | None]]


class Estimate(NamedTuple):
    """A figure and its confidence interval, in its own unit; None where the data cannot tell."""

    value: float | None
    low: float | None
    high: float | None

    @property
    def ends(self) -> list[float] | None:
        """[low, high], or None where there is no interval."""
        return None if self.low is None or self.high is None else [self.low, self.high]


class Family(NamedTuple):
    """Intervals of several comparisons on the same contexts.

    Attributes:
      single: the interval of each comparison at the level that was asked for.
      corrected: the same at the level `corrected_level`, so that all of them cover at once as often
        as the level says.
      detectable: of each comparison, the least true difference that would mostly show: as the
        function `detectable` finds it, for the standard error that the interval has.
      corrected_level: chosen from the joint resamples (Beran, "Balanced Simultaneous Confidence
        Sets", 1988): the share of resamples in which every t statistic lies within its own
        quantiles is the level. Comparisons that say the same thing cost nothing; unrelated ones
        cost what Bonferroni's correction does, and never more. Those without an interval do not
        count.
    """

    single: list[Estimate]
    corrected: list[Estimate]
    detectable: list[float | None]
    corrected_level: float


def mean(values: Iterable[float | bool | None]) -> float | None:
    """The mean of the values that are there; None where none is.

    >>> mean([1, None, 0, float("nan")]), mean([None])
    (0.5, None)
    """
    there = [value for value in values if value is not None and not math.isnan(value)]
    return float(np.mean(there)) if there else None


def paired(second: Values, first: Values, *, seed: int, draws: int) -> dict[str, Any]:
    """The difference second - first as `paired_bootstrap` finds it, ready for JSON.

    Returns:
      {"difference", "interval": [low, high], or None where there is none}.

    >>> paired([[1, 1], [None]], [[0, 1], [1]], seed=0, draws=10)
    {'difference': 0.5, 'interval': None}
    """
    found = paired_bootstrap(second, first, seed=seed, draws=draws)
    return {"difference": found.value, "interval": found.ends}


def paired_bootstrap(
    values_a: Values, values_b: Values, *, seed: int, draws: int = 10_000, level: float = 0.95
) -> Estimate:
    """The interval of the difference between pooled means, whole contexts being resampled.

    A question counts only where both arms have a value, and a context by the number of its
    questions that count.

    Args:
      values_a: for each context, one value for each of its questions under arm a.
      values_b: the same questions under arm b.
      seed: what the resamples follow from.
      draws: number of resamples.
      level: the coverage that is aimed at, between 0 and 1.

    Returns:
      The mean of a minus that of b over the questions that count, with its interval. None where no
      question counts, and for the ends where fewer than two contexts have one that does, or all
      that do differ by the same.

    Raises:
      ValueError: a context has not the same number of questions in both arms, or a value is
        infinite.

    >>> paired_bootstrap([[1, 1], [0, None]], [[0, 1], [0, 1]], seed=0).value
    0.3333333333333333
    """
    family = paired_bootstraps([([values_a], [values_b])], seed=seed, draws=draws, level=level)
    return family.single[0]


def detectable(
    second: Values, first: Values, *, level: float = 0.95, power: float = 0.8
) -> float | None:
    """The least true difference between two arms that these contexts would mostly show.

    Of arms with this paired spread between contexts: the difference of which Student's two-sided
    test at 1 - level finds the given share. From the noncentral t distribution (Cohen, "Statistical
    Power Analysis", 1988, ch. 2), for the standard error that the interval has. It says how much
    could have been overlooked; it does not depend on the difference that was found.

    Args:
      second, first: as in `paired`.

    Returns:
      A difference above 0, in the values' unit; None where there is no interval either.

    >>> found = detectable([[1.0], [2.0], [3.0], [4.0]], [[0.0]] * 4)
    >>> round(found, 2)  # a standard error of 0.6455; 3 degrees of freedom
    2.75
    """
    sums_a, sums_b, weight_C = _pairwise([second], [first])
    [difference_C] = (sums_a - sums_b) / np.maximum(weight_C, 1)
    return _of_contexts(difference_C, weight_C).detectable(level, power)


def shown_mostly(error: float, freedom: float, *, level: float = 0.95, power: float = 0.8) -> float:
    """The true mean that an estimate with this standard error mostly shows; see `detectable`.

    Args:
      error: of the estimate.
      freedom: the degrees of freedom of that error.
    """
    critical = special.stdtrit(freedom, (1 + level) / 2)
    return float(special.nctdtrinc(freedom, 1 - power, critical) * error)


def paired_bootstraps(
    comparisons: Sequence[tuple[Sequence[Values], Sequence[Values]]],
    articles: Sequence[Hashable] | None = None,
    *,
    paired: bool = True,
    seed: int,
    draws: int = 10_000,
    level: float = 0.95,
) -> Family:
    """Several differences a - b on the same contexts, each alone and corrected for their number.

    Settings that ran with several outer-loop seeds are compared by naming the articles of their
    contexts. Every resample then draws seeds, draws articles, and draws passages within each drawn
    article. Seeds and articles are crossed, since every seed was tested on the same ones. The
    standard error adds the variance between seeds to that between articles, which includes that of
    their passages; its degrees of freedom are Satterthwaite's. A question counts only where every
    run has a value.

    With 3 seeds the interval is honest but wide: where seeds differ more than articles do,
    Student's t with 2 degrees of freedom makes it 4.3 standard errors to either side.

    Args:
      comparisons: (runs of setting a, runs of setting b), a run for each seed: for each context,
        one value for each question, as in `paired_bootstrap`. Without articles one run each.
      articles: the article of each context. An interval needs 2 with a value, and 2 seeds.
      paired: run i of a and run i of b have the same seed, and are drawn together; else each
        setting's seeds are drawn on their own.
      seed, draws, level: see `paired_bootstrap`.

    Raises:
      ValueError: no seeds, or seeds, contexts and questions that do not match.
    """
    check(draws, level)
    found = []
    for runs_a, runs_b in comparisons:
        if not (runs_a and runs_b) or (paired and len(runs_a) != len(runs_b)):
            raise ValueError(
                f"{len(runs_a)} and {len(runs_b)} seeds: expected some of either setting, and as "
                "many of one as of the other where they are paired."
            )
        sums_a, sums_b, weight = _pairwise(runs_a, runs_b)
        if articles is None:
            [difference] = (sums_a - sums_b) / np.maximum(weight, 1)
            found.append(_over_contexts(difference, weight, seed, draws))
            continue
        if len(weight) != len(articles):
            raise ValueError(
                f"{len(articles)} articles for {len(weight)} contexts: name each context's one."
            )
        numbers = {article: number for number, article in enumerate(dict.fromkeys(articles))}
        article_P = np.array([numbers[article] for article in articles], dtype=np.int64)
        sources = [sums_a - sums_b] if paired else [sums_a, -sums_b]
        found.append(_over_levels(sources, weight, article_P, seed, draws))
    return _family(found, level)


def check(draws: int, level: float) -> None:
    """Refuses numbers of which no interval can be made."""
    if draws < 1 or not 0 < level < 1:
        raise ValueError(f"draws={draws}, level={level}: expected draws >= 1 and 0 < level < 1.")


def bootstrap(
    statistic: Callable[[Places], Array], contexts: int, *, seed: int, draws: int = 10_000
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

    Returns:
      The estimate with its 95 % interval. The ends are None for fewer than 2 contexts, where all
      resamples have the same value, and where over a tenth of them leave the statistic undefined;
      undefined ones are left out.
    """
    value = float(statistic(np.arange(contexts)[None])[0]) if contexts else math.nan
    if math.isnan(value):
        return Estimate(None, None, None)
    if contexts < 2:
        return Estimate(value, None, None)
    drawn = np.concatenate([statistic(chosen) for chosen in _resamples(contexts, draws, seed)])
    defined = drawn[~np.isnan(drawn)]
    if len(defined) < 0.9 * draws or np.ptp(defined) <= _ROUNDING * np.abs(defined).max():
        return Estimate(value, None, None)
    tail = _widened_tail(contexts, 0.95)
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
    t_draws: Array | None = None

    def interval(self, level: float) -> Estimate:
        """The bootstrap-t interval, but on neither side narrower than Student's."""
        if self.difference is None or self.t_draws is None:
            return Estimate(self.difference, None, None)
        tail = (1 - level) / 2
        student = float(special.stdtrit(self.freedom, 1 - tail))
        low, high = np.quantile(self.t_draws, [tail, 1 - tail])
        return Estimate(
            self.difference,
            self.difference - max(float(high), student) * self.error,
            self.difference + max(float(-low), student) * self.error,
        )

    def detectable(self, level: float, power: float = 0.8) -> float | None:
        """See the function of this name; None where there is too little for an interval."""
        if math.isnan(self.error):
            return None
        return shown_mostly(self.error, self.freedom, level=level, power=power)


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
        [one.detectable(level) for one in found],
        corrected,
    )


def _t_statistics(shift_B: Array, error_B: Array, error: float) -> Array:
    """[B] t statistics of resamples, of which `_LEAST_ERROR` bounds the standard errors.

    Args:
      shift_B: each resample's difference minus the sample's.
      error_B: each resample's standard error.
      error: the sample's, above 0.
    """
    return shift_B / np.maximum(error_B, _LEAST_ERROR * error)


def _of_contexts(difference_C: Array, weight_C: Array) -> _Studentized:
    """A weighted mean of differences without resamples; weights of 0 are left out."""
    used = int((weight_C > 0).sum())
    if not used:
        return _Studentized(None)
    total = weight_C.sum()
    difference = float((weight_C * difference_C).sum() / total)
    if used < 2:
        return _Studentized(difference)
    residual_C = weight_C * (difference_C - difference)
    error = math.sqrt(used / (used - 1) * (residual_C**2).sum()) / total
    if error <= _ROUNDING * np.abs(difference_C[weight_C > 0]).max():
        return _Studentized(difference)
    return _Studentized(difference, error, used - 1)


def _over_contexts(difference_C: Array, weight_C: Array, seed: int, draws: int) -> _Studentized:
    """The same, contexts being resampled."""
    sample = _of_contexts(difference_C, weight_C)
    error = sample.error
    if sample.difference is None or math.isnan(error):
        return sample
    residual_C = weight_C * (difference_C - sample.difference)
    spread = (sample.freedom + 1) / sample.freedom
    columns = np.stack(
        [weight_C, residual_C, residual_C**2, residual_C * weight_C, weight_C**2], axis=1
    )

    def statistic(chosen_BxC: Places) -> Array:
        count_BxC = _counts(chosen_BxC)
        weight_B, shift_B, squares_B, cross_B, weights_B = (count_BxC @ columns).T
        weight_B = np.maximum(weight_B, 1e-300)  # none of the contexts that count was drawn
        shift_B = shift_B / weight_B
        squares_B = squares_B - 2 * shift_B * cross_B + shift_B**2 * weights_B
        return _t_statistics(shift_B, np.sqrt(spread * np.maximum(squares_B, 0)) / weight_B, error)

    drawn = [statistic(chosen) for chosen in _resamples(len(weight_C), draws, seed)]
    return sample._replace(t_draws=np.concatenate(drawn))


def _over_levels(
    sources: Sequence[Array], weight_P: Array, article_P: Places, seed: int, draws: int
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

    def estimate(sums: Sequence[Array], weight_BxA: Array):
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
    # The values themselves, of one run or of the difference between two.
    largest = max(np.abs(source_SxP[:, weight_P > 0]).max() for source_SxP in sources)
    if error <= _ROUNDING * largest / weight_P.max():
        return _Studentized(float(difference))

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


def _resamples(contexts: int, draws: int, seed: int) -> Iterator[Places]:
    """[draws, contexts] in blocks: which contexts are in each resample."""
    generator = np.random.default_rng(seed)
    block = max(1, _CELLS // contexts)
    for start in range(0, draws, block):
        yield generator.integers(contexts, size=(min(block, draws - start), contexts))


def _counts(chosen_BxC: Places) -> Array:
    """[B, C] how often each context is in each resample."""
    count, contexts = chosen_BxC.shape
    places = chosen_BxC + contexts * np.arange(count)[:, None]
    counts = np.bincount(places.ravel(), minlength=count * contexts)
    return counts.reshape(count, contexts).astype(np.float64)


def _widened_tail(contexts: int, level: float) -> float:
    """The quantile to read at either end: the normal tail of the widened t quantile."""
    t = float(special.stdtrit(contexts - 1, (1 + level) / 2))
    return NormalDist().cdf(-math.sqrt(contexts / (contexts - 1)) * t)


def _pairwise(runs_a: Sequence[Values], runs_b: Sequence[Values]) -> tuple[Array, Array, Array]:
    """Sums [runs, contexts] of either side's values, and the number of questions that count."""
    everything = [*runs_a, *runs_b]
    sizes, *others = [[len(group) for group in run] for run in everything]
    for other in others:
        if other != sizes:
            raise ValueError(
                f"numbers of questions: {sizes} in one arm, {other} in the other: expected the "
                "same contexts with the same questions."
            )
    # None becomes NaN.
    values = np.array([[*itertools.chain.from_iterable(run)] for run in everything], np.float64)
    if np.isinf(values).any():
        raise ValueError("a value is infinite: expected finite numbers, None where there is none.")
    context = np.repeat(np.arange(len(sizes)), np.array(sizes, np.int64))
    counts = ~np.isnan(values).any(axis=0)
    summed = [
        np.bincount(context[counts], row[counts], minlength=len(sizes)).astype(np.float64)
        for row in (*values, np.ones(len(context)))
    ]
    return np.array(summed[: len(runs_a)]), np.array(summed[len(runs_a) : -1]), summed[-1]
