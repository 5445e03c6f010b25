"""Asking K models the questions of their contexts: answers, verdicts, gold log-likelihoods.

Nothing here reads or writes a file. A record is a dict of JSON values, ready for the ledger.
"""

from collections.abc import Sequence
from typing import Any

from seal_jax.core.delta import Delta
from seal_jax.loop import generation
from seal_jax.loop.session import Session
from seal_jax.tasks.protocol import Answered, Context, Question, Verdict

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
    prompts = _prompts(session, contexts, passage)
    texts = generation.write(session, params, deltas_K, prompts, width=width)
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


def _prompts(session: Session, contexts: Sequence[Context], passage: bool) -> list[list[list[int]]]:
    """Token ids of each context's questions."""
    return [[session.query(c, q, passage) for q in c.questions] for c in contexts]


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
    golds = [[session.gold(question) for question in c.questions] for c in contexts]
    prompts = _prompts(session, contexts, passage)
    return generation.likelihoods(session, params, deltas_K, prompts, golds, width=width)
