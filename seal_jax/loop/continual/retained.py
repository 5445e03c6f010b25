"""What is left of earlier passages: matrices, the retained share, and what else was lost.

Dims: S sequences, P passages of a sequence. Row 0 of a matrix is the start, row i the model after
passage i; column j is passage j, known where j <= i (and everywhere in row 0).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seal_jax.stats import resampling, statistics

Record = dict[str, Any]
Matrices = NDArray[np.float64]  # [S, P + 1, P]; NaN where a passage was not asked or has no value


def value(answers: Sequence[Record], metric: str) -> float:
    """The mean over a passage's questions of "accuracy" or "gold_log_likelihood"; NaN for none."""
    key = "correct" if metric == "accuracy" else metric
    values = [answer.get(key) for answer in answers]
    known = [float(v) for v in values if v is not None]
    return float(np.mean(known)) if known else float("nan")


def matrices(
    start: Sequence[Sequence[Sequence[Record]]], steps: Sequence[Sequence[Any]], metric: str
) -> Matrices:
    """The matrix of every sequence.

    Args:
      start: [S][P] answers of the start.
      steps: [P][S][passages so far] answers after each passage.
    """
    found = np.full((len(start), len(steps) + 1, len(steps)), np.nan)
    for s, passages in enumerate(start):
        found[s, 0] = [value(answers, metric) for answers in passages]
        for i, rows in enumerate(steps):
            found[s, i + 1, : i + 1] = [value(answers, metric) for answers in rows[s]]
    return found


def shown(found: Matrices) -> Record:
    """Means over sequences and their standard errors, None where there is no value."""
    known = ~np.isnan(found)
    counts = known.sum(axis=0)
    means = np.where(known, found, 0.0).sum(axis=0) / np.maximum(counts, 1)
    squares = np.where(known, (found - means) ** 2, 0.0).sum(axis=0)
    errors = np.sqrt(squares / np.maximum(counts - 1, 1) / np.maximum(counts, 1))
    return {
        "matrix": _listed(means, counts > 0),
        "standard_errors": _listed(errors, counts > 1),
    }


def ends(found: Matrices) -> tuple[NDArray, NDArray, NDArray]:
    """[S] means over passages at the start, right after each one's own update, and at the end."""
    return (
        np.nanmean(found[:, 0], axis=1),
        np.nanmean(np.diagonal(found[:, 1:], axis1=1, axis2=2), axis=1),
        np.nanmean(found[:, -1], axis=1),
    )


def summary(found: Matrices, *, seed: int, draws: int) -> Record:
    """The three means, and the retained share with an interval that resamples sequences.

    The retained share is (end - start) / (own - start): 1 where nothing is lost after a passage's
    own update, 0 where the gain is gone, below 0 where the start knew more.
    """
    start_S, own_S, end_S = ends(found)
    share = resampling.bootstrap(
        lambda drawn: _ratio(end_S - start_S, own_S - start_S, drawn),
        len(found),
        seed=seed,
        draws=draws,
    )
    return {
        "start": float(start_S.mean()),
        "own": float(own_S.mean()),
        "end": float(end_S.mean()),
        "retained_share": _interval(share),
    }


def own_gain_kept(found: Matrices, uncured: Matrices, *, seed: int, draws: int) -> Record:
    """The diagonal's gain over the start as a share of the uncured run's, on the same sequences."""
    (start_S, own_S, _), (_, uncured_S, _) = ends(found), ends(uncured)
    return _interval(
        resampling.bootstrap(
            lambda drawn: _ratio(own_S - start_S, uncured_S - start_S, drawn),
            len(found),
            seed=seed,
            draws=draws,
        )
    )


def share_over_uncured(found: Matrices, uncured: Matrices, *, seed: int, draws: int) -> Record:
    """The retained share minus the uncured run's, on the same sequences."""
    (start_S, own_S, end_S), (_, own_uncured_S, end_uncured_S) = ends(found), ends(uncured)
    return _interval(
        resampling.bootstrap(
            lambda drawn: (
                _ratio(end_S - start_S, own_S - start_S, drawn)
                - _ratio(end_uncured_S - start_S, own_uncured_S - start_S, drawn)
            ),
            len(found),
            seed=seed,
            draws=draws,
        )
    )


def difference(a_S: Sequence[float], b_S: Sequence[float], *, seed: int, draws: int) -> Record:
    """The mean of a - b over sequences, with its interval; without one for a single sequence."""
    value = float(np.mean(np.asarray(a_S) - np.asarray(b_S)))
    if len(a_S) < 2:
        return {"value": value, "interval": None}
    found = statistics.paired_bootstrap(a_S, b_S, seed=seed, draws=draws)
    return {"value": value, "interval": [found.low, found.high]}


def _ratio(gains_S: NDArray, of_S: NDArray, drawn: NDArray) -> NDArray:
    """[n] ratios of mean gains over [n, S] resampled sequences; NaN where there was no gain."""
    above, below = gains_S[drawn].mean(axis=1), of_S[drawn].mean(axis=1)
    return np.where(below > 0, above / np.where(below > 0, below, 1.0), np.nan)


def _interval(found: resampling.Estimate) -> Record:
    value, low, high = (None if np.isnan(number) else float(number) for number in found)
    return {"value": value, "interval": None if low is None else [low, high]}


def _listed(values: NDArray, known: NDArray) -> list[list[float | None]]:
    return [
        [float(v) if k else None for v, k in zip(*row, strict=True)]
        for row in zip(values, known, strict=True)
    ]
