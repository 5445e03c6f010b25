"""How far a reward can be trusted to tell the self-edits of one context apart.

Everything here is within contexts: a context's mean is taken away first, because selection only
ever compares self-edits of one context, and passages differ far more than self-edits do. A reward's
reliability is the share of the variance between the self-edits of a context that another
measurement would find again: 0 is noise, 1 is exact, and the square root bounds the correlation
with anything else. docs/analyze.md has the formulae and what simulations say of their bias.

A reward is given as a list of one array a context, since contexts may differ in their self-edits
and questions. Dims: C contexts, M self-edits of a context, Q questions of a context, R replicates
(inner loops of one self-edit that differ by their seed only).
"""

import math
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np
from scipy import stats

from seal_jax.stats import intervals
from seal_jax.stats.intervals import Array as Array  # of rewards; see the Dims
from seal_jax.stats.intervals import Estimate, Places

Over = Literal["replicates", "questions", "both"]

_TIE = 1e-9  # scores this close, relative to the largest, are equal: sums of thirds are not exact
_ROUNDING = 1e-24  # a variance this small, relative to the largest score's square, is rounding


def across_seeds(
    scores: Sequence[Array],
    *,
    replicates: int | None = None,
    seed: int = 0,
    draws: int = 10_000,
) -> Estimate:
    """Reliability of the mean of replicates with independent inner-loop seeds, within contexts.

    From a one-way analysis of variance: replicates within self-edits within contexts. That is the
    intraclass correlation ICC(1, R) (Shrout and Fleiss, 1979), which generalises split halves with
    the Spearman-Brown step, with the self-edits' mean square on C (M - 1) degrees of freedom, and
    with Kristof's (1963) factor, which takes away the bias of a ratio of mean squares. Exactly
    unbiased for normal scores where all have R replicates. Not cut off at 0: a negative figure
    means that replicates disagree more than chance.

    Args:
      scores: for each context [M, R]; NaN where a self-edit has no reward. Self-edits and contexts
        may have different numbers of replicates; a self-edit with none is left out.
      replicates: R of the mean; by default the most that any self-edit has.
      seed, draws: of the interval; see `intervals.bootstrap`.

    Returns:
      The reliability. None where it cannot be estimated: no self-edit has two replicates, there are
      no more than two degrees of freedom between self-edits, or the self-edits do not differ.

    >>> scores = [np.array([[1.0, 2.0], [3, 4], [5, 5]]), np.array([[0.0, 1.0], [4, 3]])]
    >>> round(across_seeds(scores).value, 5)  # 1 - 0.4 / 7.111 x (3 - 2) / 3
    0.98125
    """
    parts = [_sums_of_squares(np.asarray(of_context, np.float64)) for of_context in scores]
    sums_Cx5 = np.array([part for part in parts if part is not None]).reshape(-1, 5)
    if replicates is None:
        replicates = max((_most(of_context) for of_context in scores), default=1)

    def statistic(chosen):
        return _one_way(sums_Cx5[chosen].sum(axis=1), replicates, _kristof)

    return intervals.bootstrap(statistic, len(sums_Cx5), seed=seed, draws=draws)


def pooled(scores: Sequence[Array]) -> float | None:
    """The same figure with the contexts' means left in: says mostly that passages differ.

    It must be labelled as pooled wherever it is shown.
    """
    columns = max((np.shape(of_context)[1] for of_context in scores), default=1)
    everything = [
        np.pad(of_context, ((0, 0), (0, columns - np.shape(of_context)[1])), constant_values=np.nan)
        for of_context in scores
    ]
    sums = _sums_of_squares(np.concatenate(everything)) if everything else None
    if sums is None:
        return None
    # Self-edits of one context are not independent, so there is no factor for their number.
    return intervals.mean(_one_way(np.array([sums]), max(map(_most, scores)), np.ones_like))


