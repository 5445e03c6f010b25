"""What contexts are about: passages, questions and grids, which a ledger only names by id."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from seal_jax.reports.html.run_records import RunRecords
from seal_jax.settings import Settings, config_dict
from seal_jax.tasks.arc import arc
from seal_jax.tasks.registry import make_task

_GIVEN = ("policy_from", "policy_version", "split", "on")  # what a run's config has beside settings


@dataclasses.dataclass(frozen=True, kw_only=True)
class Texts:
    """What could be found of a run's data.

    Attributes:
      contexts: passages by context id (tasks.base.Context).
      tasks: ARC tasks by id (tasks.few_shot.arc.ArcTask).
      sequences: (context id, self-edit) -> its training sequences; () where the data is missing.
      passage: (context id) -> those of the passage alone.
      note: what is missing, and why; "" for nothing.
    """

    contexts: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    tasks: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    sequences: Callable[[str, str], list[str]] = lambda id, text: []
    passage: Callable[[str], list[str]] = lambda id: []
    note: str = ""


def find(run: RunRecords) -> Texts:
    """Reads the data that the run's config names; what is not there any more is left out."""
    try:
        settings = config_dict.from_config(
            {key: value for key, value in run.config.items() if key not in _GIVEN}
        )
        return _tasks(settings, run) if run.few_shot else _passages(settings)
    except (ValueError, OSError, ImportError) as error:
        what = "tasks" if run.few_shot else "passages and questions"
        return Texts(note=f"The {what} are not shown, since they were not found: {error}")


def _passages(settings: Settings) -> Texts:
    task = make_task(settings)
    contexts = {c.id: c for split in ("train", "eval") for c in task.contexts(split)}
    return Texts(
        contexts=contexts,
        sequences=lambda id, text: task.sequences(contexts[id], text) if id in contexts else [],
        passage=lambda id: task.passage_sequences(contexts[id]) if id in contexts else [],
    )


def _tasks(settings: Settings, run: RunRecords) -> Texts:
    few_shot = settings.few_shot
    found = {t.id: t for source in {few_shot.train, few_shot.eval} for t in arc.load(source)}
    if run.config.get("on") == "leave_one_out":
        found |= {
            question.id: question
            for task in list(found.values())
            for question in arc.leave_one_out(task)
        }
    return Texts(tasks=found)
