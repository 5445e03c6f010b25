"""Contestants measured in turns (A B C A B C ...): a change of the machine's speed meets all of
them. Each has a process of its own (`seal_jax.doctor.worker`).
"""

import dataclasses
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any


@dataclasses.dataclass(frozen=True)
class Times:
    """Seconds (or any other number) of repeated measurements."""

    median: float
    low: float
    high: float
    repeats: int


def summary(values: Sequence[float]) -> Times:
    """Median and extremes.

    Raises:
      ValueError: there are no values.

    >>> summary([3.0, 1.0, 2.0])
    Times(median=2.0, low=1.0, high=3.0, repeats=3)
    """
    if not values:
        raise ValueError("no measurements to sum up: repeats must be at least 1.")
    return Times(statistics.median(values), min(values), max(values), len(values))


def speedup(baseline: Times, ours: Times) -> float:
    """How many times faster ours is, by medians.

    >>> speedup(summary([6.0, 5.0, 9.0]), summary([2.0, 4.0, 3.0]))
    2.0
    """
    return baseline.median / ours.median


def alternate(
    contestants: Mapping[str, Callable[[], Mapping[str, Any]]], repeats: int
) -> dict[str, list[Mapping[str, Any]]]:
    """Calls the contestants in turns, and returns what each call of each one returned."""
    found: dict[str, list[Mapping[str, Any]]] = {name: [] for name in contestants}
    for _ in range(repeats):
        for name, measure in contestants.items():
            found[name].append(measure())
    return found


def times(records: Sequence[Mapping[str, Any]], key: str = "seconds") -> Times:
    """The summary of one number of every record."""
    return summary([record[key] for record in records])
