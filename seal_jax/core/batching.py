"""From lists of token ids to arrays of few shapes: buckets, padding, step order, groups.

All of it is host code in numpy. Shapes come from the configuration only, so that after the first
round nothing compiles again.

Dims: K candidates, N sequences, S steps, B sequences a step, T tokens, Q queries, A answer tokens.
"""

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from seal_jax.core import distillation
from seal_jax.core.evaluate import Queries
from seal_jax.core.inner import InnerProblem, Schedule
from seal_jax.core.model.token_loss import SoftTargets


class TooLong(ValueError):
    """Something does not fit the largest bucket; the message says which setting to raise."""


def bucket_index(length: int, buckets: Sequence[int]) -> int:
    """Index of the smallest bucket that holds `length`.

    Raises:
      TooLong: it exceeds the largest.

    >>> bucket_index(33, (32, 64))
    1
    """
    for index, bucket in enumerate(buckets):
        if length <= bucket:
            return index
    raise TooLong(f"a length of {length} tokens exceeds the largest bucket ({buckets[-1]}).")


def inner_problem(
    sequences: Sequence[Sequence[int]],
    masks: Sequence[Sequence[bool] | None] | None = None,
    *,
    rows: int,
    length: int,
    filler: int | None = None,
    soft: Mapping[int, SoftTargets] | None = None,
) -> InnerProblem:
    """One candidate's sequences as arrays, longest first.

    Args:
      sequences: token ids; at most `rows` sequences of at most `length` tokens.
      masks: the tokens of each whose loss is trained on; None, for one or all, is all tokens.
      rows, length: N and T.
      filler: a token that sequences are filled up with: at their ends it is not attended to. None
        where all tokens are.
      soft: what a teacher expects of the last tokens of some sequences, by their number: J are the
        likeliest of each; it is sure of all other tokens. None has no teacher.
    """
    tokens_NxT = np.zeros((rows, length), np.int32)
    mask_NxT = np.zeros((rows, length), bool)
    lengths_N = np.zeros(rows, np.int32)
    attended_N = None if filler is None else np.zeros(rows, np.int32)
    longest_first = sorted(range(len(sequences)), key=lambda i: -len(sequences[i]))
    for row, i in enumerate(longest_first):
        count = len(sequences[i])
        tokens_NxT[row, :count] = sequences[i]
        mask = None if masks is None else masks[i]
        mask_NxT[row, :count] = True if mask is None else mask
        lengths_N[row] = count
        if attended_N is not None:
            attended_N[row] = 1 + np.flatnonzero(tokens_NxT[row, :count] != filler).max(initial=0)
    if soft is None:
        return InnerProblem(tokens_NxT, mask_NxT, lengths_N, attended_N)
    ids_NxTxJ = np.full((rows, length, distillation.LIKELIEST), -1, np.int32)
    ids_NxTxJ[..., 0] = tokens_NxT
    expected = SoftTargets(ids_NxTxJ, np.zeros(ids_NxTxJ.shape, np.float32))
    for row, i in enumerate(longest_first):
        if i in soft:
            for whole, of in zip(expected, soft[i], strict=True):
                whole[row, len(sequences[i]) - len(of) : len(sequences[i])] = of
    return InnerProblem(tokens_NxT, mask_NxT, lengths_N, attended_N, expected)


def stack(trees: Sequence):
    """Host trees with a new leading axis."""
    return jax.tree.map(lambda *leaves: np.stack(leaves), *trees)


@functools.partial(jax.jit, static_argnums=2)
def _epoch_scores(key, epochs_E, count: int):
    """[E, N] uniforms: rank n of epoch e draws with fold_in(fold_in(key, e), n)."""

    def score(epoch, rank):
        return jax.random.uniform(jax.random.fold_in(jax.random.fold_in(key, epoch), rank))

    over_ranks = jax.vmap(score, in_axes=(None, 0))
    return jax.vmap(over_ranks, in_axes=(0, None))(epochs_E, jnp.arange(count))


def step_shapes(buckets: Sequence[int], *, rows: int, spread: float) -> tuple[tuple[int, int], ...]:
    """Shapes (P, T) that steps of the inner loop may run at, for `inner.InnerSettings`.

    The shape of bucket b has room for `rows` sequences of b tokens on average, of which none is
    longer than spread * b. With spread 1 it is the padded form: every sequence takes b tokens.

    Args:
      buckets: ascending; no sequence is longer than the last.
      rows: sequences of a step, K * B.
      spread: at least 1.

    >>> step_shapes((16, 32, 48), rows=8, spread=2)
    ((128, 32), (256, 48), (384, 48))
    """
    return tuple(
        (rows * bucket, min(math.ceil(spread * bucket), buckets[-1])) for bucket in buckets
    )


