"""Finished runs as they lie on the disk: what `compare` reads of them."""

import dataclasses
import functools
import itertools
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from seal_jax.reports import run_files
from seal_jax.reports.run_files import RunFiles
from seal_jax.runs import run_dir, storage
from seal_jax.runs.ledger import Ledger

_OF_A_SEED = ("seed", "policy_from")  # what may differ between seeds of one setting
_MISSING = object()


class CompareError(ValueError):
    """The runs cannot be compared; the message says why and what to change."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class FinishedRun(RunFiles):
    """A finished run.

    Attributes:
      label: its directory, as it was given.
    """

    label: str

    @property
    def task(self) -> str:
        """Its task domain: "knowledge", "few_shot", or "module:Class" of another package."""
        return self.config.get("task", "knowledge")

    @functools.cached_property
    def contexts(self) -> dict[str, Any]:
        """Per-context results (see `loop.results.of`), contexts and questions by their ids."""
        of_question = ["questions", *(m.name for m in self.own_metrics if m.per == "question")]
        found = {}
        for id, context in sorted(self.results["contexts"].items()):
            arms = {}
            for name, arm in context["arms"].items():
                rows = zip(*(arm[key] for key in of_question), strict=True)
                columns = map(list, zip(*sorted(rows, key=lambda row: row[0]), strict=True))
                arms[name] = arm | dict(zip(of_question, columns, strict=False))
            found[id] = context | {"arms": arms}
        return found

    @property
    def arms(self) -> list[str]:
        """The arms that every context has, in the order of the run's own table."""
        of_contexts = [context["arms"] for context in self.contexts.values()]
        # JSON objects are sorted by key; the pairs (second, first) keep the order.
        pairs = [reversed(pair["names"]) for pair in self.results.get("pairs", [])]
        names = dict.fromkeys([*itertools.chain.from_iterable(pairs), *of_contexts[0]])
        return [name for name in names if all(name in arms for arms in of_contexts)]

    @property
    def seed(self) -> tuple[Any, ...]:
        """What tells the runs of one setting apart."""
        if policy := self.config.get("policy_from"):
            # Its policy is another run's; the seed of that one is the outer loop's.
            return (self.config.get("seed"), policy)
        return (self.config.get("seed"),)

    @property
    def met(self) -> dict[str, Any]:
        """The settings by dotted key, and beside them the versions that they met."""
        versions = self.results.get("versions", {})
        return self.settings | {f"versions.{name}": value for name, value in versions.items()}

    def compute(self) -> dict[str, Any]:
        """inner_loops, real_tokens and computed_tokens of its inner loops (from the ledger),
        seconds (None where there is no timing.json) and resumed (whether those seconds are of the
        last of several processes only)."""
        with Ledger(self.path / "ledger", read_only=True) as ledger:
            groups = [segment.record for segment in ledger.segments("trials")]
        return {
            "inner_loops": sum(len(group["trials"]) for group in groups),
            "real_tokens": sum(group["real_tokens"] for group in groups),
            "computed_tokens": sum(group["computed_tokens"] for group in groups),
            "seconds": self.timing.get("seconds", {}).get("total"),
            "resumed": bool(self.timing.get("resumed", False)),
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
    def arms(self) -> list[str]:
        """The arms that all of its runs have."""
        first, *others = self.runs
        return [arm for arm in first.arms if all(arm in run.arms for run in others)]


def read_setting(label: str) -> Setting:
    """Reads RUN or RUN,RUN,...: runs of one setting with different seeds.

    Raises:
      CompareError: a run is not finished or cannot be compared, or they differ by more than seeds.
    """
    runs = [read_run(path) for path in label.split(",") if path]
    if not runs:
        raise CompareError(f"{label!r} names no run: give its directory, or DIR,DIR for seeds.")
    for first, run in itertools.combinations(runs, 2):
        keys = [k for k in differing(first.settings, run.settings) if k not in _OF_A_SEED]
        if keys:
            raise CompareError(
                f"{first.label} and {run.label} were given as seeds of one setting, but differ by "
                f"{', '.join(keys)}: separate them by a space to compare them."
            )
        if first.seed == run.seed:
            raise CompareError(
                f"{first.label} and {run.label} have the same seed ({run.config.get('seed')}), so "
                "they are not two samples: leave one out."
            )
    return Setting(label, tuple(sorted(runs, key=lambda run: [*map(str, run.seed)])))


def read_run(path: str | os.PathLike[str]) -> FinishedRun:
    """Reads a run directory.

    Raises:
      CompareError: it is not a finished run with per-context results.
      DamagedError: a file of it is damaged.
    """
    folder = storage.locate(path)
    if not storage.exists(folder / "config.json"):
        raise CompareError(f"{folder} is not the directory of a run (it holds no config.json).")
    with run_files.as_written(path):
        return _read_run(path, folder)


def _read_run(path: str | os.PathLike[str], folder: storage.Location) -> FinishedRun:
    run = FinishedRun.read(path, label=os.fspath(path))
    results = run.results
    if not run_dir.is_finished(folder):
        raise CompareError(
            f"{folder} holds an unfinished run ({results.get('incomplete', 'no results.json')}): "
            "the command that started it finishes it."
        )
    if "solved" in results and "arms" not in results:
        raise CompareError(
            f"{folder} is a run of `curate`, which has no arms to compare: `report "
            f"--workdir={folder}` shows what it found."
        )
    if not isinstance(results.get("contexts"), dict) or not results["contexts"]:
        raise CompareError(
            f"{folder} has no per-context results: it had a planted reward, or was made by an "
            "older version. `evaluate --policy_from` repeats its evaluation."
        )
    for arm in (arm for context in run.contexts.values() for arm in context["arms"].values()):
        for metric in run.own_metrics:
            np.array(arm[metric.name], float)  # numbers, and None where there is no value
    return run


def differing(*configs: Mapping[str, Any]) -> list[str]:
    """The keys that not all configs have with the same value, sorted.

    >>> differing({"a": 1, "b": 2}, {"a": 1, "b": 3}, {"a": 1})
    ['b']
    """
    first = configs[0]
    return [
        key
        for key in sorted(set().union(*configs))
        if any(of.get(key, _MISSING) != first.get(key, _MISSING) for of in configs)
    ]


def shown(values: Mapping[str, Any], key: str) -> str:
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
