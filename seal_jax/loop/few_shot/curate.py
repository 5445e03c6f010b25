"""Finding the tasks that a model can solve under a recipe, so that an experiment can be set up."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from seal_jax.loop.few_shot import session, stages
from seal_jax.loop.few_shot.session import FewShotSession
from seal_jax.loop.few_shot.trials import Examples
from seal_jax.loop.job import run_job
from seal_jax.loop.run import Run
from seal_jax.settings import Settings, SettingsError
from seal_jax.tasks.arc import arc, recipe
from seal_jax.tasks.arc.arc import ArcTask
from seal_jax.tasks.protocol import Split

Record = dict[str, Any]
On = Literal["tests", "leave_one_out"]


def curate(
    settings: Settings,
    workdir: str,
    *,
    split: Split = "train",
    on: On = "leave_one_out",
    overwrite: bool = False,
    quiet: bool = False,
) -> dict[str, Any]:
    """Tries few_shot.oracle on every task of a split and says which ones it solves.

    Args:
      split: whose tasks.
      on: "leave_one_out" asks each demonstration as if it were the test and trains on the others,
        so that no test is looked at; "tests" asks the tests. A choice of evaluation tasks by their
        tests is labelled "oracle-filtered, as in the paper": arms are then compared on tasks of
        which it is known that they can be solved.

    Returns:
      What it wrote to results.json: "solved" has the ids of the tasks whose every question was
      solved, "tasks" a record of each, "filter" how they were chosen.
    """

    def work(run: Run[FewShotSession]) -> dict[str, Any]:
        return _curate(run, split, on)

    return run_job(
        settings,
        workdir,
        work,
        overwrite=overwrite,
        quiet=quiet,
        open_session=session.open_session,
        split=split,
        on=on,
    )


def questions(task: ArcTask, on: On) -> list[ArcTask]:
    """The tasks that are tried in the place of one: itself, or one for each demonstration.

    Each of the latter has one demonstration as its test and the others left; there is none for a
    task with one demonstration.
    """
    return [task] if on == "tests" else arc.leave_one_out(task)


def _curate(run: Run[FewShotSession], split: Split, on: On) -> dict[str, Any]:
    few_shot = run.session.settings.few_shot
    tasks = [task for task in run.session.tasks[split] if questions(task, on)]
    if not tasks:
        raise SettingsError(
            f"no task of few_shot.{split} can be tried: name others in few_shot.{split}_tasks."
        )
    wanted = recipe.parse(few_shot.oracle, few_shot.limits())
    asked = [(task, question) for task in tasks for question in questions(task, on)]
    examples = Examples(run.session)
    candidates = [
        examples.candidate(question, wanted, index=0, replicate=0) for _, question in asked
    ]
    records, tokens = stages.try_all(run, run.session.base, candidates, stage="curate")
    found = {
        task.id: _summary(
            [record for (of, _), record in zip(asked, records, strict=True) if of is task]
        )
        for task in tasks
    }
    solved = [id for id, record in found.items() if record["solved"] == 1]
    tests = on == "tests"
    results = {
        "recipe": few_shot.oracle,
        "filter": "leave-one-out demonstrations"
        if not tests
        else "training tasks' tests"
        if split == "train"
        else "oracle-filtered, as in the paper",
        "solved": solved,
        "tasks": found,
        "left_out": run.session.left_out[split],
        "trained_tokens": tokens.real,
    }
    run.say("\n" + _table(found))
    run.say(
        f"\n{len(solved)} of {len(found)} tasks solved ({results['filter']}); "
        f"{len(run.session.left_out[split])} more do not fit the run.\n"
        f'--config.few_shot.{split}_tasks="{tuple(solved)}"'
    )
    return results


def _summary(records: Sequence[Record]) -> Record:
    """Shares of a task's questions."""
    tried = [record for record in records if record["reason"] is None]
    return {
        "solved": float(np.mean([bool(record.get("solved")) for record in records])),
        "graded": float(np.mean([record.get("graded", 0.0) for record in records])),
        "questions": len(records),
        "failed": len(records) - len(tried),
        "reasons": sorted({record["reason"] for record in records} - {None}),
    }


def _table(found: dict[str, Record]) -> str:
    """The tasks, the best first, as far as anything was gained."""
    order = sorted(
        found.items(), key=lambda item: (-item[1]["solved"], -item[1]["graded"], item[0])
    )
    shown = [(id, record) for id, record in order if record["solved"] or record["graded"]][:40]
    lines = [f"{'task':<12}{'solved':>8}{'graded':>9}{'questions':>11}"]
    lines += [
        f"{id:<12}{record['solved']:>8.0%}{record['graded']:>9.3f}{record['questions']:>11}"
        for id, record in shown
    ]
    if len(shown) < len(order):
        lines.append(f"({len(order) - len(shown)} more, of the least gain)")
    return "\n".join(lines)