def apart(cells: Sequence[Array], over: Over, *, seed: int = 0, draws: int = 10_000) -> Estimate:
    """Reliability of the mean over all cells, for measurements with nothing of `over` in common.

    The covariance within contexts between two measurements of the self-edits that share no
    replicate, no question, or neither, over the variance of their mean over all cells: the average
    over all ways to split the cells in halves, in closed form, for the full number of cells. A
    coefficient of generalisability (Cronbach et al., 1972), with the factor of `across_seeds`.

    Args:
      cells: for each context [M, Q, R] without NaN (see `complete`); Q may differ.
      over: "replicates": other seeds, the same questions, where replicate r of one self-edit is
        compared with replicate r of another (effects of a seed that all share do not count as
        noise); "questions": other questions, the same adapted models; "both": neither in common.
      seed, draws: see `intervals.bootstrap`.

    Returns:
      The reliability; None where contexts with two self-edits have no second replicate or question.
      Contexts with one question only are left out where `over` asks for two.
    """
    sums = [(len(of) - 1, _within(of, of), _shared(of, of, over)) for of in cells if len(of) >= 2]
    sums_Cx3 = np.array([s for s in sums if not math.isnan(s[2])]).reshape(-1, 3)

    def statistic(chosen):
        df, total, shared = np.moveaxis(sums_Cx3[chosen].sum(axis=1), -1, 0)
        return 1 - _ratio(total - shared, total) * _kristof(df)

    return intervals.bootstrap(statistic, len(sums_Cx3), seed=seed, draws=draws)


class Agreement(NamedTuple):
    """How far two rewards agree within contexts.

    Attributes:
      pearson: of the rewards' means over all replicates and questions.
      spearman: the same of their ranks within each context.
      corrected_for_attenuation: pearson without the noise of either reward's inner-loop seeds; None
        where a reliability is not known or not positive. May exceed 1.
      same_best: share of the contexts where both rank the same self-edit first (ties: the first).
      same_best_by_chance: what same_best would be for a reward that knows nothing.
    """

    pearson: Estimate
    spearman: Estimate
    corrected_for_attenuation: Estimate
    same_best: Estimate
    same_best_by_chance: float | None


def agreement(
    cells_a: Sequence[Array],
    cells_b: Sequence[Array],
    *,
    exact: tuple[bool, bool] = (False, False),
    seed: int = 0,
    draws: int = 10_000,
) -> Agreement:
    """How far two rewards of the same self-edits agree.

    Two rewards from the same inner loops share their noise, so the correction takes the covariance
    between one reward in one replicate and the other in another one, over the root of the product
    of each reward's own such covariance.

    Args:
      cells_a, cells_b: for each context [M, Q, R] without NaN, Q and R of either reward.
      exact: whether a reward is without noise by construction, such as a length.
      seed, draws: see `intervals.bootstrap`.
    """
    kept = [(a, b) for a, b in zip(cells_a, cells_b, strict=True) if len(a) >= 2]

    def without_noise(a: Array, b: Array, noiseless: bool) -> float:
        return _within(a, b) if noiseless else _shared(a, b, "replicates")

    def estimate(sums: Sequence[tuple[float, float, float]]) -> Estimate:
        """Of each context's sum of products, and of both rewards' own sums of squares."""
        sums_Cx3 = np.array(sums).reshape(-1, 3)

        def statistic(chosen):
            both, own_a, own_b = np.moveaxis(sums_Cx3[chosen].sum(axis=1), -1, 0)
            return _ratio(both, np.sqrt(np.maximum(own_a, 0) * np.maximum(own_b, 0)))

        return intervals.bootstrap(statistic, len(sums_Cx3), seed=seed, draws=draws)

    def correlation(pairs: Sequence[tuple[Array, Array]]) -> Estimate:
        return estimate([(_within(a, b), _within(a, a), _within(b, b)) for a, b in pairs])

    return Agreement(
        correlation(kept),
        correlation([(_ranks(a), _ranks(b)) for a, b in kept]),
        estimate(
            [
                (
                    without_noise(a, b, any(exact)),
                    without_noise(a, a, exact[0]),
                    without_noise(b, b, exact[1]),
                )
                for a, b in kept
            ]
        ),
        estimate([(float(_first_best(a) == _first_best(b)), 1.0, 1.0) for a, b in kept]),
        intervals.mean(1 / len(a) for a, _ in kept),
    )


def best(scores_M: Array) -> Places:
    """Indices of the best self-edits: more than one where they tie."""
    top = scores_M.max()
    return np.flatnonzero(scores_M >= top - _TIE * max(1.0, abs(top)))