def shape_index(total: int, longest: int, shapes: Sequence[tuple[int, int]]) -> int:
    """Index of the first shape that holds sequences of `total` tokens, the longest of `longest`.

    Raises:
      TooLong: none does.
    """
    for index, (packed, padded) in enumerate(shapes):
        if total <= packed and longest <= padded:
            return index
    raise TooLong(
        f"a step of {total} tokens, the longest sequence of {longest}, exceeds the largest shape "
        f"{shapes[-1]}."
    )


def make_schedule(
    lengths: Sequence[Sequence[int]],
    *,
    epochs: int | Sequence[int],
    batch_size: int,
    key: jax.Array,
    shapes: Sequence[tuple[int, int]],
    rows: int,
    max_epochs: int = 0,
    max_steps: int = 0,
) -> tuple[Schedule, "TokenCounts"]:
    """The order of training of a group of candidates.

    In each epoch a candidate meets its length ranks (0 is its longest sequence) in the order of one
    uniform per rank, drawn from the key and the rank alone, B at a time: who else is in the group
    changes nothing. With B = 1 all candidates meet the same rank at the same step, and skip the
    steps of ranks that they do not have, so that the sequences of a step are of like length.

    Args:
      lengths: each candidate's sequence lengths, in any order; at most `rows` each.
      epochs: passes over the data, of all candidates or of each.
      batch_size: B.
      key: of (seed, round, replicate); not of a context or candidate.
      shapes: (P, T) that a step may run at; see `step_shapes`.
      rows: N of the arrays; sets S = epochs * ceil(N / B).
      max_epochs: sets S in the place of `epochs` where it is larger, so that recipes with fewer
        epochs run in the same program.
      max_steps: S itself, where no candidate can take so many steps as that product.

    Raises:
      ValueError: a candidate takes more than S steps.
      TooLong: a step exceeds the largest shape.
    """
    count_K = np.array([len(candidate) for candidate in lengths])
    epochs_K = np.broadcast_to(epochs, len(lengths))
    lengths_KxN = np.zeros((len(lengths), rows), int)
    for k, candidate in enumerate(lengths):
        lengths_KxN[k, : len(candidate)] = sorted(candidate, reverse=True)
    most = max(int(epochs_K.max()), max_epochs)
    scores_ExN = np.asarray(_epoch_scores(key, np.arange(most), rows))
    size = max_steps or most * -(-rows // batch_size)
    place = _aligned if batch_size == 1 else _one_after_another
    ranks_KxSxB = place(scores_ExN, count_K, epochs_K, batch_size)
    num_steps = ranks_KxSxB.shape[1]
    if num_steps > size:
        raise ValueError(f"a candidate takes {num_steps} steps, more than the {size} there are.")
    lengths_KxSxB = np.take_along_axis(
        lengths_KxN, np.maximum(ranks_KxSxB, 0).reshape(len(lengths), -1), axis=1
    ).reshape(ranks_KxSxB.shape)
    lengths_KxSxB = np.where(ranks_KxSxB >= 0, lengths_KxSxB, 0)
    shapes_S = np.zeros(size, np.int32)
    shapes_S[:num_steps] = [
        shape_index(lengths_KxSxB[:, s].sum(), lengths_KxSxB[:, s].max(), shapes)
        for s in range(num_steps)
    ]
    padded_KxSxB = np.full((len(lengths), size, batch_size), -1, np.int32)
    padded_KxSxB[:, :num_steps] = ranks_KxSxB
    computed = sum(shapes[index][0] for index in shapes_S[:num_steps])
    schedule = Schedule(padded_KxSxB, shapes_S, np.int32(num_steps))
    return schedule, TokenCounts(real=int(lengths_KxSxB.sum()), computed=computed)


def _aligned(scores_ExN, count_K, epochs_K, batch_size: int) -> np.ndarray:
    """Ranks [K, S, 1], the same at each step for all candidates that have it; -1 for the others."""
    steps = []
    for epoch in range(epochs_K.max()):
        counts_K = np.where(epoch < epochs_K, count_K, 0)
        order = np.argsort(scores_ExN[epoch, : counts_K.max()], kind="stable")
        steps += [np.where(rank < counts_K, rank, -1) for rank in order]
    return np.array(steps, np.int32).reshape(-1, len(count_K), 1).swapaxes(0, 1)


def _one_after_another(scores_ExN, count_K, epochs_K, batch_size: int) -> np.ndarray:
    """Ranks [K, S, B], each candidate's from the first step on; -1 after its end."""
    steps_K = epochs_K * -(-count_K // batch_size)
    ranks_KxSxB = np.full((len(count_K), steps_K.max(), batch_size), -1, np.int32)
    for k, count in enumerate(count_K):
        step = 0
        for scores_N in scores_ExN[: epochs_K[k]]:
            order = np.argsort(scores_N[:count], kind="stable")
            for first in range(0, count, batch_size):
                chosen = order[first : first + batch_size]
                ranks_KxSxB[k, step, : len(chosen)] = chosen
                step += 1
    return ranks_KxSxB


@dataclasses.dataclass(frozen=True)
class TokenCounts:
    """How many of the tokens that a program's dense layers compute on are real."""

    real: int
    computed: int


def steps_of(num_sequences: int, *, epochs: int, batch_size: int) -> int:
    """Optimizer steps that a candidate takes."""
    return epochs * -(-num_sequences // batch_size)


def groups_of_like_cost(costs: Sequence[tuple[int, ...]], *, size: int) -> list[list[int]]:
    """Groups of candidates of like cost: their indices, at most `size` a group.

    A pure function of its arguments. Candidates are ordered by cost (such as number of steps, then
    number of tokens), then by index, and cut into groups.

    >>> groups_of_like_cost([(1, 5), (2, 6), (1, 4), (2, 4)], size=2)
    [[2, 0], [3, 1]]
    """
    order = sorted(range(len(costs)), key=lambda i: (costs[i], i))
    return [order[first : first + size] for first in range(0, len(order), size)]


def right_align(prompts: Sequence[Sequence[int]], *, rows: int, buckets: Sequence[int], what: str):
    """Prompts as (tokens [rows, T], lengths [rows]) with padding on the left.

    Args:
      prompts: token ids, at most `rows` of them; missing rows have length 0.
      buckets: T is the smallest that holds them all.
      what: names the setting in the error.

    Raises:
      TooLong: a prompt exceeds the largest bucket.
    """
    longest = max(map(len, prompts), default=0)
    try:
        width = buckets[bucket_index(longest, buckets)]
    except TooLong as error:
        raise TooLong(f"{error} Raise {what}, or shorten the text.") from None
    tokens_PxT = np.zeros((rows, width), np.int32)
    lengths_P = np.zeros(rows, np.int32)
    for i, prompt in enumerate(prompts):
        tokens_PxT[i, width - len(prompt) :] = prompt
        lengths_P[i] = len(prompt)
    return tokens_PxT, lengths_P


def queries(
    prompts: Sequence[Sequence[int]],
    answers: Sequence[Sequence[int]],
    *,
    rows: int,
    length: int,
    answer_length: int,
) -> Queries:
    """Queries with gold answers as right-padded arrays; answers are cut at `answer_length`."""
    tokens_QxT = np.zeros((rows, length + answer_length), np.int32)
    answers_QxA = np.zeros((rows, answer_length), np.int32)
    prompt_lengths_Q = np.zeros(rows, np.int32)
    answer_lengths_Q = np.zeros(rows, np.int32)
    for i, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        answer = answer[:answer_length]
        both = [*prompt, *answer]
        tokens_QxT[i, : len(both)] = both
        answers_QxA[i, : len(answer)] = answer
        prompt_lengths_Q[i], answer_lengths_Q[i] = len(prompt), len(answer)
    return Queries(tokens_QxT, prompt_lengths_Q, answers_QxA, answer_lengths_Q)


def smaller_size(size: int, devices: int) -> int | None:
    """About half of so many; None where fewer would not need less memory on a device.

    A number that the devices divide among them stays one: otherwise each has them all.

    >>> smaller_size(8, 1), smaller_size(5, 1), smaller_size(1, 1)
    (4, 2, None)
    >>> smaller_size(12, 4), smaller_size(4, 4)
    (4, None)
    """
    multiple = devices if size % devices == 0 else 1
    return size // 2 // multiple * multiple or None
