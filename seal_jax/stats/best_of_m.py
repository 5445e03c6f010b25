"""What keeping the best of M self-edits gains, where the choice and the test share nothing.

The best of M by noisy scores looks good on the scores that chose it: the maximum of noise is
positive. So the choice is made on some replicates or questions and the chosen self-edit is measured
on the others, averaged over every choice of what is held out.

Dims as in `reliability`: C contexts, M self-edits, Q questions, R replicates.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from seal_jax.stats import intervals
from seal_jax.stats.intervals import Estimate
from seal_jax.stats.reliability import Array, best

HeldOut = Literal["nothing", "replicates", "questions", "both"]


class Gain(NamedTuple):
    """The measured reward of the chosen self-edits, of all of them, and the difference.

    None where the data cannot tell.

    Attributes:
      chosen: mean over contexts of what the chosen self-edit scores.
      mean: mean over contexts of what their self-edits score.
      gain: chosen - mean, with its interval over contexts.
    """

    chosen: float | None
    mean: float | None
    gain: Estimate


def gain(
    choosing: Sequence[Array],
    measured: Sequence[Array],
    held_out: HeldOut,
    *,
    seed: int = 0,
    draws: int = 10_000,
) -> Gain:
    """The gain of the best self-edit by one reward in another reward (or in itself).

    Args:
      choosing: for each context [M, Q, R] without NaN. A reward without replicates or questions
        has R or Q of 1, and nothing of it is held out.
      measured: the same self-edits' cells of the reward that is measured; of the same questions
        and replicates, or without.
      held_out: what the choice may not use. "replicates": one replicate, where the choice is made
        on the R - 1 others; "questions": one question, where the choice is made on the Q - 1
        others in every replicate; "both": one replicate of one question, where the choice is made
        on the others of both; "nothing": the in-sample figure, which is no estimate of a gain.
        Averaged over all that can be held out. Where self-edits tie, each has its share.
      seed, draws: of the interval; see `intervals.paired_bootstrap`.

    Returns:
      None in every field where no context has two self-edits, and two questions or replicates where
      they are held out; contexts without are left out.

    >>> cells = [np.array([[[1.0, 0.0]], [[0.0, 1.0]]])] * 2  # each self-edit wins once
    >>> gain(cells, cells, "nothing").chosen, gain(cells, cells, "replicates").chosen
    (0.5, 0.0)
    """
    pairs = [
        (_chosen(a, b, held_out), float(b.mean()))
        for a, b in zip(choosing, measured, strict=True)
        if len(b) >= 2 and _can_hold_out(a, b, held_out)
    ]
    chosen_C, mean_C = np.array(pairs).reshape(-1, 2).T
    values = chosen_C[:, None].tolist(), mean_C[:, None].tolist()
    found = intervals.paired_bootstrap(*values, seed=seed, draws=draws)
    return Gain(intervals.mean(chosen_C), intervals.mean(mean_C), found)


def _can_hold_out(choosing_MxQxR: Array, measured_MxQxR: Array, held_out: HeldOut) -> bool:
    _, questions, replicates = np.maximum(choosing_MxQxR.shape, measured_MxQxR.shape)
    return bool(
        (held_out not in ("questions", "both") or questions >= 2)
        and (held_out not in ("replicates", "both") or replicates >= 2)
    )


def _chosen(choosing_MxQxR: Array, measured_MxQxR: Array, held_out: HeldOut) -> float:
    """The mean score of the chosen self-edit over all that can be held out."""
    # Axis 1 has the questions, axis 2 the replicates.
    apart = {"nothing": (), "questions": (1,), "replicates": (2,), "both": (1, 2)}[held_out]
    scores = choosing_MxQxR
    for axis in (1, 2):
        total = scores.sum(axis=axis, keepdims=True)
        # What is left when the held-out question or replicate is taken away.
        scores = total - scores if axis in apart and scores.shape[axis] > 1 else total
    averaged = tuple(axis for axis in (1, 2) if axis not in apart)
    scores, tested = np.broadcast_arrays(scores, measured_MxQxR.mean(axis=averaged, keepdims=True))
    means = [
        tested[best(scores[:, q, r]), q, r].mean()
        for q in range(tested.shape[1])
        for r in range(tested.shape[2])
    ]
    return float(np.mean(means))
