"""Questions and answers where the data has none: by the policy, a teacher, a rule or a reader."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from seal_jax.loop import attempt
from seal_jax.loop.policies import Policy
from seal_jax.loop.run import Run
from seal_jax.loop.sources import Sources
from seal_jax.loop.stage import Stage
from seal_jax.tasks.protocol import Context, Question


def written(run: Run, contexts: Sequence[Context], split: str, by: str) -> list[Context]:
    """The contexts with their questions; unchanged where the data has them.

    What is written is recorded: a run that is continued asks no more.

    Args:
      split: names them in the ledger and in the keys.
      by: who writes them; "" is nobody.
    """
    task = run.session.task
    if not by or not contexts:
        return list(contexts)

    def work() -> dict[str, Any]:
        sources = Sources(run, {"base": Policy(run, 0)}, contexts, split)
        found = sources.answered(task.ask(contexts, by), "questions")
        return {"of": {c.id: [[q.id, q.text, q.answer] for q in c.questions] for c in found}}

    record = run.once("questions", split, work, together=True)
    found = [with_questions(context, record) for context in contexts]
    count = sum(len(context.questions) for context in found)
    made = "made by rule" if by == "rule" else f"written by the {by}"
    run.say(f"{split}: {count} questions about {len(found)} contexts, {made}")
    return found


def read(run: Run, contexts: Sequence[Context]) -> list[Context]:
    """Training contexts whose gold answers are what the run's base model answers when it reads.

    Questions to which it says nothing are left out. The answers are in the ledger.
    """
    asked = [context for context in contexts if context.questions]
    width = run.session.width(asked, "reading")
    stage = Stage(kind="unadapted", split="train", what="prompt")
    marks = attempt.answer(run, Policy(run, 0), asked, stage=stage, width=width, view="reading")
    said = {one["question"]: one["text"].strip() for of in marks.values() for one in of["answers"]}

    def answered(context: Context) -> Context:
        every = [dataclasses.replace(q, answer=said.get(q.id, "")) for q in context.questions]
        return dataclasses.replace(context, questions=tuple(q for q in every if q.answer))

    found = list(map(answered, contexts))
    of = {c.id: [[q.id, q.text, q.answer] for q in c.questions] for c in found}
    run.once("questions", "train read", lambda: {"of": of})
    return found


def with_questions(context: Context, record: dict[str, Any]) -> Context:
    """A context with its questions in a record, if there are any."""
    of = record["of"].get(context.id)
    if of is None:
        return context
    return dataclasses.replace(context, questions=tuple(Question(*one) for one in of))
