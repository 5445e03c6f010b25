"""What a run has left on the disk, finished or not: all that a report is made from."""

import dataclasses
import json
import pathlib
from collections.abc import Mapping
from typing import Any

from seal_jax.runs import run_dir
from seal_jax.runs.ledger import Ledger

Record = dict[str, Any]


class ReportError(ValueError):
    """No report can be made; the message says why and what to change."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunRecords:
    """A run's files.

    Attributes:
      path: its directory.
      config: the resolved config.
      results: results.json; empty for an unfinished run.
      timing: timing.json; empty where there is none.
      stages: stage -> kind -> records in the order of the ledger.
    """

    path: pathlib.Path
    config: Record
    results: Record
    timing: Record
    stages: Mapping[str, Mapping[str, list[Record]]]

    @property
    def name(self) -> str:
        """The run's name: its directory's."""
        return self.path.resolve().name

    @property
    def finished(self) -> bool:
        """Whether it has results."""
        return bool(self.results)

    @property
    def few_shot(self) -> bool:
        """Whether its contexts are ARC tasks."""
        return self.config.get("task") == "few_shot"

    @property
    def continual(self) -> bool:
        """Whether it is of the continual experiment."""
        return any(map(is_continual, self.stages))

    def setting(self, key: str, default: Any = None) -> Any:
        """A setting by its dotted key."""
        found: Any = self.config
        for part in key.split("."):
            if not isinstance(found, dict) or part not in found:
                return default
            found = found[part]
        return found

    def merged(self, stage: str, kind: str) -> Record:
        """The records of a kind that are keyed by context, as one."""
        return {
            key: value
            for record in self.stages.get(stage, {}).get(kind, [])
            for key, value in record.items()
        }

    def trials(self, stage: str) -> list[Record]:
        """All trials of a stage."""
        batches = self.stages.get(stage, {}).get("batch", [])
        return [trial for batch in batches for trial in batch["trials"]]


def is_continual(stage: str) -> bool:
    """Whether a stage is a cure or a bound of the continual experiment."""
    return stage.startswith("continual ")


def read(workdir: str) -> RunRecords:
    """Reads a run; nothing in it is changed, and it may be in progress.

    Raises:
      ReportError: there is no run, or a file of it is damaged.
      RunDirError, LedgerError: likewise.
    """
    path = pathlib.Path(workdir)
    if not path.is_dir():
        raise ReportError(f"--workdir={workdir}: there is no such directory.")
    config = run_dir.read_config(path)
    stages: dict[str, dict[str, list[Record]]] = {}
    if (path / "ledger").is_dir():
        with Ledger(path / "ledger", read_only=True) as ledger:
            for segment in ledger.segments():
                name = segment.key.split("/")[0]
                if segment.kind in ("learned", "retest"):
                    name = f"continual {name}"  # where its self-edits are
                of_stage = stages.setdefault(name, {})
                of_stage.setdefault(segment.kind, []).append(segment.record)
    return RunRecords(
        path=path,
        config=config,
        results=_object(path / "results.json"),
        timing=_object(path / "timing.json"),
        stages=stages,
    )


def _object(path: pathlib.Path) -> Record:
    """The content of a JSON file; empty where there is none."""
    if not path.exists():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ReportError(f"{path} is damaged: {error}. Put an undamaged copy back.") from None
    if not isinstance(found, dict):
        raise ReportError(f"{path} is damaged: expected a JSON object.")
    return found
