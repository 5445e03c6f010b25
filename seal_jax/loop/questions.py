"""Questions and gold answers that the policy or a teacher writes where the data has none."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from seal_jax.loop.policies import Policy
from seal_jax.loop.run import Run
from seal_jax.loop.sources import Sources
from seal_jax.tasks.protocol import Context, Question


def written(run: Run, contexts: Sequence[Context], split: str) -> list[Context]:
    """The contexts with their questions; unchanged where the data has them.

    What is written is recorded: a run that is continued asks no more.

    Args:
      split: names them in the ledger and in the keys.
    """
    task = run.session.task
    if not task.questioner or not contexts:
        return list(contexts)

    def work() -> dict[str, Any]:
        sources = Sources(run, {"base": Policy(run, 0)}, contexts, split)
        found = sources.answered(task.ask(contexts), "questions")
        return {"of": {c.id: [[q.id, q.text, q.answer] for q in c.questions] for c in found}}

    record = run.once("questions", split, work, together=True)
    found = [with_questions(context, record) for context in contexts]
    count = sum(len(context.questions) for context in found)
    by = f"written by the {task.questioner}"
    run.say(f"{split}: {count} questions about {len(found)} contexts, {by}")
    return found


def with_questions(context: Context, record: dict[str, Any]) -> Context:
    """A context with its questions in a record, if there are any."""
    of = record["of"].get(context.id)
    if of is None:
        return context
    return dataclasses.replace(context, questions=tuple(Question(*one) for one in of))
