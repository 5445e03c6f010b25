"""Task domains by name: this package's, and those of others as "module:Class"."""

import collections
import functools
import importlib
from collections.abc import Iterable, Sequence
from typing import Any

from seal_jax.settings import Settings, SettingsError, object_reference
from seal_jax.tasks import splits
from seal_jax.tasks.base import Task
from seal_jax.tasks.protocol import Bounds, Context, Exam, Grammar, Metric

KNOWN = {
    "knowledge": "seal_jax.tasks.knowledge.task:KnowledgeTask",
    "few_shot": "seal_jax.tasks.arc.task:Arc",
}


def open_task(settings: Settings) -> Task:
    """Makes the task that the settings name, and checks that it is one.

    Raises:
      SettingsError: there is none, a part of it is missing or of another type than
        `tasks.base.Task` says, or its contexts cannot be told apart.
      DataError: its data cannot be used, or its splits share a title or a text.
    """
    task = task_class(settings)(settings)
    if settings.task not in KNOWN:
        check(task, settings.task)
    return task


def task_class(settings: Settings) -> Any:
    """What the settings name: the class of a task, or another package's function that makes one.

    Raises:
      SettingsError: there is none.
    """
    reference = settings.task
    if reference in KNOWN:
        module, _, name = KNOWN[reference].partition(":")
        return getattr(importlib.import_module(module), name)
    if not object_reference.is_one(reference):
        raise SettingsError(
            f"task={reference} is unknown: expected {', '.join(KNOWN)}, or module:Class of a "
            "package."
        )
    return object_reference.load(reference, "task", "settings")


def check(task: object, reference: str) -> None:
    """Refuses what is no task, or has parts of the wrong type.

    Raises:
      SettingsError: names the part, and what was expected.
    """
    if not isinstance(task, Task):
        raise SettingsError(
            f"task={reference} must be a subclass of seal_jax.tasks.base.Task; docs/extending.md "
            "has an example."
        )
    of = functools.partial(_typed, reference)
    if not isinstance(getattr(task, "settings", None), Settings):
        raise SettingsError(f"task={reference}: its __init__ must call super().__init__(settings).")
    methods = [name for name, part in vars(Task).items() if name[0] != "_" and callable(part)]
    needed = ["contexts", "edit_prompt"] if task.writes else ["contexts"]
    missing = [name for name in methods if not callable(getattr(task, name))]
    missing += [name for name in needed if getattr(type(task), name) is getattr(Task, name)]
    if missing:
        raise SettingsError(f"task={reference} lacks the methods {', '.join(missing)}.")
    contexts = {
        split: of(f"contexts({split!r})", task.contexts(split), Sequence)
        for split in ("train", "eval")
    }
    every = [*contexts["train"], *contexts["eval"]]
    for context in every:
        of("contexts", context, Context)
    for metric in of("metrics", task.metrics, Sequence) or [None]:
        of("metrics", metric, Metric)
    of("bounds()", task.bounds(), Bounds)
    of("grammar", task.grammar, (Grammar, type(None)))
    for context in every[:1]:
        if task.writes:
            of("edit_prompt", task.edit_prompt(context), str)
        of("context_sequences", task.context_sequences(context), (list, tuple))  # no str
        of("sequences", task.sequences(context, context.text), (list, tuple))
    for name, source in task.sources.items():
        parts = [part for part in ("label", "lessons", "together") if not hasattr(source, part)]
        if parts:
            raise SettingsError(
                f"task={reference}: the source {name!r} lacks {' and '.join(parts)}."
            )
    exams = [of("exam", task.exam(context, "adapted"), Exam) for context in every]
    ids = [("contexts", context.id) for context in every]
    ids += [(f"questions of {c.id!r}", question.id) for c in every for question in c.questions]
    for context, exam in zip(every, exams, strict=True):
        ids += [(f"prompts of {context.id!r}", one.id) for one in exam.asked]
    for what, id in _repeated(ids):
        raise SettingsError(f"task={reference}: several {what} have the id {id!r}.")
    splits.check_disjoint(*contexts.values())


def _typed(reference: str, part: str, value, kind):
    if not isinstance(value, kind):
        wanted = " or ".join(k.__name__ for k in (kind if isinstance(kind, tuple) else (kind,)))
        raise SettingsError(
            f"task={reference}: {part} must be of type {wanted}, not {type(value).__name__}."
        )
    return value


def _repeated(values: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    return [value for value, count in collections.Counter(values).items() if count > 1]
