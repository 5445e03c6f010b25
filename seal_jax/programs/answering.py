"""Asking K models the questions of their contexts: answers, verdicts, gold log-likelihoods.

Nothing here reads or writes a file. A record is a dict of JSON values, ready for the ledger.
"""

import math
from typing import Any

import jax
import numpy as np

from seal_jax import batching, evaluate, parallel
from seal_jax.delta import Delta
from seal_jax.programs.session import Session
from seal_jax.randomness import keys_for
from seal_jax.tasks.base import Answered, Question, Verdict

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
    settings = session.settings
    prompts = [[session.query(c, q, passage) for q in c.questions] for c in contexts]
    count, per_context = settings.inner.candidates, settings.data.max_questions
    aligned = [
        batching.right_align(
            prompts[k] if k < len(prompts) else [],
            rows=per_context,
            buckets=(width,),
            what="answers.prompt_buckets",
        )
        for k in range(count)
    ]
    out = evaluate.answers_of_candidates(
        (session.model, settings.answers.sample_settings(session.stop_ids)),
        params,
        deltas_K,
        *parallel.shard(batching.stack(aligned)),
        parallel.shard(keys_for(settings.seed, [("answer",)] * (count * per_context))).reshape(
            count, per_context
        ),
    )
    tokens_KxQxN, lengths_KxQ = (
        np.asarray(leaf).reshape(count, per_context, *leaf.shape[1:])
        for leaf in jax.device_get((out.tokens_BxN, out.lengths_B))
    )
    beliefs = believe(session, params, deltas_K, contexts, width, passage=passage)
    texts = [
        [session.decode(tokens_KxQxN[k, q, : lengths_KxQ[k, q]]) for q in range(len(c.questions))]
        for k, c in enumerate(contexts)
    ]
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
    settings = session.settings
    rows = [
        batching.queries(
            [session.query(context, q, passage) for q in context.questions],
            [session.gold(q) for q in context.questions],
            rows=settings.data.max_questions,
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
