"""Our logits and greedy continuations of the tiny checkpoints."""

import functools

import jax
import numpy as np

from seal_jax.core import batching, sampling
from seal_jax.core.model import decoder

from . import checkpoints

# Of the sequences whose logits are compared, and the prompts that are continued.
LENGTHS = (1, 2, 7, 16, 23)
MAX_NEW_TOKENS = 16


@functools.partial(jax.jit, static_argnums=0)
def _logits(config, params, tokens_BxT, delta):
    hidden_BxTxD = decoder.hidden_states(config, params, tokens_BxT, delta=delta)
    return decoder.logits(config, params, hidden_BxTxD, delta=delta)


def logits(name: str, sequences, *, delta=None, params=None, config=None) -> list[np.ndarray]:
    """[T, V] logits of each sequence, computed in one right-padded batch.

    `params` and `config` take the place of the checkpoint's.
    """
    tokens_BxT = np.full((len(sequences), max(map(len, sequences))), 7, np.int32)
    for row, sequence in enumerate(sequences):
        tokens_BxT[row, : len(sequence)] = sequence
    config = config or checkpoints.model_config(name)
    params = checkpoints.params(name) if params is None else params
    logits_BxTxV = np.asarray(_logits(config, params, tokens_BxT, delta))
    return [rows[: len(sequence)] for rows, sequence in zip(logits_BxTxV, sequences, strict=True)]


def part(logits: list[np.ndarray]) -> np.ndarray:
    """What is stored of the logits of sequences: every third token's."""
    return np.concatenate(logits)[:, ::3]


def cached_greedy(name: str, prompts, stop_ids=(), *, delta=None, params=None) -> list[list[int]]:
    """New tokens of each prompt by `sampling.generate`: all in one right-aligned batch.

    `params` take the place of the checkpoint's.
    """
    settings = sampling.SampleSettings(
        max_new_tokens=MAX_NEW_TOKENS, temperature=0.0, stop_ids=tuple(stop_ids)
    )
    width = max(map(len, prompts)) + 3
    tokens_PxT, lengths_P = batching.right_align(
        prompts, rows=len(prompts) + 1, buckets=(width,), what="the width"
    )
    samples = sampling.generate_jit(
        (checkpoints.model_config(name), settings),
        checkpoints.params(name) if params is None else params,
        tokens_PxT,
        lengths_P,
        jax.random.split(jax.random.key(0), len(lengths_P)),
        delta=delta,
    )
    return [
        [int(token) for token in row[:length]]
        for row, length in zip(np.asarray(samples.tokens_BxN), samples.lengths_B, strict=True)
    ][: len(prompts)]


def uncached_greedy(name: str, prompts, *, delta=None) -> list[list[int]]:
    """The same without a cache: the whole text goes through the model for every token."""
    config, params = checkpoints.model_config(name), checkpoints.params(name)
    rows = np.arange(len(prompts))
    lengths_P = np.array([len(prompt) for prompt in prompts])
    tokens_PxT = np.zeros((len(prompts), lengths_P.max() + MAX_NEW_TOKENS), np.int32)
    for row, prompt in enumerate(prompts):
        tokens_PxT[row, : len(prompt)] = prompt
    for n in range(MAX_NEW_TOKENS):
        logits_PxTxV = _logits(config, params, tokens_PxT, delta)
        last_PxV = np.asarray(logits_PxTxV)[rows, lengths_P + n - 1]
        tokens_PxT[rows, lengths_P + n] = last_PxV.argmax(axis=-1)
    return [
        tokens_PxT[row, length : length + MAX_NEW_TOKENS].tolist()
        for row, length in zip(rows, lengths_P, strict=True)
    ]


def stops(continuations: list[list[int]]) -> tuple[int, ...]:
    """Two stop tokens that free continuations run into at different places."""
    return continuations[0][3], continuations[2][8]


def cut(continuation: list[int], stop_ids: tuple[int, ...]) -> list[int]:
    """What remains of a free continuation when it ends with its first stop token."""
    ends = [n + 1 for n, token in enumerate(continuation) if token in stop_ids]
    return continuation[: ends[0]] if ends else continuation
