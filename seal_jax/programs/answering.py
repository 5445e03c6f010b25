"""Asking K models the questions of their contexts: answers, verdicts, gold log-likelihoods.

Nothing here reads or writes a file. A record is a dict of JSON values, ready for the ledger.
"""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np

from seal_jax import batching, evaluate, parallel
from seal_jax.delta import Delta
from seal_jax.programs.session import Session
from seal_jax.randomness import keys_for
from seal_jax.tasks.base import Answered, Context, Question, Verdict

Record = dict[str, Any]


def ask(
    session: Session,
    params,
    deltas_K: Delta | None,
    contexts,
    width: int,
    *,
    passage: bool = False,
) -> list[list[Record]]:
    """Asks K models the questions of one context each, and grades their answers.

    Args:
      deltas_K: K stacked deltas, or None for the unadapted model.
      contexts: at most K = inner.candidates contexts.
      width: see Session.query_width.
      passage: whether each question comes with its passage.

    Returns:
      For each context, a record a question: its id, the answer's text, correct (None where it is
      ungraded, with the reason in "ungraded"), empty and gold_log_likelihood (None where it is not
      finite).
    """
    beliefs = believe(session, params, deltas_K, contexts, width, passage=passage)
    texts: list[list[str]] = [[] for _ in contexts]
    for part in _parts(session, contexts):
        answers = _answer(session, params, deltas_K, part, width, passage)
        for said, more in zip(texts, answers, strict=True):
            said += more
    verdicts = iter(
        session.grader.grade(
            [
                Answered(
                    query=session.task.query(context, question),
                    question=question.text,
                    gold=question.answer,
                    prediction=text,
                )
                for context, said in zip(contexts, texts, strict=True)
                for question, text in zip(context.questions, said, strict=True)
            ]
        )
    )
    return [
        [
            _record(question, text, next(verdicts), belief)
            for question, text, belief in zip(context.questions, said, believed, strict=True)
        ]
        for context, said, believed in zip(contexts, texts, beliefs, strict=True)
    ]


def _record(question: Question, text: str, verdict: Verdict, belief: float | None) -> Record:
    return {
        "question": question.id,
        "text": text,
        "correct": verdict.correct,
        "empty": verdict.empty,
        "ungraded": verdict.reason if verdict.correct is None else None,
        "gold_log_likelihood": belief,
    }


def _parts(session: Session, contexts: Sequence[Context]) -> Iterator[list[Context]]:
    """The contexts with at most answers.questions_at_once of their questions, until all were."""
    size = session.settings.answers.questions_at_once
    for first in range(0, max(len(context.questions) for context in contexts), size):
        yield [
            dataclasses.replace(context, questions=context.questions[first : first + size])
            for context in contexts
        ]


def _answer(session: Session, params, deltas_K, contexts, width, passage) -> list[list[str]]:
    """The answers of K models to a part of the questions of one context each."""
    settings = session.settings
    prompts = [[session.query(c, q, passage) for q in c.questions] for c in contexts]
    count, at_once = settings.inner.candidates, settings.answers.questions_at_once
    aligned = [
        batching.right_align(
            prompts[k] if k < len(prompts) else [],
            rows=at_once,
            buckets=(width,),
            what="answers.prompt_buckets",
        )
        for k in range(count)
    ]
    keys = keys_for(settings.seed, [("answer",)] * (count * at_once))
    out = evaluate.answers_of_candidates(
        (session.model, settings.answers.sample_settings(session.stop_ids)),
        params,
        deltas_K,
        *parallel.shard(batching.stack(aligned)),
        parallel.shard(keys).reshape(count, at_once),
    )
    tokens_KxQxN, lengths_KxQ = (
        np.asarray(leaf).reshape(count, at_once, *leaf.shape[1:])
        for leaf in jax.device_get((out.tokens_BxN, out.lengths_B))
    )
    return [
        [session.decode(tokens_KxQxN[k, q, : lengths_KxQ[k, q]]) for q in range(len(c.questions))]
        for k, c in enumerate(contexts)
    ]


def believe(
    session: Session,
    params,
    deltas_K: Delta | None,
    contexts,
    width: int,
    *,
    passage: bool = False,
) -> list[list[float | None]]:
    """Gold log-likelihoods of the questions of one context for each of K models, in nats."""
    found: list[list[float | None]] = [[] for _ in contexts]
    for part in _parts(session, contexts):
        believed = _believe(session, params, deltas_K, part, width, passage)
        for known, more in zip(found, believed, strict=True):
            known += more
    return found


def _believe(session: Session, params, deltas_K, contexts, width, passage):
    """`believe` for a part of the questions."""
    settings = session.settings
    rows = [
        batching.queries(
            [session.query(context, q, passage) for q in context.questions],
            [session.gold(q) for q in context.questions],
            rows=settings.answers.questions_at_once,
            length=width,
            answer_length=settings.answers.max_gold_tokens,
        )
        for context in contexts
    ]
    empty = jax.tree.map(np.zeros_like, rows[0])
    rows += [empty] * (settings.inner.candidates - len(rows))
    lls_KxQ = jax.device_get(
        evaluate.gold_log_likelihoods_of_candidates(
            session.model, params, deltas_K, parallel.shard(batching.stack(rows))
        )
    )
    return [
        [finite(lls_KxQ[k, q]) for q in range(len(context.questions))]
        for k, context in enumerate(contexts)
    ]


def finite(value) -> float | None:
    """The value as a number for the records; None where it is NaN or infinite."""
    return float(value) if math.isfinite(value) else None
