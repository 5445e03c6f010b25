"""Lessons that are not an editor's self-edits: the context itself, a teacher's, other directives.

Where a source needs the model, the teacher or the training contexts, its methods are generators:
they yield a request of `protocol` and go on with the answer.
"""

import dataclasses
import zlib
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from seal_jax.settings import SettingsError
from seal_jax.tasks import directives
from seal_jax.tasks.protocol import (
    Asking,
    BaseEdits,
    Best,
    Context,
    Directives,
    Lesson,
    Lessons,
    Passage,
    Refusal,
    Request,
    Sequence_,
    Source,
    Teach,
    Tell,
)

if TYPE_CHECKING:
    from seal_jax.tasks.base import Task

_Found = TypeVar("_Found")


def answered(asking: Asking[_Found], answer: Callable[[Request], Any]) -> _Found:
    """What a source's method gives, its requests answered."""
    if not isinstance(asking, Generator):
        return asking
    try:
        request = next(asking)
        while True:
            request = asking.send(answer(request))
    except StopIteration as done:
        return done.value


@dataclasses.dataclass(frozen=True)
class ContextAlone:
    """The context itself, without any self-edit."""

    task: "Task"
    label: str = "passage only"

    def lessons(self, contexts: Sequence[Context], count: int) -> Asking[Lessons]:
        return [[self.task.context_lesson(context)] for context in contexts]

    def together(
        self, contexts: Sequence[Context], count: int, passage: Passage
    ) -> Asking[list[Sequence_]]:
        return [one for c in contexts for one in self.task.read_many(c, [], "once")]


@dataclasses.dataclass(frozen=True)
class ContextAsOften(ContextAlone):
    """The context as often as the base model's self-edit has sequences: as many optimizer steps."""

    label: str = "passage only, as many steps"

    def lessons(self, contexts: Sequence[Context], count: int) -> Asking[Lessons]:
        edits = yield BaseEdits()
        return [
            [self._as_often(context, self.task.read(context, text, 0)) for text in of_context]
            for context, of_context in zip(contexts, edits, strict=True)
        ]

    def together(
        self, contexts: Sequence[Context], count: int, passage: Passage
    ) -> Asking[list[Sequence_]]:
        edits = yield BaseEdits()
        return [
            one
            for context, texts in zip(contexts, edits, strict=True)
            for one in list(self.task.read_many(context, [], "once"))
            * max(len(self.task.read_many(context, texts, passage)), 1)
        ]

    def _as_often(self, context: Context, like: Lesson | Refusal) -> Lesson:
        alone = self.task.context_lesson(context)
        times = len(like.sequences) if isinstance(like, Lesson) else 1
        taken = like.directives if isinstance(like, Lesson) else Directives()
        return Lesson(sequences=alone.sequences * times, directives=taken)


@dataclasses.dataclass(frozen=True)
class Teacher:
    """A stronger model's texts in the place of self-edits."""

    task: "Task"
    label: str = "a teacher's texts"

    def lessons(self, contexts: Sequence[Context], count: int) -> Asking[Lessons]:
        texts = yield Teach()
        return [
            [self.task.read_body(context, text) for text in of_context]
            for context, of_context in zip(contexts, texts, strict=True)
        ]

    def together(
        self, contexts: Sequence[Context], count: int, passage: Passage
    ) -> Asking[list[Sequence_]]:
        texts = yield Teach()
        found = zip(contexts, texts, strict=True)
        return [one for c, of in found for one in self.task.read_many(c, of, passage)]


