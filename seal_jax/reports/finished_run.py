"""Finished runs as they lie on the disk: what `compare` reads of them."""

import dataclasses
import itertools
import json
import os
from collections.abc import Sequence
from typing import Any

from seal_jax.reports import records
from seal_jax.runs import run_dir, storage
from seal_jax.runs.ledger import Ledger
from seal_jax.tasks.protocol import Metric

_OF_A_SEED = ("seed", "policy_from")  # what may differ between seeds of one setting


class CompareError(ValueError):
    """The runs cannot be compared; the message says why and what to change."""


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
    def grader(self) -> str:
        """What graded its answers."""
        return self.results["grader"]

    @property
    def metrics(self) -> list[Metric]:
        """What its arms are measured by."""
        return [Metric(**metric) for metric in self.results["metrics"]]

    @property
    def contexts(self) -> dict[str, Any]:
        """Per-context results by context id; see `loop.results.of`."""
        return self.results["contexts"]

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
        """By context one value a question, in the order of `questions`, or its own alone."""
        found, per = [], {of.name: of.per for of in self.metrics}
        for id, asked in questions.items():
            record = self.contexts[id]["arms"][arm]
            values = record[metric]
            if per[metric] == "question":
                of = dict(zip(record["questions"], values, strict=True))
                values = [of[question] for question in asked]
            found.append(values)
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
      DamagedError: a file of it is damaged.
    """
    folder = storage.locate(path)
    if not storage.exists(folder / "config.json"):
        raise CompareError(f"{folder} is not the directory of a run (it holds no config.json).")
    results = records.read_object(folder / "results.json")
    if not run_dir.is_finished(folder):
        raise CompareError(
            f"{folder} holds an unfinished run ({results.get('incomplete', 'no results.json')}): "
            "the command that started it finishes it."
        )
    config = run_dir.read_config(folder)
    if "solved" in results and "arms" not in results:
        raise CompareError(
            f"{folder} is a run of `curate`, which has no arms to compare: `report "
            f"--workdir={folder}` shows what it found."
        )
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


def _compute(folder: storage.Location) -> dict[str, Any]:
    with Ledger(folder / "ledger", read_only=True) as ledger:
        groups = [segment.record for segment in ledger.segments("trials")]
    timing = records.read_object(folder / "timing.json")
    return {
        "inner_loops": sum(len(group["trials"]) for group in groups),
        "real_tokens": sum(group["real_tokens"] for group in groups),
        "computed_tokens": sum(group["computed_tokens"] for group in groups),
        "seconds": timing.get("seconds", {}).get("total"),
        "resumed": bool(timing.get("resumed", False)),
    }


def shown(values: dict[str, Any], key: str) -> str:
    """A value for people: a text as it is, another as JSON, "nothing" where there is none."""
    value = values.get(key, "nothing")
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def listed(ids: Sequence[str], most: int = 5) -> str:
    """The first few of many ids.

    >>> listed(["a", "b", "c"], most=2)
    'a, b and 1 more'
    """
    more = f" and {len(ids) - most} more" if len(ids) > most else ""
    return ", ".join(ids[:most]) + more
