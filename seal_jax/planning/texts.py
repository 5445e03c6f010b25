"""How long the texts of a run are expected to be, for any task: known, or counted in its contexts.

Texts are counted without a tokenizer: a digit, a line's end or a word is a token. SmolLM2's takes
as many of ARC's tasks, and 33 to 41 more for its chat template in 200 of them; one that joins
digits, such as Llama 3's, takes fewer.
"""

import contextlib
import dataclasses
import math
import re
import statistics
from collections.abc import Iterable, Sequence
from typing import NoReturn

from seal_jax.planning.workload import Workload
from seal_jax.settings import Settings, SettingsError
from seal_jax.tasks import registry
from seal_jax.tasks.base import Task
from seal_jax.tasks.protocol import Chat, Context, Lesson, Reply, Request, Sequence_, Split
from seal_jax.tasks.sources import answered

_TOKEN = re.compile(r" ?[A-Za-z]+|[0-9]|\n+|[^\w\s]+|\s|\w")
_CHAT = 40


def tokens(text: str) -> int:
    r"""About how many tokens a text has.

    >>> tokens("Input:\n10\n01")
    8
    """
    return len(_TOKEN.findall(text))


def open_task(settings: Settings) -> Task:
    """The run's task. Where the lengths of its texts are known, its data need not be there.

    Raises:
      SettingsError, DataError: as `registry.open_task` does.
    """
    known = getattr(registry.task_class(settings), "typical_lengths", None)
    if known is None:
        return registry.open_task(settings)
    task = Task(settings)
    task.typical_lengths = known
    return task


def expected(task: Task) -> tuple[Workload, list[str]]:
    """What the texts of a run are expected to be like, and notes on what was counted.

    A self-edit is taken to teach what the task's oracle does, if that needs no model to say it, and
    otherwise the context's own sequences.

    Raises:
      SettingsError: there is nothing to train on, or nothing of it fits.
    """
    if task.typical_lengths is not None:
        return Workload(**task.typical_lengths), []
    settings = task.settings
    contexts, held_out = _contexts(task, "train"), _contexts(task, "eval")
    if not contexts:
        raise SettingsError(f"task={settings.task} has no contexts to train on: add some.")
    lessons, limit = _lessons(task, contexts), settings.inner.buckets[-1]
    lengths = [[(_length(one), one) for one in lesson.sequences] for lesson in lessons]
    # A run cuts texts that are longer, and leaves out chats.
    fitting = [
        [min(size, limit) for size, one in sizes if size <= limit or isinstance(one, str)]
        for sizes in lengths
    ]
    if not any(fitting):
        least = min(size for sizes in lengths for size, _ in sizes)
        raise SettingsError(
            f"no training sequence fits the largest of inner.buckets: raise it to {least} or more."
        )
    sequence = _mean(length for of in fitting for length in of)
    said = [_written(lesson) for lesson in lessons]
    turns = [task.preface + task.edit_prompt(one) for one in contexts if task.writes]
    own, others = ([task.exam(one, "adapted") for one in of] for of in (contexts, held_out))
    scored = [one.prompt for exam in (*own, *others) for one in exam.scored]
    work = Workload(
        longest_prompt=_longest(turns, settings.edits.prompt_style),
        edit_tokens=_mean(said),
        longest_edit=max(said),
        lines=max(1, _mean(map(len, fitting)) - 1),
        line_tokens=sequence,
        passage_tokens=sequence,
        question_tokens=_longest(scored, settings.answers.prompt_style),
        questions=_mean(len(exam.asked) for exam in own),
        golds=_mean(len(exam.scored) for exam in own),
        epochs=_mean(lesson.directives.epochs or settings.inner.epochs for lesson in lessons),
    )
    return work, [_note([*lessons, *_lessons(task, held_out)], limit)]


def _contexts(task: Task, split: Split) -> list[Context]:
    """The contexts of a split with the questions that are asked."""
    count = task.settings.data.max_questions or None
    found = task.contexts(split)
    return [dataclasses.replace(one, questions=one.questions[:count]) for one in found]


class _NeedsModel(Exception):
    """A source asks for what only a model says."""


def _refused(request: Request) -> NoReturn:
    raise _NeedsModel


def _lessons(task: Task, contexts: Sequence[Context]) -> list[Lesson]:
    """The oracle's lessons in one draw, or those of the contexts themselves."""
    found = []
    if "oracle" in task.sources:
        with contextlib.suppress(_NeedsModel):
            made = answered(task.sources["oracle"].lessons(contexts, 1), _refused)
            found = [lesson for [lesson] in made if isinstance(lesson, Lesson)]
    return found or [task.context_lesson(context) for context in contexts]


def _note(lessons: Iterable[Lesson], limit: int) -> str:
    """How long the sequences are that a run and its evaluation learn, and how many do not fit."""
    lengths = [_length(one) for lesson in lessons for one in lesson.sequences]
    over = sum(length > limit for length in lengths)
    return (
        f"the longest of the {len(lengths):,} training sequences that were counted in the contexts "
        f"of training and evaluation has {max(lengths):,} tokens; "
        + (f"{over:,} are longer than" if over else "all fit")
        + f" the last of inner.buckets ({limit:,})"
        + (", and would be left out (chats) or cut (texts)." if over else ".")
    )


def _written(lesson: Lesson) -> int:
    """Tokens of the self-edit that gives a lesson: chats are made by the task where a head is."""
    made = [one for one in lesson.sequences if not (lesson.head and isinstance(one, Chat))]
    return max(1, tokens(lesson.head) + sum(map(_length, made)))


def _length(sequence: Sequence_) -> int:
    if isinstance(sequence, Chat):
        return tokens("".join(text for _, text in sequence.turns)) + _CHAT
    if isinstance(sequence, Reply):
        return tokens(f"{sequence.prompt} {sequence.answer}") + _CHAT
    return tokens(sequence)


def _longest(turns: Iterable[str], style: str) -> int:
    """Tokens of the longest prompt; 1 where there is none."""
    return max((tokens(turn) + _CHAT * (style == "chat") for turn in turns), default=1)


def _mean(numbers: Iterable[int]) -> int:
    return max(1, math.ceil(statistics.mean(numbers)))
