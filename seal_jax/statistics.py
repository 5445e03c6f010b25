"""Paired bootstrap intervals for the difference between two arms on the same contexts.

Contexts are what is drawn: the questions of a context share its passage and are not independent.
Plain percentile intervals cover too rarely on few contexts: about 90 % instead of 95 % of the time
in simulations with 12 contexts of 4 or 5 questions, and bias correction (BCa) did not help. The
quantiles here are therefore moved outwards as Student's t asks for at that number of contexts
(the expanded percentile interval of Hesterberg, "What Teachers Should Know About the Bootstrap",
2015): 94 to 95 % there, and hardly a change at 200. Where differences are as skewed as an
exponential variable, 12 contexts still give 91 % only.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

_CELLS = 1 << 20  # draws x contexts that are held at a time


class Interval(NamedTuple):
    """A difference between two means, a - b, and its confidence interval, in the values' unit."""

    difference: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether both ends lie on one side of zero."""
        return self.low > 0 or self.high < 0


class Estimate(NamedTuple):
    """A statistic and its confidence interval; NaN where the data cannot tell."""

    value: float
    low: float
    high: float


def bootstrap(
    statistic: Callable[[NDArray[np.int64]], NDArray[np.float64]],
    contexts: int,
    *,
    seed: int,
    draws: int = 10_000,
    level: float = 0.95,
) -> Estimate:
    """The interval of any statistic of contexts, whole contexts being resampled.

    Args:
      statistic: from [n, contexts] indices of contexts, a resample a row, to [n] values; NaN where
        a resample leaves it undefined.
      contexts: how many there are; the statistic of all of them, once each, is the estimate.
      seed: what the resamples follow from.
      draws: number of resamples.
      level: the coverage that is aimed at, between 0 and 1.

    Returns:
      The estimate with its interval. The ends are NaN for fewer than 2 contexts, and where over a
      tenth of the resamples leave the statistic undefined; undefined ones are left out.
    """
    value = float(statistic(np.arange(contexts)[None])[0]) if contexts else math.nan
    if contexts < 2 or math.isnan(value):
        return Estimate(value, math.nan, math.nan)
    drawn = np.concatenate([statistic(chosen) for chosen in _resamples(contexts, draws, seed)])
    defined = drawn[~np.isnan(drawn)]
    if len(defined) < 0.9 * draws:
        return Estimate(value, math.nan, math.nan)
    tail = _tail(contexts, level)
    low, high = np.quantile(defined, [tail, 1 - tail])
    return Estimate(value, float(low), float(high))


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
      values_a: [contexts] one value for each context under arm a, such as its mean accuracy.
      values_b: [contexts] the same contexts, in the same order, under arm b.
      weights: [contexts] positive, such as each context's number of questions: the difference is
        then that of the pooled means. None weighs all alike.
      seed: what the resamples follow from.
      draws: number of resamples.
      level: the coverage that is aimed at, between 0 and 1.

    Returns:
      The difference a - b with its interval.

    Raises:
      ValueError: fewer than 2 contexts, lengths that differ, or values that are not finite.
    """
    a, b = _vector(values_a, "values_a"), _vector(values_b, "values_b")
    weight = np.ones_like(a) if weights is None else _vector(weights, "weights")
    if not len(a) == len(b) == len(weight):
        raise ValueError(
            f"values_a has {len(a)} contexts, values_b {len(b)} and weights {len(weight)}: give "
            "one value for each context, in one order."
        )
    if len(a) < 2:
        raise ValueError(f"{len(a)} context(s): an interval needs 2 or more.")
    if not (weight > 0).all():
        raise ValueError("weights: expected positive numbers; leave out contexts of weight 0.")
    if draws < 1 or not 0 < level < 1:
        raise ValueError(f"draws={draws}, level={level}: expected draws >= 1 and 0 < level < 1.")
    weighted = weight * (a - b)
    drawn = np.concatenate(
        [
            weighted[chosen].sum(axis=1) / weight[chosen].sum(axis=1)
            for chosen in _resamples(len(a), draws, seed)
        ]
    )
    tail = _tail(len(a), level)
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return Interval(float(weighted.sum() / weight.sum()), float(low), float(high))


def paired_cluster_bootstrap(
    groups_a: Sequence[Sequence[float]],
    groups_b: Sequence[Sequence[float]],
    *,
    seed: int,
    draws: int = 10_000,
    level: float = 0.95,
) -> Interval:
    """The interval of the difference between pooled means, whole contexts being resampled.

    Args:
      groups_a: for each context, one value for each of its questions under arm a.
      groups_b: the same questions under arm b.
      seed: see `paired_bootstrap`.
      draws: see `paired_bootstrap`.
      level: see `paired_bootstrap`.

    Returns:
      The mean over all questions of a minus that of b, with its interval.

    Raises:
      ValueError: a context has no question, or not the same number in both arms; and as
        `paired_bootstrap` does.
    """
    sizes_a, sizes_b = [len(group) for group in groups_a], [len(group) for group in groups_b]
    if sizes_a != sizes_b or 0 in sizes_a:
        raise ValueError(
            f"numbers of questions: {sizes_a} in groups_a, {sizes_b} in groups_b: expected the "
            "same contexts with the same questions, at least one each."
        )
    means_a = [math.fsum(group) / len(group) for group in groups_a]
    means_b = [math.fsum(group) / len(group) for group in groups_b]
    return paired_bootstrap(means_a, means_b, sizes_a, seed=seed, draws=draws, level=level)


def _vector(values: ArrayLike, name: str) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not np.isfinite(array).all():
        raise ValueError(
            f"{name}: expected one finite number for each context, got shape {array.shape}, "
            f"{int((~np.isfinite(array)).sum())} not finite."
        )
    return array


def _resamples(contexts: int, draws: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """[draws, contexts] in blocks: which contexts are in each resample."""
    generator = np.random.default_rng(seed)
    block = max(1, _CELLS // contexts)
    for start in range(0, draws, block):
        yield generator.integers(contexts, size=(min(block, draws - start), contexts))


def _tail(contexts: int, level: float) -> float:
    """The quantile to read at either end: the normal tail of the widened t quantile."""
    t = float(special.stdtrit(contexts - 1, (1 + level) / 2))
    return NormalDist().cdf(-math.sqrt(contexts / (contexts - 1)) * t)
