"""Studentised bootstrap intervals, alone and in families, from resampled t statistics.

`statistics` resamples; here its t statistics become intervals.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

_LEAST_ERROR = 1 / 3  # of a resample's standard error, as a share of the sample's


class Interval(NamedTuple):
    """A difference between two means, a - b, and its confidence interval, in the values' unit."""

    difference: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether both ends lie on one side of zero."""
        return self.low > 0 or self.high < 0


class Family(NamedTuple):
    """Intervals of several comparisons on the same contexts.

    Attributes:
      single: the interval of each comparison at the level that was asked for.
      corrected: the same at the level `corrected_level`, so that all of them cover at once as often
        as the level says.
      corrected_level: chosen from the joint resamples (Beran, "Balanced Simultaneous Confidence
        Sets", 1988): the share of resamples in which every t statistic lies within its own
        quantiles is the level. Comparisons that say the same thing cost nothing; unrelated ones
        cost what Bonferroni's correction does, and never more.
    """

    single: list[Interval]
    corrected: list[Interval]
    corrected_level: float


class Studentized(NamedTuple):
    """A difference and what its interval follows from.

    Attributes:
      difference: the estimate.
      error: its standard error.
      freedom: the degrees of freedom of that error.
      draws: [draws] the t statistic of each resample; see `t_statistics`.
    """

    difference: float
    error: float
    freedom: float
    draws: NDArray[np.float64]

    def interval(self, level: float) -> Interval:
        """The bootstrap-t interval, but on neither side narrower than Student's."""
        if self.error == 0:
            return Interval(self.difference, self.difference, self.difference)
        tail = (1 - level) / 2
        student = float(special.stdtrit(self.freedom, 1 - tail))
        low, high = np.quantile(self.draws, [tail, 1 - tail])
        return Interval(
            self.difference,
            self.difference - max(float(high), student) * self.error,
            self.difference + max(float(-low), student) * self.error,
        )


def family(found: Sequence[Studentized], level: float) -> Family:
    """Intervals at the level, and at the higher one that all hold at once."""
    if not found:
        raise ValueError("there is nothing to compare.")
    corrected = level
    if len(found) > 1:
        # For each resample, how far in its own tails the comparison that fares worst is.
        ranks = stats.rankdata([one.draws for one in found], axis=1) - 0.5
        shares = ranks / ranks.shape[1]
        worst = 2 * np.minimum(shares, 1 - shares).min(axis=0)
        corrected = max(1 - float(np.quantile(worst, 1 - level)), level)
    return Family(
        [one.interval(level) for one in found],
        [one.interval(corrected) for one in found],
        corrected,
    )


def t_statistics(
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
