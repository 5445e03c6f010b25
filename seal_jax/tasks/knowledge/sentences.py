"""The passage's own sentences, each a training sequence: nothing false, and nothing said anew."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

from seal_jax.tasks import documents
from seal_jax.tasks.knowledge import parse
from seal_jax.tasks.protocol import Context, Lesson, Lessons, Passage, Sequence_

if TYPE_CHECKING:
    from seal_jax.tasks.knowledge.task import KnowledgeTask


@dataclasses.dataclass(frozen=True)
class Sentences:
    """As many optimizer steps as a self-edit of as many lines.

    Attributes:
      task: of whose passages.
    """

    task: "KnowledgeTask"
    label: str = "the passage's sentences"

    def lessons(self, contexts: Sequence[Context], count: int) -> Lessons:
        """One lesson a passage: its sentences, and the passage."""
        found = [self.task.pieces(one, _apart(one), rule="dashes") for one in contexts]
        return [[Lesson(sequences=tuple(sequences))] for sequences in found]

    def together(
        self, contexts: Sequence[Context], count: int, passage: Passage
    ) -> list[Sequence_]:
        """The sentences of all passages."""
        prefix = self.task.settings.edits.title_prefix
        return [
            sequence
            for one in contexts
            for sequence in parse.corpus_sequences(
                one.title, one.text, [_apart(one)], passage=passage, title_prefix=prefix
            )
        ]


def _apart(context: Context) -> str:
    """The sentences with lines of dashes between them, at which they are split."""
    return "\n---\n".join(documents.sentences(context.text))
