"""Prompts to K models: the texts that they continue them with, and how likely given ones are.

Each model has a list of prompts of its own. They go through the programs
settings.answers.questions_at_once at a time, so that their number compiles nothing new.
Nothing here reads or writes a file.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

import jax
import numpy as np

from seal_jax.core import batching, evaluate, sampling
from seal_jax.core.constrained import Automaton
from seal_jax.core.delta import Delta
from seal_jax.core.randomness import keys_for
from seal_jax.loop.session import EncodedExam, Session
from seal_jax.tasks.generated import Said

Record = dict[str, Any]
_Item = TypeVar("_Item")


def ask(
    session: Session,
    params,
    deltas_K: Delta | None,
    exams: Sequence[EncodedExam],
    *,
    count: int,
    width: int,
    draws: Sequence[tuple],
) -> list[Record]:
    """Asks K models one exam each.

    Args:
      deltas_K: K stacked deltas, or None for the unadapted model.
      exams: at most K.
      count: K.
      width: see `Session.width`; prompts beyond it are left out.
      draws: of each exam, what names its answers in the keys, with the prompt's id.

    Returns:
      For each exam {"texts": answers by prompt id, "gold_log_likelihoods": see `score`}, and where
      there are some "thoughts" by prompt id, and "cut_off", the prompts whose answers end at the
      length limit.
    """
    likelihoods = score(session, params, deltas_K, exams, count=count, width=width)
    asked = [
        {
            one.id: tokens
            for one, tokens in zip(exam.exam.asked, exam.prompts, strict=True)
            if len(tokens) <= width
        }
        for exam in exams
    ]
    prompts = [list(of.values()) for of in asked]
    named = [[(*draw, id) for id in of] for draw, of in zip(draws, asked, strict=True)]
    found = generate(session, params, deltas_K, prompts, count=count, width=width, draws=named)
    return [
        _record(dict(zip(of, said, strict=True)), known)
        for of, said, known in zip(asked, found, likelihoods, strict=True)
    ]


def _record(said: Mapping[str, Said], likelihoods: Mapping[str, float | None]) -> Record:
    """What one model says in an exam; thoughts and texts that are cut off only where there are."""
    beside = {
        "thoughts": {id: of.thoughts for id, of in said.items() if of.thoughts},
        "cut_off": [id for id, of in said.items() if of.cut_off],
    }
    return {
        "texts": {id: of.text for id, of in said.items()},
        "gold_log_likelihoods": likelihoods,
        **{name: of for name, of in beside.items() if of},
    }


def score(
    session: Session,
    params,
    deltas_K: Delta | None,
    exams: Sequence[EncodedExam],
    *,
    count: int,
    width: int,
) -> list[dict[str, float | None]]:
    """Log-likelihoods of the gold answers of K models' exams; see `ask`.

    Returns:
      For each exam nats by question, None where it is not finite; questions without a gold answer
      are left out.
    """
    prompts = [[prompt for prompt, _ in exam.scored] for exam in exams]
    golds = [[gold for _, gold in exam.scored] for exam in exams]
    found = gold_log_likelihoods(
        session, params, deltas_K, prompts, golds, count=count, width=width
    )
    return [
        {
            one.question: value
            for one, value in zip(exam.exam.scored, of, strict=True)
            if one.gold.strip()
        }
        for exam, of in zip(exams, found, strict=True)
    ]


def generate(
    session: Session,
    params,
    deltas_K: Delta | None,
    prompts: Sequence[Sequence[Sequence[int]]],
    *,
    count: int,
    width: int,
    draws: Sequence[Sequence[tuple]],
    sample: sampling.SampleSettings | None = None,
    at_once: int | None = None,
    automaton: Automaton | None = None,
) -> list[list[Said]]:
    """The texts with which K models continue their prompts.

    Args:
      prompts: token ids of at most K models' prompts.
      width: a length in tokens that holds every prompt.
      draws: what names the text of each model's prompts in the keys (unused when greedy).
      sample: how tokens are chosen; None is as settings.answers says.
      at_once: prompts of one model that go through the program together; None is
        settings.answers.questions_at_once.
      automaton: what the texts are held to, or None.
    """
    answers = session.settings.answers
    sample = sample or answers.sample_settings(session.stop_ids)
    size = at_once or answers.questions_at_once
    found: list[list[Said]] = [[] for _ in prompts]
    for first, part in _parts(prompts, size):
        aligned = [
            batching.right_align(of, rows=size, buckets=(width,), what="answers.prompt_buckets")
            for of in [*part, *[[]] * (count - len(part))]
        ]
        # By what is asked alone: not by its place among the rows, nor by how many there are.
        of_models = [of[first : first + size] if sample.temperature else [] for of in draws]
        of_models += [[]] * (count - len(of_models))
        rows = [name for of in of_models for name in (*of, *[("padding",)] * (size - len(of)))]
        keys = keys_for(session.settings.seed, rows)
        out = evaluate.answers_of_candidates(
            (session.model, sample),
            params,
            deltas_K,
            *session.devices.shard(batching.stack(aligned)),
            session.devices.shard(keys).reshape(count, size),
            automaton,
        )
        tokens_BxN, lengths_B, stopped_B = jax.device_get(
            (out.tokens_BxN, out.lengths_B, out.stopped_B)
        )
        for k, of in enumerate(part):
            for row, prompt in enumerate(of, start=k * size):
                tokens = tokens_BxN[row, : lengths_B[row]].tolist()
                found[k].append(session.read(tokens, prompt, bool(stopped_B[row])))
    return found


def gold_log_likelihoods(
    session: Session,
    params,
    deltas_K: Delta | None,
    prompts: Sequence[Sequence[Sequence[int]]],
    golds: Sequence[Sequence[Sequence[int]]],
    *,
    count: int,
    width: int,
    max_gold_tokens: int | None = None,
) -> list[list[float | None]]:
    """log p(gold | prompt) under each of K models, in nats; None where it is not finite.

    Args:
      golds: token ids of what should follow each prompt, cut at max_gold_tokens.
      max_gold_tokens: None is answers.max_gold_tokens.
    """
    settings = session.settings.answers
    size, limit = settings.questions_at_once, max_gold_tokens or settings.max_gold_tokens
    found: list[list[float | None]] = [[] for _ in prompts]
    for (_, asked), (_, gold) in zip(_parts(prompts, size), _parts(golds, size), strict=True):
        queries = [
            batching.queries(of, wanted, rows=size, length=width, answer_length=limit)
            for of, wanted in zip(asked, gold, strict=True)
        ]
        queries += [jax.tree.map(np.zeros_like, queries[0])] * (count - len(queries))
        lls_KxQ = jax.device_get(
            evaluate.gold_log_likelihoods_of_candidates(
                session.model, params, deltas_K, session.devices.shard(batching.stack(queries))
            )
        )
        for k, of in enumerate(asked):
            found[k] += [finite(lls_KxQ[k, q]) for q in range(len(of))]
    return found


def text_losses(
    session: Session,
    params,
    deltas_K: Delta | None,
    texts: Sequence[Sequence[int]],
    *,
    models: int,
    count: int,
) -> list[float | None]:
    """The mean loss of some models on the same texts, in nats a token.

    None where one is not finite, or where no text has a second token.

    Args:
      texts: token ids; the first of each is given.
      models: how many, at most `count`.
    """
    found = gold_log_likelihoods(
        session,
        params,
        deltas_K,
        [[tokens[:1] for tokens in texts]] * models,
        [[tokens[1:] for tokens in texts]] * models,
        count=count,
        width=1,
        max_gold_tokens=max(map(len, texts)) - 1,
    )
    tokens = sum(len(text[1:]) for text in texts)
    return [
        None if None in of or not tokens else -float(np.sum(np.array(of, float))) / tokens
        for of in found
    ]


def finite(value) -> float | None:
    """The value as a number for the records; None where it is NaN or infinite."""
    return float(value) if math.isfinite(value) else None


def _parts(lists: Sequence[Sequence[_Item]], size: int) -> Iterator[tuple[int, list]]:
    """(first, the items of each list from there on, at most `size`) until all were had."""
    for first in range(0, max(map(len, lists), default=0), size):
        yield first, [items[first : first + size] for items in lists]
