"""Percentile bootstrap intervals of any statistic of contexts, such as a reliability.

The quantiles are moved outwards as Student's t asks for at that number of contexts (the expanded
percentile interval of Hesterberg, "What Teachers Should Know About the Bootstrap", 2015). For
differences between means `statistics` has intervals that cover better.
"""

import math
from collections.abc import Callable, Iterator
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

_CELLS = 1 << 20  # draws x contexts that are held at a time


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
