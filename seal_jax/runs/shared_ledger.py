"""The ledger of a run on several hosts: host 0 writes it, and every host holds all of it."""

import copy
import json
import os
from typing import Any

from seal_jax.runs import json_file
from seal_jax.runs.ledger import Ledger, LedgerError, Segment
from seal_jax.runtime.hosts import Hosts


class SharedLedger:
    """Has what `Ledger` has for a run; what a host appends, the others find after `sync`."""

    def __init__(self, hosts: Hosts, path: str | os.PathLike[str] | None):
        """Opens the ledger on host 0 and tells the others what it holds.

        Args:
          hosts: of the run.
          path: see `Ledger`; only host 0 uses it.
        """
        self._hosts = hosts
        self._file = Ledger(path) if hosts.rank == 0 and path is not None else None
        try:
            known = json.loads(hosts.first("the ledger", self._all))
        except BaseException:
            self.close()
            raise
        self._segments = {(s["kind"], s["key"]): Segment(**s) for s in known}
        self._own: dict[tuple[str, str], Segment] = {}

    def _all(self) -> bytes:
        assert self._file is not None, "host 0 has the file"
        segments = [vars(segment) for segment in self._file.segments()]
        return json_file.encode(segments).encode()

    def append(self, kind: str, key: str, record: dict[str, Any]) -> Segment:
        """Records a unit of work of this host; on the disk and known to all after `sync`.

        Raises:
          LedgerError: the unit is recorded already.
          ValueError, TypeError: JSON cannot hold the record exactly.
        """
        if self.find(kind, key) is not None:
            raise LedgerError(f"{key!r} ({kind}) is recorded already: ask find() first.")
        body = {"index": len(self), "kind": kind, "key": key, "record": record}
        segment = self._own[kind, key] = Segment(**json.loads(json_file.encode(body)))
        return segment

    def sync(self) -> None:
        """Brings together what all hosts appended since the last time, in the order of ranks.

        All hosts have to call it. Of two records of one unit the first is kept.
        """
        own = json_file.encode([vars(segment) for segment in self._own.values()])
        self._own = {}
        for data in self._hosts.exchange("records", own.encode()):
            for found in json.loads(data):
                unit = found["kind"], found["key"]
                if unit not in self._segments:
                    self._segments[unit] = Segment(**{**found, "index": len(self._segments)})
                    if self._file is not None:
                        self._file.append(*unit, found["record"])

    def find(self, kind: str, key: str) -> dict[str, Any] | None:
        """See `Ledger.find`."""
        segment = self._segments.get((kind, key)) or self._own.get((kind, key))
        return None if segment is None else copy.deepcopy(segment.record)

    def segments(self, kind: str | None = None) -> list[Segment]:
        """See `Ledger.segments`."""
        found = [*self._segments.values(), *self._own.values()]
        return [segment for segment in found if kind in (None, segment.kind)]

    def __len__(self) -> int:
        return len(self._segments) + len(self._own)

    def close(self) -> None:
        """Lets other processes write to the directory."""
        if self._file is not None:
            self._file.close()

    def __enter__(self) -> "SharedLedger":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
