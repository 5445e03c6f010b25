"""Self-distillation: the base model that reads a passage teaches the base model that does not.

It writes questions about the passage, answers them with the passage in the prompt, and learns the
answers without it, as in prompt distillation (arXiv 2412.14964; context distillation, arXiv
2209.15189). What is learned are the sampled answers: their cross-entropy estimates, up to a
constant, the forward KL divergence from the reader's answers, by which the first of them learns.
With inner.loss "distillation" it is that divergence, token by token (`core.distillation`).
"""

import dataclasses
from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any

from seal_jax.tasks.knowledge import asking, prompt
from seal_jax.tasks.protocol import (
    Context,
    Lesson,
    Lessons,
    Passage,
    Refusal,
    Reply,
    Request,
    Sequence_,
    Tell,
    Write,
)

if TYPE_CHECKING:
    from seal_jax.tasks.knowledge.task import KnowledgeTask

_PASSAGE = frozenset({"title", "passage"})
NO_ANSWER = "no question that can be read was written and answered"


@dataclasses.dataclass(frozen=True)
class SelfDistillation:
    """The base model's answers, as it reads, to the questions that it writes itself.

    Attributes:
      task: of whose passages.
      label: for tables.
    """

    task: "KnowledgeTask"
    label: str = "self-distillation"

    def lessons(self, contexts: Sequence[Context], count: int) -> Generator[Request, Any, Lessons]:
        """A lesson for each list of questions: its answers, and the passage."""
        replies = yield from self._replies(contexts, count)
        append = self.task.settings.edits.append_passage

        def lesson(context: Context, said: list[Reply]) -> Lesson | Refusal:
            own = self.task.context_sequences(context) if append else []
            if not said:
                return Refusal(NO_ANSWER, invalid=False)
            return Lesson(sequences=(*said, *own))

        pairs = zip(contexts, replies, strict=True)
        return [[lesson(context, said) for said in of] for context, of in pairs]

    def together(
        self, contexts: Sequence[Context], count: int, passage: Passage
    ) -> Generator[Request, Any, list[Sequence_]]:
        """The answers about all passages."""
        replies = yield from self._replies(contexts, count)
        found: list[Sequence_] = []
        for context, of in zip(contexts, replies, strict=True):
            said = [one for one in of if one]
            times = {"once": 1, "per_completion": max(len(said), 1), "none": not said}
            found += [reply for one in said for reply in one]
            found += self.task.context_sequences(context) * times[passage]
        return found

    def _replies(
        self, contexts: Sequence[Context], count: int
    ) -> Generator[Request, Any, list[list[list[Reply]]]]:
        """[C][M] the answered questions of each list."""
        ask, reading = self._template("ask", _PASSAGE), self._template("reading", asking.READING)
        keys = {(c.id, m): f"{c.id}: {m}" for c in contexts for m in range(count)}

        def about(context: Context) -> dict[str, str]:
            return {"title": context.title, "passage": context.text}

        lists = yield Write(
            "distilled_questions",
            {keys[c.id, m]: prompt.render(ask, about(c)) for c in contexts for m in range(count)},
        )
        asked = {key: asking.asked(text)[: self.task.most_written] for key, text in lists.items()}
        if silent := [key for key, of in asked.items() if not of]:
            yield Tell(
                f"{len(silent)} of {len(asked)} lists have no question that can be read, such as "
                f"that of {silent[0]!r}: nothing is learned of them"
            )
        said = yield Write(
            "distilled_answers",
            {
                f"{keys[c.id, m]}: {i}": prompt.render(reading, {**about(c), "question": question})
                for c in contexts
                for m in range(count)
                for i, question in enumerate(asked[keys[c.id, m]])
            },
        )

        def replies(context: Context, key: str) -> list[Reply]:
            answers = [said[f"{key}: {i}"].strip() for i in range(len(asked[key]))]
            return [
                self.task.reply(context, question, answer)
                for question, answer in zip(asked[key], answers, strict=True)
                if answer
            ]

        return [[replies(c, keys[c.id, m]) for m in range(count)] for c in contexts]

    def _template(self, name: str, placeholders: frozenset[str]) -> str:
        settings = self.task.settings
        folder, style = settings.prompts.dir or None, settings.edits.prompt_style
        return prompt.load_template(name, placeholders, folder, style=style)
