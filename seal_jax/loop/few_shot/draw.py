"""Pictures of a finished run's tasks: demonstrations, attempts and truth."""

import os
from collections.abc import Iterator
from typing import Any

from seal_jax.loop.few_shot import arms
from seal_jax.runs import run_dir
from seal_jax.runs.ledger import Ledger
from seal_jax.settings import Settings, SettingsError, config_dict
from seal_jax.tasks.arc import arc, grids, picture
from seal_jax.tasks.arc.arc import ArcTask

Record = dict[str, Any]
_GIVEN = ("policy_from", "policy_version", "split", "on")  # what a run's config has beside settings


def draw(workdir: str, task: str, out: str, *, stage: str = "", edit: int = 0) -> str:
    """Draws a task of a run with the attempts of one trial.

    Args:
      workdir: the run's directory; it need not be finished.
      task: its id.
      out: the PNG file.
      stage: an arm (such as "edit_after") or a stage of the ledger (such as "round 1"); "" is the
        last one that tried the task.
      edit: which of the task's self-edits.

    Returns:
      One line on what was drawn.

    Raises:
      SettingsError: the run has no such task, stage or trial.
    """
    if not os.path.isdir(f"{workdir}/ledger"):
        raise SettingsError(f"{workdir} is not the directory of a run.")
    stored = run_dir.read_config(workdir)
    settings = config_dict.from_config({k: v for k, v in stored.items() if k not in _GIVEN})
    with Ledger(f"{workdir}/ledger", read_only=True) as records:
        trials = [(name, r) for name, r in _trials(records) if r["context"] == task]
    wanted = f"eval {stage}" if stage in arms.KINDS else stage
    if stage in arms.KINDS and not arms.KINDS[stage].source:
        wanted = f"eval {arms.KINDS[stage].learner}"
    found = [
        (name, r) for name, r in trials if wanted in ("", name) and r.get("index", edit) == edit
    ]
    if not found:
        names = sorted({name for name, _ in trials})
        raise SettingsError(
            f"{workdir} has no trial {edit} of task {task!r}"
            + (f" in {wanted!r}" if wanted else "")
            + (f": it was tried in {', '.join(names)}." if names else ": it was never tried.")
        )
    name, record = found[-1]
    picture.draw_task(
        _find(settings, task),
        [[grids.check(grid) for grid in of] for of in record.get("attempts", [])] or None,
        out,
    )
    how = record.get("recipe") or "in context"
    verdict = "solved" if record.get("solved") else record.get("reason") or "not solved"
    return f"{out}: task {task}, {name}, {how}: {verdict}"


def _trials(records: Ledger) -> Iterator[tuple[str, Record]]:
    """(stage, record) of all trials and unadapted attempts, in the order of the ledger."""
    for segment in records.segments("unadapted"):
        for id, record in segment.record.items():
            yield segment.key.rpartition("/")[0], {"context": id, **record}
    for segment in records.segments("batch"):
        for record in segment.record["trials"]:
            yield segment.key.rpartition("/")[0], record


def _find(settings: Settings, id: str) -> ArcTask:
    for source in (settings.few_shot.train, settings.few_shot.eval):
        for task in arc.load(source):
            if task.id == id:
                return task
    raise SettingsError(f"neither few_shot.train nor few_shot.eval holds the task {id!r}.")
