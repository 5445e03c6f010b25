"""Finished runs as they lie on the disk: what `compare` reads of them."""

import dataclasses
import functools
import itertools
import json
import os
from collections.abc import Sequence
from typing import Any

from seal_jax.runs import run_dir, storage
from seal_jax.runs.ledger import Ledger

DEFAULT_GRADER = "local-1"  # of runs that recorded none
GRIDS = "exact grids"  # what grades few-shot learning: no opinion, so it has no version
METRICS = {
    "knowledge": ("accuracy", "gold_log_likelihood"),
    "few_shot": ("solved", "graded", "gold_log_likelihood"),
}
_OF_A_SEED = ("seed", "policy_from")  # what may differ between seeds of one setting


class CompareError(ValueError):
    """The runs cannot be compared; the message says why and what to change."""


def metrics_of(task: str) -> tuple[str, ...]:
    """The metrics of a task domain; another package's has those of knowledge incorporation."""
    return METRICS["few_shot" if task == "few_shot" else "knowledge"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class FinishedRun:
    """A finished run.

    Attributes:
      path: its directory, as it was given.
      config: the resolved config.
      results: results.json.
      compute: inner_loops, real_tokens and computed_tokens of its inner loops (from the ledger),
        seconds (None where there is no timing.json) and resumed (whether those seconds are of the
        last of several processes only).
    """

    path: str
    config: dict[str, Any]
    results: dict[str, Any]
    compute: dict[str, Any]

    @property
    def task(self) -> str:
        """Its task domain: "knowledge", "few_shot", or "module:Class" of another package."""
        return self.config.get("task", "knowledge")

    @property
    def grader(self) -> Any:
        """What graded its answers."""
        return GRIDS if self.task == "few_shot" else self.results.get("grader", DEFAULT_GRADER)

    @functools.cached_property
    def contexts(self) -> dict[str, Any]:
        """Per-context results by context id; see `per_context.per_context`.

        Of few-shot learning the contexts are the tasks. Each has one question, whose value is the
        mean over the task's self-edits.
        """
        return _of_tasks(self.results) if self.task == "few_shot" else self.results["contexts"]

    @property
    def arms(self) -> list[str]:
        """The arms that every context has, in the order of the run's own table."""
        of_contexts = [context["arms"] for context in self.contexts.values()]
        # JSON objects are sorted by key; the pairs (second, first) keep the order.
        pairs = [reversed(pair["names"]) for pair in self.results.get("pairs", [])]
        names = dict.fromkeys([*itertools.chain.from_iterable(pairs), *of_contexts[0]])
        return [name for name in names if all(name in arms for arms in of_contexts)]

    def questions(self) -> dict[str, dict[str, tuple[str, ...]]]:
        """The question ids by context and arm."""
        return {
            id: {name: tuple(arm["questions"]) for name, arm in context["arms"].items()}
            for id, context in self.contexts.items()
        }

    def values(
        self, arm: str, metric: str, questions: dict[str, tuple[str, ...]]
    ) -> list[list[float | None]]:
        """One value a question, by context, in the order of `questions`."""
        found = []
        for id, asked in questions.items():
            record = self.contexts[id]["arms"][arm]
            of = dict(zip(record["questions"], record[metric], strict=True))
            found.append([of[question] for question in asked])
        return found

    def flat_config(self) -> dict[str, Any]:
        """The settings by dotted key, and beside them the model and versions that they met."""
        versions = self.results.get("versions", {})
        return dict(run_dir.flatten(self.config)) | {
            f"versions.{name}": value for name, value in versions.items()
        }


@dataclasses.dataclass(frozen=True)
class Setting:
    """One or more runs that differ by seed only.

    Attributes:
      label: as it was given.
      runs: by ascending seed.
    """

    label: str
    runs: tuple[FinishedRun, ...]

    @property
    def seeds(self) -> tuple[Any, ...]:
        """What tells its runs apart: (seed, policy_from) of each."""
        return tuple(seed_of(run) for run in self.runs)


def seed_of(run: FinishedRun) -> tuple[Any, ...]:
    """What tells the runs of one setting apart."""
    if run.config.get("policy_from"):
        # Its policy is another run's; the seed of that one is the outer loop's.
        return (run.config.get("seed"), run.config["policy_from"])
    return (run.config.get("seed"),)


def read_setting(label: str) -> Setting:
    """Reads RUN or RUN,RUN,...: runs of one setting with different seeds.

    Raises:
      CompareError: a run is not finished or cannot be compared, or they differ by more than seeds.
    """
    paths = [path for path in label.split(",") if path]
    if not paths:
        raise CompareError(f"{label!r} names no run: give its directory, or DIR,DIR for seeds.")
    runs = [read_run(path) for path in paths]
    first = runs[0]
    for run in runs[1:]:
        keys = [k for k in differing(first.config, run.config) if k not in _OF_A_SEED]
        if keys:
            raise CompareError(
                f"{first.path} and {run.path} were given as seeds of one setting, but differ by "
                f"{', '.join(keys)}: separate them by a space to compare them."
            )
        same = [other.path for other in runs if other is not run and seed_of(other) == seed_of(run)]
        if same:
            raise CompareError(
                f"{run.path} and {same[0]} have the same seed ({run.config.get('seed')}), so they "
                "are not two samples: leave one out."
            )
    runs.sort(key=lambda run: tuple(map(str, seed_of(run))))
    return Setting(label, tuple(runs))


def read_run(path: str | os.PathLike[str]) -> FinishedRun:
    """Reads a run directory.

    Raises:
      CompareError: it is not a finished run with per-context results.
    """
    folder = storage.locate(path)
    if not storage.exists(folder / "config.json"):
        raise CompareError(f"{folder} is not the directory of a run (it holds no config.json).")
    if not storage.exists(folder / "results.json"):
        raise CompareError(
            f"{folder} holds an unfinished run (no results.json): the command that started it "
            "finishes it."
        )
    config = run_dir.read_config(folder)
    results = _read(folder / "results.json")
    if config.get("task") == "few_shot":
        if "arms" not in results:
            raise CompareError(
                f"{folder} is a run of `curate`, which has no arms to compare: `report "
                f"--workdir={folder}` shows what it found."
            )
        contexts = results.get("tasks")
    else:
        contexts = results.get("contexts")
    if not isinstance(contexts, dict) or not contexts:
        raise CompareError(
            f"{folder} has no per-context results: it had a planted reward, or was made by an "
            "older version. `evaluate --policy_from` repeats its evaluation."
        )
    return FinishedRun(
        path=os.fspath(path), config=config, results=results, compute=_compute(folder)
    )


def differing(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """The dotted keys whose values differ, or that only one config has, sorted."""
    flat_one, flat_other = dict(run_dir.flatten(one)), dict(run_dir.flatten(other))
    missing = object()
    return [
        key
        for key in sorted(flat_one.keys() | flat_other.keys())
        if flat_one.get(key, missing) != flat_other.get(key, missing)
    ]


def _of_tasks(results: dict[str, Any]) -> dict[str, Any]:
    """A few-shot run's results by task in the form of `per_context.per_context`."""
    return {
        id: {
            "title": id,
            "arms": {
                arm: {
                    "questions": ["the task"],
                    **{
                        metric: [sum(values) / len(values)]
                        for metric, values in found.items()
                        if metric in METRICS["few_shot"]
                    },
                    "empty": 0,
                    "ungraded": 0,
                }
                for arm, found in of_task.items()
            },
        }
        for id, of_task in results["tasks"].items()
    }


def _compute(folder: storage.Location) -> dict[str, Any]:
    with Ledger(folder / "ledger", read_only=True) as ledger:
        batches = [segment.record for segment in ledger.segments("batch")]
    timing = _read(folder / "timing.json") if storage.exists(folder / "timing.json") else {}
    return {
        "inner_loops": sum(len(batch.get("trials", [])) for batch in batches),
        "real_tokens": sum(batch.get("real_tokens", 0) for batch in batches),
        "computed_tokens": sum(batch.get("computed_tokens", 0) for batch in batches),
        "seconds": timing.get("seconds", {}).get("total"),
        "resumed": bool(timing.get("resumed", False)),
    }


def _read(path: storage.Location) -> dict[str, Any]:
    try:
        content = json.loads(storage.read_bytes(path))
    except ValueError as error:
        raise CompareError(f"{path} is damaged: {error}. Put an undamaged copy back.") from None
    if not isinstance(content, dict):
        raise CompareError(f"{path} is damaged: expected a JSON object.")
    return content


def listed(ids: Sequence[str], most: int = 5) -> str:
    """The first few of many ids.

    >>> listed(["a", "b", "c"], most=2)
    'a, b and 1 more'
    """
    more = f" and {len(ids) - most} more" if len(ids) > most else ""
    return ", ".join(ids[:most]) + more