@dataclasses.dataclass(frozen=True)
class Stored:
    """Texts that somebody wrote, in the place of self-edits.

    Attributes:
      label: for tables.
      texts: about each context, by its id.
    """

    task: "Task"
    label: str
    texts: Mapping[str, Sequence[str]]

    def lessons(self, contexts: Sequence[Context], count: int) -> Generator[Request, Any, Lessons]:
        chosen = yield from self._chosen(contexts, count)
        return [
            [self.task.read(context, text, m) for m, text in enumerate(of)]
            for context, of in zip(contexts, chosen, strict=True)
        ]

    def together(
        self, contexts: Sequence[Context], count: int, passage: Passage
    ) -> Generator[Request, Any, list[Sequence_]]:
        chosen = yield from self._chosen(contexts, count)
        found = zip(contexts, chosen, strict=True)
        return [one for c, of in found for one in self.task.read_many(c, of, passage)]

    def _chosen(
        self, contexts: Sequence[Context], count: int
    ) -> Generator[Request, Any, list[Sequence[str]]]:
        """Of each context as many as there are of every one, and at most `count`: the first."""
        every = [self.texts[context.id] for context in contexts]
        count = min(count, *map(len, every))
        if more := sum(len(of) - count for of in every):
            yield Tell(f"the first {count} about each are used, and {more} more left out")
        return [of[:count] for of in every]


@dataclasses.dataclass(frozen=True)
class Directed:
    """Self-edits under directives that no editor wrote.

    Attributes:
      label: for tables.
      choose: (context, m) -> its directives.
      lesson: (context, directives, self-edit, m) -> its lesson.
      edits: whether it is of the base model's self-edits; the text is "" otherwise.
    """

    label: str
    choose: Callable[[Context, int], Any]
    lesson: Callable[[Context, Any, str, int], Lesson | Refusal]
    edits: bool = True

    def lessons(self, contexts: Sequence[Context], count: int) -> Generator[Request, Any, Lessons]:
        texts = (yield BaseEdits()) if self.edits else [[""] * count for _ in contexts]
        return [
            [self.lesson(context, self.choose(context, m), text, m) for m, text in enumerate(of)]
            for context, of in zip(contexts, texts, strict=True)
        ]

    def together(
        self, contexts: Sequence[Context], count: int, passage: Passage
    ) -> Asking[list[Sequence_]]:
        raise SettingsError(
            f"{self.label}: directives are those of one context, so several contexts cannot be "
            "learned together."
        )


@dataclasses.dataclass(frozen=True)
class BestDirected(Directed):
    """Self-edits under those of some directives that earn the most in training.

    Attributes:
      choose: (context, index) -> the directives that are offered.
      lines: the offered, as they are written in records.
      offer: what they are called, and the setting that offers them.
    """

    lines: Callable[[], Sequence[str]] = tuple
    offer: str = "heads: give directives.fixed"

    def lessons(self, contexts: Sequence[Context], count: int) -> Generator[Request, Any, Lessons]:
        def lesson(context: Context, option: int, self_edit: str) -> Lesson | Refusal:
            return self.lesson(context, self.choose(context, option), self_edit, 0)

        lines = tuple(self.lines())
        if not lines:
            raise SettingsError(f"the arm 'fixed' chooses among some {self.offer}.")
        best = yield Best(lines, lesson, self.edits)
        chosen = dataclasses.replace(self, choose=lambda context, _: self.choose(context, best))
        return (yield from Directed.lessons(chosen, contexts, count))


def directed(task: "Task") -> dict[str, Source]:
    """The base model's self-edits under other directives than their own, by the arm's name."""
    settings, own = task.settings, task.settings.directives
    names = settings.edits.directives

    def drawn(context: Context, m: int) -> Directives:
        seed = (settings.seed, zlib.crc32(b"directives"), zlib.crc32(context.id.encode()), m)
        return directives.random(names, own.limits(), seed)

    def named(setting: str, head: str) -> Directives:
        try:
            return task.directives_of(head)
        except directives.HeadError as error:
            raise SettingsError(f"directives.{setting} has {head!r}: {error}") from None

    def lines() -> list[str]:
        return [directives.write(named("fixed", head), names) for head in own.fixed]

    def lesson(context: Context, said: Directives, self_edit: str, m: int) -> Lesson | Refusal:
        return task.read_body(context, task.body(self_edit), said)

    label = "base's self-edit, {} directives".format
    return {
        "random": Directed(label("random"), drawn, lesson),
        "fixed": BestDirected(
            label("best fixed"), lambda _, i: named("fixed", own.fixed[i]), lesson, lines=lines
        ),
        "oracle": Directed(label("oracle"), lambda *_: named("oracle", own.oracle), lesson),
    }
