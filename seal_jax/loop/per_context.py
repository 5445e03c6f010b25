"""Per-context results, keyed by id: what `compare` pairs the runs of."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from seal_jax.tasks.protocol import Context

Answer = Mapping[str, Any]


def per_context(
    contexts: Sequence[Context], answers_of: Mapping[str, Sequence[Sequence[Sequence[Answer]]]]
) -> dict[str, Any]:
    """The results of every arm, by context id.

    Args:
      contexts: in the order of the answers.
      answers_of: for each arm, its answer records [C][E][Q]: for each context and each edit, a
        record a question with "question" (its id), "correct" (None where it is ungraded), "empty"
        and "gold_log_likelihood" (None where it is not finite).

    Returns:
      {context id: {"title", "arms": {arm: {"questions": ids, "accuracy" and "gold_log_likelihood":
      one value a question, "empty" and "ungraded": numbers of answers}}}}. A question's value is
      the mean over the edits that have one, and None where none has.

    Raises:
      ValueError: two contexts have one id.
    """
    found: dict[str, Any] = {}
    for c, context in enumerate(contexts):
        if context.id in found:
            raise ValueError(
                f"two contexts have the id {context.id!r}: results are kept by id, so each context "
                "needs its own."
            )
        arms = {name: _of_context(answers[c]) for name, answers in answers_of.items()}
        found[context.id] = {"title": context.title, "arms": arms}
    return found


def _of_context(edits: Sequence[Sequence[Answer]]) -> dict[str, Any]:
    by_question = list(zip(*edits, strict=True))
    answers = [answer for edit in edits for answer in edit]
    return {
        "questions": [of[0]["question"] for of in by_question],
        "accuracy": [_mean([answer["correct"] for answer in of]) for of in by_question],
        "gold_log_likelihood": [
            _mean([answer["gold_log_likelihood"] for answer in of]) for of in by_question
        ],
        "empty": sum(bool(answer["empty"]) for answer in answers),
        "ungraded": sum(answer["correct"] is None for answer in answers),
    }


def _mean(values: Sequence[float | None]) -> float | None:
    """The mean of the values that are there.

    >>> _mean([1, None, 0]), _mean([None])
    (0.5, None)
    """
    there = [float(value) for value in values if value is not None]
    return float(np.mean(there)) if there else None
