"""What was learned once is used again: units of work found by their content.

The content of a unit is all that its outcome follows from: model, policy, prompts, draws, recipe. A
unit of the same content, of an earlier arm or of another run, is copied from its record.
"""

import hashlib
from collections.abc import Sequence
from typing import Any

from seal_jax.loop.session import Session
from seal_jax.runs import storage
from seal_jax.runs.ledger import Ledger
from seal_jax.settings import SettingsError

Record = dict[str, Any]


class Known:
    """Units of work by their content: those of this run, and of finished or unfinished others."""

    def __init__(self, session: Session, ledger: Any, runs: Sequence[str]):
        """Reads the records of the runs to reuse, and of this one.

        Raises:
          SettingsError: one is not the directory of a run.
        """
        settings, devices = session.settings, session.devices
        # Also what decides the last bits of floating point, so that copies are what would be made.
        self._all_depend_on = (
            settings.seed,
            settings.model,
            settings.devices,
            len(devices.devices),
            devices.devices[0].device_kind,
        )
        self._records: dict[tuple[str, str], Record] = {}
        for workdir in runs:
            if not storage.is_folder(storage.locate(f"{workdir}/ledger")):
                raise SettingsError(f"--reuse={workdir} is not the directory of a run.")
            with Ledger(f"{workdir}/ledger", read_only=True) as other:
                self._take(other)
        self._take(ledger)

    def digest(self, kind: str, content: Any) -> str:
        """What identifies a content."""
        return hashlib.sha256(repr((kind, self._all_depend_on, content)).encode()).hexdigest()

    def add(self, kind: str, digest: str, record: Record) -> None:
        """A unit that was done now."""
        self._records.setdefault((kind, digest), record)

    def find(self, kind: str, content: Any) -> Record | None:
        """The record of a unit with this content."""
        return self._records.get((kind, self.digest(kind, content)))

    def _take(self, ledger: Any) -> None:
        for segment in ledger.segments():
            if "content" in segment.record:
                self.add(segment.kind, segment.record["content"], segment.record)
