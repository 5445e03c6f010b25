"""Verb: curate. The contexts that a model can solve under the task's oracle lesson."""

from collections.abc import Sequence
from typing import Any, Literal

from seal_jax.loop import attempt, preflight
from seal_jax.loop import contexts as contexts_lib
from seal_jax.loop.arms import Arm
from seal_jax.loop.job import run_job
from seal_jax.loop.policies import Policy
from seal_jax.loop.run import Run
from seal_jax.loop.sources import Sources
from seal_jax.loop.stage import Stage
from seal_jax.settings import Settings, SettingsError
from seal_jax.stats.intervals import mean
from seal_jax.tasks import registry
from seal_jax.tasks.protocol import Context, Split

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
    """Tries the oracle lesson on every context of a split and says which ones it solves.

    Args:
      split: whose contexts.
      on: "leave_one_out" asks what the context shows itself (`Task.practice`), so that no test is
        looked at; "tests" asks the tests. A choice of evaluation contexts by their tests is
        labelled "oracle-filtered, as in the paper": arms are then compared on contexts of which it
        is known that they can be solved.

    Returns:
      What it wrote to results.json: "solved" has the ids of the contexts whose every question was
      solved, "tasks" a record of each, "filter" how they were chosen.

    Raises:
      SettingsError: the task has no oracle lesson, or no context can be tried; and as `run_job`.
    """
    if "oracle" not in registry.open_task(settings).sources:
        raise SettingsError(
            f"curate tries the lesson 'oracle', which task={settings.task} does not have here: "
            "the config few_shot:demo has one, and so have self-edits with directives."
        )

    def work(run: Run) -> dict[str, Any]:
        return _curate(run, split, on)

    return run_job(settings, workdir, work, overwrite=overwrite, quiet=quiet, split=split, on=on)


def _curate(run: Run, split: Split, on: On) -> dict[str, Any]:
    session = run.session
    task = session.task
    found = contexts_lib.available(session, split)
    practice = {c.id: [c] if on == "tests" else list(task.practice(c)) for c in found.contexts}
    tried = [context for context in found.contexts if practice[context.id]]
    if not tried:
        raise SettingsError(
            f"no {task.context_word} of the split {split!r} can be tried on={on}: name others."
            f"{found.explain()}"
        )
    asked: list[Context] = [one for context in tried for one in practice[context.id]]
    preflight.ask_judge(run, asked[0])
    policies = {"base": Policy(run, 0)}
    lessons = Sources(run, policies, asked, split).of(Arm(label="", source="oracle"))
    candidates = attempt.candidates(session, asked, [of[:1] for of in lessons])
    stage = Stage(kind="curate")
    records, tokens = attempt.attempt(
        run, policies["base"], candidates, stage=stage, width=session.width(asked)
    )
    by_id = dict(zip((context.id for context in asked), records, strict=True))
    metrics = [metric.name for metric in task.metrics]
    practised = {context.id: [by_id[one.id] for one in practice[context.id]] for context in tried}
    of_each = {id: _summary(of, metrics) for id, of in practised.items()}
    solved = [id for id, of in practised.items() if _solved(of, metrics[0])]
    how = {
        "leave_one_out": "leave-one-out demonstrations",
        "tests": "training tasks' tests"
        if split == "train"
        else "oracle-filtered, as in the paper",
    }[on]
    head = next((lesson.head for of in lessons for lesson in of if hasattr(lesson, "head")), "")
    run.say("\n" + _table(of_each, metrics, task.context_word))
    run.say(
        f"\n{len(solved)} of {len(of_each)} {task.context_word}s solved ({how}); "
        f"{len(found.skipped)} more do not fit the run.\n"
        f'--config.{session.settings.task}.{split}_tasks="{tuple(solved)}"'
    )
    return {
        "recipe": head,
        "filter": how,
        "solved": solved,
        "tasks": of_each,
        "left_out": found.left_out,
        "trained_tokens": tokens.real,
    }


def _solved(records: Sequence[Record], metric: str) -> bool:
    """Whether every question is known to be solved: a mean of 1 leaves out what is not known."""
    return all(record["answers"] and record["scores"][metric] == 1 for record in records)


def _summary(records: Sequence[Record], metrics: Sequence[str]) -> Record:
    """Means over a context's questions; those without a result score nothing."""
    return {
        **{
            name: mean(record["scores"][name] if record["answers"] else 0.0 for record in records)
            for name in metrics
        },
        "questions": len(records),
        "failed": sum(record["reason"] is not None for record in records),
        "reasons": sorted({record["reason"] for record in records} - {None}),
    }


def _table(found: dict[str, Record], metrics: Sequence[str], word: str) -> str:
    """The contexts, the best first, as far as anything was gained."""
    gained = {id: [record[name] or 0.0 for name in metrics] for id, record in found.items()}
    order = sorted(gained, key=lambda id: ([-value for value in gained[id]], id))
    shown = [id for id in order if any(gained[id])][:40]
    lines = [f"{word:<12}" + "".join(f"{name:>10}" for name in (*metrics, "questions"))]
    for id in shown:
        values = "".join(f"{value:>10.3f}" for value in gained[id])
        lines.append(f"{id:<12}{values}{found[id]['questions']:>10}")
    if len(shown) < len(order):
        lines.append(f"({len(order) - len(shown)} more, of the least gain)")
    return "\n".join(lines)
