"""Contestants in processes of their own, measured in turns.

Each contestant owns a worker process, so that the thread pools of PyTorch and XLA never share one
and peak memory is the contestant's own. A worker that waits sleeps in a pipe read. The workers are
called in turns (A B C A B C ...), so that a change of the machine's speed meets all of them.
"""

import dataclasses
import importlib
import multiprocessing
import statistics
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks import machine


class ContestantError(RuntimeError):
    """A contestant failed; the message ends with its traceback."""


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


class Worker:
    """A contestant in a spawned process: `module.open_contestant(spec)` and its methods."""

    def __init__(self, module: str, spec: Any):
        """Starts the process; the contestant loads its model there.

        Raises:
          ContestantError: it could not.
        """
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._module = module
        self._process = context.Process(target=_serve, args=(theirs, module, spec), daemon=True)
        self._process.start()
        theirs.close()
        self._receive()

    def call(self, method: str, *args, **kwargs) -> dict[str, Any]:
        """Calls a method there.

        Returns:
          Its dict, with "peak_bytes": the most memory that the process held during the call.

        Raises:
          ContestantError: the method raised, or the process died.
        """
        self._pipe.send((method, args, kwargs))
        return self._receive()

    def close(self) -> None:
        """Ends the process."""
        self._pipe.close()
        self._process.join(timeout=10)
        if self._process.is_alive():
            self._process.terminate()

    def _receive(self):
        try:
            failed, value = self._pipe.recv()
        except EOFError:
            self._process.join(timeout=10)
            raise ContestantError(
                f"{self._module} ended with exit code {self._process.exitcode} (a negative 9 mostly"
                " means that memory ran out): try a smaller model or fewer candidates."
            ) from None
        if failed:
            raise ContestantError(f"{self._module} failed:\n{value}")
        return value


def _serve(pipe, module: str, spec: Any) -> None:
    """The worker process: answers calls until the pipe is closed."""
    try:
        contestant = importlib.import_module(module).open_contestant(spec)
        pipe.send((False, None))
    except Exception:
        pipe.send((True, traceback.format_exc()))
        return
    while True:
        try:
            method, args, kwargs = pipe.recv()
        except EOFError:
            return
        try:
            machine.reset_peak_memory()
            value = getattr(contestant, method)(*args, **kwargs)
            pipe.send((False, {"peak_bytes": machine.peak_memory(), **value}))
        except Exception:
            pipe.send((True, traceback.format_exc()))
