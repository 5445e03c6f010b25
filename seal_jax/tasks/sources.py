"""Lessons that are not an editor's self-edits: the context itself, a teacher's, other directives.

Where a source needs the model, the teacher or the training contexts, its methods are generators:
they yield a request of `protocol` and go on with the answer.
"""

import dataclasses
import zlib
from collections.abc import Callable, Generator, Sequence
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
    Teach,
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
class RandomDirectives:
    """The base model's self-edits under directives drawn evenly from the valid ones."""

    task: "Task"
    label: str = "base's self-edit, random directives"

    def lessons(self, contexts: Sequence[Context], count: int) -> Asking[Lessons]:
        edits = yield BaseEdits()
        return [
            [
                self.task.read_body(context, self.task.body(text), self._drawn(context, m))
                for m, text in enumerate(of_context)
            ]
            for context, of_context in zip(contexts, edits, strict=True)
        ]

    def together(
        self, contexts: Sequence[Context], count: int, passage: Passage
    ) -> Asking[list[Sequence_]]:
        raise ValueError("directives are those of one context: they cannot be learned together.")

    def _drawn(self, context: Context, m: int) -> Directives:
        settings = self.task.settings
        seed = (settings.seed, zlib.crc32(b"directives"), zlib.crc32(context.id.encode()), m)
        return directives.random(settings.edits.directives, settings.directives.limits(), seed)


@dataclasses.dataclass(frozen=True)
class OracleDirectives(RandomDirectives):
    """The base model's self-edits under the directives that the settings name."""

    label: str = "base's self-edit, oracle directives"

    def _drawn(self, context: Context, m: int) -> Directives:
        return _head(self.task, "oracle", self.task.settings.directives.oracle)


@dataclasses.dataclass(frozen=True)
class BestDirectives(RandomDirectives):
    """The base model's self-edits under those of some directives that earn the most in training."""

    label: str = "base's self-edit, best fixed directives"

    def lessons(self, contexts: Sequence[Context], count: int) -> Asking[Lessons]:
        settings = self.task.settings
        heads = settings.directives.fixed
        if not heads:
            raise SettingsError("the arm 'fixed' chooses among some heads: give directives.fixed.")
        offered = [_head(self.task, "fixed", head) for head in heads]
        options = tuple(directives.write(one, settings.edits.directives) for one in offered)

        def lesson(context: Context, option: int, self_edit: str) -> Lesson | Refusal:
            return self.task.read_body(context, self.task.body(self_edit), offered[option])

        best = yield Best(options, lesson, edits=True)
        edits = yield BaseEdits()
        return [
            [lesson(context, best, text) for text in of_context]
            for context, of_context in zip(contexts, edits, strict=True)
        ]


def _head(task: "Task", name: str, head: str) -> Directives:
    """The directives of a head that the settings name.

    Raises:
      SettingsError: it cannot be followed.
    """
    try:
        return task.directives_of(head)
    except directives.HeadError as error:
        raise SettingsError(f"directives.{name} has {head!r}: {error}") from None
