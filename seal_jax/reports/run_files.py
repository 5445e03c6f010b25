"""A run's files beside its ledger: its config, its results and its times."""

import contextlib
import dataclasses
import functools
import os
from collections.abc import Iterator
from typing import Any, Self

import jinja2

from seal_jax.loop import results
from seal_jax.loop.results import Cost
from seal_jax.runs import results_file, run_dir, storage
from seal_jax.runs.results_file import DamagedError
from seal_jax.runs.storage import Location
from seal_jax.tasks.protocol import Metric

Record = dict[str, Any]
_OF_ANOTHER_FORM = (
    LookupError, TypeError, AttributeError, ArithmeticError, RecursionError, jinja2.TemplateError,
)  # fmt: skip


def read_timing(folder: Location) -> Record:
    """timing.json of a run with its "seconds" by name; none where there is no such file."""
    timing = results_file.read(folder / "timing.json")
    seconds = {name: float(value) for name, value in timing.get("seconds", {}).items()}
    return timing | {"seconds": seconds}


@contextlib.contextmanager
def as_written(workdir: str | os.PathLike[str]) -> Iterator[None]:
    """Says that a run's files are of another form than a run writes, where that is what breaks.

    Raises:
      DamagedError: in the place of what went wrong, which is its cause.
    """
    try:
        yield
    except (*_OF_ANOTHER_FORM, ValueError) as error:
        if isinstance(error, ValueError) and type(error) is not ValueError:
            raise  # it says what is wrong by itself
        found = f"{type(error).__name__}: {error}"[:200]
        raise DamagedError(
            f"{workdir}: the files of this run hold something else than a run writes ({found}); "
            "--traceback shows where that was noticed. Delete its results.json and repeat the "
            "command that made it, or put back an undamaged copy of the run."
        ) from error


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunFiles:
    """What a run has left, finished or not.

    Attributes:
      path: its directory.
      config: the resolved config.
      results: results.json; empty where there is none.
      timing: timing.json, with "seconds" by name; see `read_timing`.
    """

    path: Location
    config: Record
    results: Record
    timing: Record

    @classmethod
    def read(cls, workdir: str | os.PathLike[str], **others: Any) -> Self:
        """Reads a run's files; nothing is changed, and it may be in progress.

        Args:
          others: attributes of a subclass.

        Raises:
          RunDirError: there is no run.
          DamagedError: a file of it is damaged.
        """
        path = storage.locate(workdir)
        found, timing = results_file.read(path / "results.json"), read_timing(path)
        config = run_dir.read_config(path)
        return cls(path=path, config=config, results=found, timing=timing, **others)

    @functools.cached_property
    def settings(self) -> Record:
        """Every setting by its dotted key."""
        return dict(run_dir.flatten(self.config))

    @functools.cached_property
    def costs(self) -> dict[str, Cost]:
        """What each arm that learns spent; seconds only of what was done at one go."""
        seconds, replayed = self.timing["seconds"], self.timing.get("replayed")
        if replayed is None and self.timing.get("resumed"):
            seconds = {}  # a run of an older version does not say which of them are whole
        whole = {name: of for name, of in seconds.items() if name not in (replayed or ())}
        return results.spent(self.results, whole)

    @functools.cached_property
    def own_metrics(self) -> list[Metric]:
        """What its arms are measured by, the main one first; none where it has no results."""
        metrics = [Metric(**metric) for metric in self.results.get("metrics", ())]
        if any(not isinstance(text, str) for of in metrics for text in (of.name, of.label, of.per)):
            raise TypeError("metrics with names that are no texts")
        return metrics