def _sums_of_squares(scores_MxR: Array) -> tuple[float, ...] | None:
    """Sums of squares and degrees of freedom between and within self-edits; the design's size."""
    there_MxR = ~np.isnan(scores_MxR)
    counts_M = there_MxR.sum(axis=1)
    scores_MxR, there_MxR = scores_MxR[counts_M > 0], there_MxR[counts_M > 0]
    counts_M = counts_M[counts_M > 0]
    if not len(counts_M):
        return None
    means_M = np.where(there_MxR, scores_MxR, 0.0).sum(axis=1) / counts_M
    total = counts_M.sum()
    mean = counts_M @ means_M / total
    between = counts_M @ (means_M - mean) ** 2
    within = (np.where(there_MxR, scores_MxR - means_M[:, None], 0.0) ** 2).sum()
    floor = _ROUNDING * total * np.abs(means_M).max() ** 2
    between, within = (value if value > floor else 0.0 for value in (between, within))
    size = total - (counts_M**2).sum() / total
    return between, len(counts_M) - 1, within, total - len(counts_M), size


def _one_way(sums_nx5: Array, replicates: int, factor: Callable[[Array], Array]) -> Array:
    """Reliability of the mean of `replicates` from sums of `_sums_of_squares` over contexts."""
    between, df, within, df_within, size = np.moveaxis(sums_nx5, -1, 0)
    noise = _ratio(_ratio(within, df_within), _ratio(between, df))
    unexplained = noise * factor(df)
    # For R = size/df, the replicates of a balanced design, this is 1 - unexplained.
    signal = replicates * (1 - unexplained)
    whole = unexplained * _ratio(size, df) + signal
    return np.where(whole > 0, _ratio(signal, whole), np.nan)


def _kristof(df: Array) -> Array:
    """What takes the bias from a ratio to a mean square on df degrees of freedom."""
    return np.where(df > 2, (df - 2) / np.maximum(df, 1), np.nan)


def _ratio(a: Array, b: Array) -> Array:
    """a / b; NaN where b is 0."""
    return np.where(b > 0, a / np.where(b > 0, b, 1.0), np.nan)


def _centred(cells_MxQxR: Array) -> Array:
    return cells_MxQxR - cells_MxQxR.mean(axis=0)


def _within(a_MxQxR: Array, b_MxQxR: Array) -> float:
    """Sum over self-edits of the products of the two means' deviations from the context's."""
    a_M, b_M = (_centred(cells.mean(axis=(1, 2))) for cells in (a_MxQxR, b_MxQxR))
    total = float(a_M @ b_M)
    floor = _ROUNDING * len(a_M) * np.abs(a_MxQxR).max() * np.abs(b_MxQxR).max()
    return total if abs(total) > floor else 0.0


def _shared(a_MxQxR: Array, b_MxQxR: Array, over: Over) -> float:
    """Like `_within`, averaged over the pairs of cells that have nothing of `over` in common."""
    a, b, pairs = _centred(a_MxQxR), _centred(b_MxQxR), 1
    for axis, name in ((1, "questions"), (2, "replicates")):
        if over in (name, "both"):
            # Beside each cell of a, the sum of b's cells with another question or replicate.
            b = b.sum(axis=axis, keepdims=True) - b
            pairs *= a.shape[axis] * (a.shape[axis] - 1)
        else:
            a, b = a.mean(axis=axis, keepdims=True), b.mean(axis=axis, keepdims=True)
    return float((a * b).sum() / pairs) if pairs else math.nan


def _ranks(cells_MxQxR: Array) -> Array:
    """Ranks of the self-edits as cells [M, 1, 1]; ties have their mean rank."""
    scores_M = cells_MxQxR.mean(axis=(1, 2))
    step = _TIE * max(1.0, float(np.abs(scores_M).max()))
    return stats.rankdata(np.round(scores_M / step)).reshape(-1, 1, 1)


def _first_best(cells_MxQxR: Array) -> int:
    return int(best(cells_MxQxR.mean(axis=(1, 2)))[0])


def _most(scores_MxR: Array) -> int:
    return int((~np.isnan(scores_MxR)).sum(axis=1).max(initial=1))
