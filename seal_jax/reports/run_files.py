"""A run's files beside its ledger: its config, its results and its times."""

import dataclasses
import functools
import json
import os
from typing import Any, Self

from seal_jax.runs import run_dir, storage
from seal_jax.runs.storage import Location
from seal_jax.tasks.protocol import Metric

Record = dict[str, Any]


class DamagedError(ValueError):
    """A file of a run is not what was written; the message says which."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunFiles:
    """What a run has left, finished or not.

    Attributes:
      path: its directory.
      config: the resolved config.
      results: results.json; empty where there is none.
      timing: timing.json; empty where there is none.
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
        results, timing = (read_object(path / f"{name}.json") for name in ("results", "timing"))
        config = run_dir.read_config(path)
        return cls(path=path, config=config, results=results, timing=timing, **others)

    @functools.cached_property
    def settings(self) -> Record:
        """Every setting by its dotted key."""
        return dict(run_dir.flatten(self.config))

    @functools.cached_property
    def own_metrics(self) -> list[Metric]:
        """What its arms are measured by, the main one first; none where it has no results."""
        return [Metric(**metric) for metric in self.results.get("metrics", ())]


def read_object(path: Location) -> Record:
    """The JSON object in a file of a run; empty where there is none.

    Raises:
      DamagedError: the file holds something else.
    """
    try:
        found = json.loads(storage.read_bytes(path)) if storage.exists(path) else {}
    except ValueError as error:
        raise DamagedError(f"{path} is damaged: {error}. Put an undamaged copy back.") from None
    if not isinstance(found, dict):
        raise DamagedError(f"{path} is damaged: expected a JSON object.")
    return found
