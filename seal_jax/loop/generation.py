"""Prompts to K adapted models: the texts that they write, and what they think of given ones.

Each model has a list of prompts of its own. They go through the programs
settings.answers.questions_at_once at a time, so that their number compiles nothing new.
Nothing here reads or writes a file.
"""

import math
from collections.abc import Iterator, Sequence
from typing import TypeVar

import jax
import numpy as np

from seal_jax.core import batching, evaluate, sampling
from seal_jax.core.delta import Delta
from seal_jax.core.randomness import keys_for
from seal_jax.loop.opened_model import OpenedModel

Tokens = Sequence[int]
_Item = TypeVar("_Item")


def write(
    opened: OpenedModel,
    params,
    deltas_K: Delta | None,
    prompts: Sequence[Sequence[Tokens]],
    *,
    width: int,
    draws: Sequence[tuple] | None = None,
    sample: sampling.SampleSettings | None = None,
    at_once: int | None = None,
) -> list[list[str]]:
    """The texts with which K models continue their prompts.

    Args:
      deltas_K: K stacked deltas, or None for the unadapted model.
      prompts: token ids of at most K = inner.candidates models' prompts.
      width: a length in tokens that holds every prompt.
      draws: name each model's samples in the keys (unused when greedy); None draws the same for
        all.
      sample: how tokens are chosen; None is as settings.answers says.
      at_once: prompts of one model that go through the program together; None is
        settings.answers.questions_at_once.
    """
    answers = opened.settings.answers
    sample = sample or answers.sample_settings(opened.stop_ids)
    draws = draws or [("answer",)] * len(prompts)
    texts: list[list[str]] = [[] for _ in prompts]
    size = at_once or answers.questions_at_once
    for first, part in _parts(prompts, size):
        names = [(*draw, first) for draw in draws]
        written = _write(opened, params, deltas_K, part, width, names, sample, size)
        for known, more in zip(texts, written, strict=True):
            known += more
    return texts


def _write(opened: OpenedModel, params, deltas_K, prompts, width: int, draws, sample, at_once: int):
    """`write` for a part of the prompts."""
    settings = opened.settings
    count = settings.inner.candidates
    aligned = [
        batching.right_align(
            prompts[k] if k < len(prompts) else [],
            rows=at_once,
            buckets=(width,),
            what="answers.prompt_buckets",
        )
        for k in range(count)
    ]
    names = [*draws, *[draws[0]] * (count - len(draws))]
    rows = [(*name, row) for name in names for row in range(at_once)]
    keys = keys_for(settings.seed, rows)
    out = evaluate.answers_of_candidates(
        (opened.model, sample),
        params,
        deltas_K,
        *opened.devices.shard(batching.stack(aligned)),
        opened.devices.shard(keys).reshape(count, at_once),
    )
    tokens_KxQxN, lengths_KxQ = (
        np.asarray(leaf).reshape(count, at_once, *leaf.shape[1:])
        for leaf in jax.device_get((out.tokens_BxN, out.lengths_B))
    )
    return [
        [opened.decode(tokens_KxQxN[k, q, : lengths_KxQ[k, q]]) for q in range(len(of))]
        for k, of in enumerate(prompts)
    ]


def likelihoods(
    opened: OpenedModel,
    params,
    deltas_K: Delta | None,
    prompts: Sequence[Sequence[Tokens]],
    golds: Sequence[Sequence[Tokens]],
    *,
    width: int,
    max_gold_tokens: int | None = None,
) -> list[list[float | None]]:
    """log p(gold | prompt) under each of K models, in nats; None where it is not finite.

    Args:
      golds: token ids of what should follow each prompt, cut at max_gold_tokens.
      width: a length in tokens that holds every prompt.
      max_gold_tokens: None is answers.max_gold_tokens.
    """
    limit = max_gold_tokens or opened.settings.answers.max_gold_tokens
    found: list[list[float | None]] = [[] for _ in prompts]
    size = opened.settings.answers.questions_at_once
    for (_, asked), (_, wanted) in zip(_parts(prompts, size), _parts(golds, size), strict=True):
        believed = _likelihoods(opened, params, deltas_K, asked, wanted, width, limit)
        for known, more in zip(found, believed, strict=True):
            known += more
    return found


def _likelihoods(opened: OpenedModel, params, deltas_K, prompts, golds, width: int, limit: int):
    """`likelihoods` for a part of the prompts."""
    settings = opened.settings
    rows = [
        batching.queries(
            asked,
            wanted,
            rows=settings.answers.questions_at_once,
            length=width,
            answer_length=limit,
        )
        for asked, wanted in zip(prompts, golds, strict=True)
    ]
    empty = jax.tree.map(np.zeros_like, rows[0])
    rows += [empty] * (settings.inner.candidates - len(rows))
    lls_KxQ = jax.device_get(
        evaluate.gold_log_likelihoods_of_candidates(
            opened.model, params, deltas_K, opened.devices.shard(batching.stack(rows))
        )
    )
    return [[finite(lls_KxQ[k, q]) for q in range(len(of))] for k, of in enumerate(prompts)]


def _parts(lists: Sequence[Sequence[_Item]], size: int) -> Iterator[tuple[int, list]]:
    """(first, the items of each list from there on, at most `size`) until all were had."""
    for first in range(0, max(map(len, lists)), size):
        yield first, [items[first : first + size] for items in lists]


def finite(value) -> float | None:
    """The value as a number for the records; None where it is NaN or infinite."""
    return float(value) if math.isfinite(value) else None
