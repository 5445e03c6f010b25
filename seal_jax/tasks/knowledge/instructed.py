"""Texts about a passage that the base model writes to instructions: the m-th of M to the m-th.

    several_prompts    a fixed list, as in SPA (arXiv 2603.22213)
    study_strategies   what the model lists for a passage, as in active reading (arXiv 2508.09494)
    own_prompts        what the model lists once, before it sees any passage

Where there are fewer instructions than texts, they come again in turn.
"""

import dataclasses
import re
from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any

from seal_jax.tasks.base import NO_TEXT
from seal_jax.tasks.knowledge import parse, prompt
from seal_jax.tasks.protocol import (
    Context,
    Lesson,
    Lessons,
    Passage,
    Refusal,
    Request,
    Sequence_,
    Tell,
    Write,
)

if TYPE_CHECKING:
    from seal_jax.tasks.knowledge.task import KnowledgeTask

_PASSAGE = frozenset({"title", "passage"})
_MOST_WORDS = 40  # a longer line is no instruction, but the start of following one
_ITEM = re.compile(r"(?:\d{1,2}[.):]|[-+*•–])(?=\s)\s*")


def instructions(reply: str) -> list[str]:
    """The instructions that a reply lists, without their numbers, each once.

    Lines without a number or a bullet count only where no line has one.

    >>> instructions("Sure:\\n1. **Order:** List the events.\\n2) Ask a question.\\nGood luck!")
    ['Order: List the events.', 'Ask a question.']
    """
    lines = parse.split_lines(reply)
    listed = [_ITEM.sub("", line, count=1) for line in lines if _ITEM.match(line)]
    found = [line.replace("**", "").strip() for line in listed or lines]
    once = {line.casefold(): line for line in found if 1 < len(line.split()) <= _MOST_WORDS}
    return list(once.values())


@dataclasses.dataclass(frozen=True)
class Instructed:
    """The base model's texts to a list of instructions.

    Attributes:
      task: of whose passages.
      name: of the source.
      label: for tables.
      asks: the template that asks the model for the list; "" takes that of several_prompts.txt.
      about: the placeholders of this template: of each passage, or none for one list for all.
    """

    task: "KnowledgeTask"
    name: str
    label: str
    asks: str = ""
    about: frozenset[str] = _PASSAGE

    def lessons(self, contexts: Sequence[Context], count: int) -> Generator[Request, Any, Lessons]:
        """A lesson for each text: its lines, and the passage."""
        texts = yield from self._texts(contexts, count)
        return [
            [self._lesson(context, text) for text in of]
            for context, of in zip(contexts, texts, strict=True)
        ]

    def together(
        self, contexts: Sequence[Context], count: int, passage: Passage
    ) -> Generator[Request, Any, list[Sequence_]]:
        """The texts about all passages."""
        texts = yield from self._texts(contexts, count)
        return [
            one
            for context, of in zip(contexts, texts, strict=True)
            for one in parse.corpus_sequences(
                context.title,
                context.text,
                of,
                passage=passage,
                title_prefix=self.task.settings.edits.title_prefix,
            )
        ]

    def _lesson(self, context: Context, text: str) -> Lesson | Refusal:
        sequences = tuple(self.task.pieces(context, text))
        return Lesson(sequences=sequences) if sequences else Refusal(NO_TEXT, invalid=False)

    def _texts(
        self, contexts: Sequence[Context], count: int
    ) -> Generator[Request, Any, list[list[str]]]:
        """[C][M]; "" of passages for which there are no instructions."""
        lists = yield from self._lists(contexts)
        template = self._template("instructed", _PASSAGE | {"instruction"})
        prompts = {
            f"{context.id}: {m}": prompt.render(
                template,
                {
                    "title": context.title,
                    "passage": context.text,
                    "instruction": of[m % len(of)],
                },
            )
            for context, of in zip(contexts, lists, strict=True)
            for m in range(count if of else 0)
        }
        texts = yield Write(self.name, prompts)
        return [[texts.get(f"{c.id}: {m}", "") for m in range(count)] for c in contexts]

    def _lists(self, contexts: Sequence[Context]) -> Generator[Request, Any, list[list[str]]]:
        """The instructions of each passage."""
        if not self.asks:
            folder = self.task.settings.prompts.dir or None
            text = prompt.load_template(self.name, frozenset(), folder)
            if not (fixed := instructions(text)):
                raise prompt.PromptError(f"{self.name}.txt: write instructions, one on each line.")
            return [fixed] * len(contexts)
        template = self._template(self.asks, self.about)
        keys = [context.id if self.about else self.asks for context in contexts]
        prompts = {
            key: prompt.render(template, {"title": context.title, "passage": context.text})
            for key, context in zip(keys, contexts, strict=True)
        }
        replies = yield Write(self.asks, prompts)
        found = {key: instructions(reply) for key, reply in replies.items()}
        if missing := [key for key, of in found.items() if not of]:
            yield Tell(
                f"{len(missing)} of {len(found)} lists have no instruction that can be read, such "
                f"as that of {missing[0]!r}: nothing is written for them"
            )
        return [found[key] for key in keys]

    def _template(self, name: str, placeholders: frozenset[str]) -> str:
        settings = self.task.settings
        folder, style = settings.prompts.dir or None, settings.edits.prompt_style
        return prompt.load_template(name, placeholders, folder, style=style)
