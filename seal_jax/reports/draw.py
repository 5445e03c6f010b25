"""Pictures of a run's contexts and of the answers to them."""

import os

from seal_jax.loop import arms, policies
from seal_jax.reports import records, run_files
from seal_jax.settings import SettingsError
from seal_jax.tasks import registry


def draw(workdir: str, id: str, out: str, *, stage: str = "", edit: int = 0) -> str:
    """Draws a context of a run with the answers of one trial.

    Args:
      workdir: the run's directory; it need not be finished.
      id: of the context.
      out: the PNG file.
      stage: an arm (such as "edit_after") or a stage of the ledger (such as "round 1"); "" is the
        last one that tried the context.
      edit: which of the context's self-edits.

    Returns:
      One line on what was drawn.

    Raises:
      SettingsError: the run has no such context, stage or trial.
      ValueError: the task has no pictures.
      DamagedError: the run's records are damaged.
    """
    if not os.path.isdir(f"{workdir}/ledger"):
        raise SettingsError(f"{workdir} is not the directory of a run.")
    task = registry.open_task(policies.run_settings(workdir))
    with run_files.as_written(workdir):
        stages = records.read(f"{workdir}/ledger").values()
        trials = [(of, of.answers[id]) for of in stages if id in of.answers]
        trials += [(of, trial) for of in stages for trial in of.trials if trial["context"] == id]
    wanted = stage
    if arm := arms.table(task).get(stage):
        what = stage if arm.learns else "prompt" if arm.view == "reading" else arm.learner
        wanted = f"eval {what}"
    found = [
        (of, r) for of, r in trials if wanted in ("", of.name) and r.get("index", edit) == edit
    ]
    if not found:
        names = sorted({of.name for of, _ in trials})
        raise SettingsError(
            f"{workdir} has no trial {edit} of {id!r}"
            + (f" in {wanted!r}" if wanted else "")
            + (f": it was tried in {', '.join(names)}." if names else ": it was never tried.")
        )
    of, record = found[-1]
    context = records.contexts_of(task, f"{workdir}/ledger").get(id)
    if context is None:
        raise SettingsError(f"the data that {workdir} names does not hold {id!r} any more.")
    task.draw(context, record["answers"], out)
    main = task.metrics[0]
    score = record["scores"].get(main.name)
    how = record.get("head") or "unadapted"
    verdict = record.get("reason") or f"{main.label} {score}"
    return f"{out}: {id}, {of.name}, {how}: {verdict}"
