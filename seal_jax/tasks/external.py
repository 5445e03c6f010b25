"""Task domains of other packages, named by `settings.task` as "module:Class"."""

import collections
from collections.abc import Iterable, Sequence

from seal_jax.settings import Settings, SettingsError, object_reference
from seal_jax.tasks.knowledge import squad
from seal_jax.tasks.protocol import Context, Task


def load(settings: Settings) -> Task:
    """Makes the task that the settings name, with the settings as its only argument.

    Raises:
      SettingsError: there is none, it lacks a part of `tasks.base.Task`, or its contexts cannot be
        used.
      DataError: its splits share a title or a text.
    """
    reference = settings.task
    task = object_reference.load(reference, "task", "settings")(settings)
    missing = [name for name, part in _parts().items() if not _has(task, name, part)]
    if missing:
        raise SettingsError(
            f"task={reference}: it lacks {', '.join(missing)} of seal_jax.tasks.protocol.Task; "
            "docs/extending.md has an example with all of them."
        )
    train, evaluation = task.contexts("train"), task.contexts("eval")
    _check([*train, *evaluation], reference)
    squad.check_disjoint(train, evaluation)
    return task


def _parts() -> dict[str, object]:
    """What the protocol declares, by name."""
    return {name: part for name, part in vars(Task).items() if not name.startswith("_")}


def _has(task: object, name: str, part: object) -> bool:
    """Whether a task has a method where the protocol has one, and anything elsewhere."""
    return callable(getattr(task, name, None)) if callable(part) else hasattr(task, name)


def _check(contexts: Sequence[Context], reference: str) -> None:
    """Refuses contexts that records could not tell apart."""
    for context in contexts:
        if not isinstance(context, Context):
            raise SettingsError(
                f"task={reference}: its contexts must be seal_jax.tasks.protocol.Context, not "
                f"{type(context).__name__}."
            )
    ids = [("contexts", context.id) for context in contexts]
    ids += [(f"questions of {c.id!r}", question.id) for c in contexts for question in c.questions]
    for what, id in _repeated(ids):
        raise SettingsError(f"task={reference}: several {what} have the id {id!r}.")


def _repeated(values: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    return [value for value, count in collections.Counter(values).items() if count > 1]
