"""The run's record: a directory of immutable numbered segments, one for each finished unit of work.

A unit of work (such as one batch of candidates) is either recorded whole or not at all, so a run
that was killed asks `find` for each unit in turn and does again what is not there. Segments are
files named `000012-batch.json`; each holds its kind, key, record, the schema version of records and
a SHA-256 over the canonical JSON of these.
"""

import copy
import hashlib
import json
import logging
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from seal_jax.runs import json_file, lease, storage
from seal_jax.runs.closing import Closing
from seal_jax.runs.directory_lock import DirectoryLock
from seal_jax.runs.storage import Location

if TYPE_CHECKING:  # readers of a ledger need no JAX
    from seal_jax.runtime.hosts import Hosts

SCHEMA = 2  # raised whenever what records hold changes its meaning or its place
_SEGMENT_NAME = re.compile(r"(\d{6,})-[a-z][a-z0-9_]*\.json")


class LedgerError(ValueError):
    """The ledger's files, or a call, do not fit together; the message says what to do."""


@dataclass(frozen=True)
class Segment:
    """One finished unit of work.

    Attributes:
      index: its number in the ledger, from 0 without gaps.
      kind: what sort of unit it is, such as "batch"; lower-case letters, digits and underscores.
      key: which unit, such as "round0/batch3"; unique within its kind.
      record: what is kept of it, as it reads from the file (tuples have become lists).
    """

    index: int
    kind: str
    key: str
    record: dict[str, Any]


class Ledger(Closing):
    """The segments in a directory, with this object as their only writer.

    On several hosts, host 0 writes them and every host holds all of them: what a host appends, the
    others find after `sync`.

    Example: the work of a batch that may have been done before.

        with Ledger(run.ledger_path) as ledger:
            record = ledger.find("batch", "round0/batch3")
            if record is None:
                record = ledger.append("batch", "round0/batch3", do_the_work()).record
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        read_only: bool = False,
        hosts: "Hosts | None" = None,
    ):
        """Opens the ledger in `path`, making the directory if need be, and checks every segment.

        Temporary files of killed writers are deleted. A damaged newest segment is renamed to
        `<name>.damaged` with a warning, so its unit counts as not done.

        Args:
          path: a directory on a local disk, or at gs://.
          read_only: take no lock and change nothing (for reports on a run in progress); a damaged
            newest segment is then only left out.
          hosts: of the run, which all open its ledger; None for this process alone.

        Raises:
          DirectoryInUseError: another process, or another Ledger here, writes to it.
          LedgerError: a segment before the newest is damaged or missing, two segments clash, or one
            has another schema version than this package writes.
          StorageError: the object store cannot be used.
        """
        self.path = storage.locate(path)
        self._hosts = None if hosts is None or hosts.alone else hosts
        self._elsewhere = hosts is not None and hosts.rank > 0  # the files are host 0's
        self._segments: dict[tuple[str, str], Segment] = {}  # those of all hosts, oldest first
        self._own: dict[tuple[str, str], Segment] = {}  # this host's since the last `sync`
        self._lock: DirectoryLock | lease.Lease | None = None
        if not (read_only or self._elsewhere):
            storage.make_folder(self.path)
            self._lock = lease.hold(self.path)
        try:
            if not self._elsewhere:
                self._open()
            if self._hosts:
                known = json.loads(self._hosts.first("the ledger", lambda: _text(self._segments)))
                self._segments = {(s["kind"], s["key"]): Segment(**s) for s in known}
        except BaseException:
            self.close()
            raise

    def append(self, kind: str, key: str, record: dict[str, Any]) -> Segment:
        """Records a finished unit of work.

        When this returns, the segment is on the disk; on several hosts it is after `sync`.

        Args:
          kind: see `Segment`.
          key: see `Segment`.
          record: string-keyed JSON values (see `json_file.encode`); a figure that is not finite
            must be passed as None.

        Returns:
          The segment as `find` and `segments` will read it.

        Raises:
          LedgerError: the unit is recorded already, or the ledger is not open for writing.
          DirectoryInUseError: the directory is no longer this process's; see `check`.
          ValueError, TypeError: JSON cannot hold the record exactly; the message names the place.
        """
        if self._get(kind, key):
            raise LedgerError(
                f"{key!r} ({kind}) is recorded already, in {self.path}: a segment never changes. "
                "Ask find() first, or give this unit a key of its own."
            )
        body = {"index": len(self), "kind": kind, "key": key, "record": record}
        segment = Segment(**json.loads(json_file.encode(body)))
        if self._hosts:
            self._own[kind, key] = segment
        else:
            self._write(segment)
        return copy.deepcopy(segment)

    def sync(self) -> None:
        """Brings together what all hosts appended since the last time, in the order of ranks.

        All hosts have to call it. Of two records of one unit the first is kept.
        """
        if self._hosts is None:
            return
        own, self._own = self._own, {}
        for data in self._hosts.exchange("records", _text(own)):
            for found in json.loads(data):
                if (found["kind"], found["key"]) not in self._segments:
                    self._write(Segment(**{**found, "index": len(self._segments)}))

    def find(self, kind: str, key: str) -> dict[str, Any] | None:
        """The record of a unit of work; None where it is not done."""
        found = self._get(kind, key)
        return None if found is None else copy.deepcopy(found.record)

    def segments(self, kind: str | None = None) -> list[Segment]:
        """All segments, or those of one kind, oldest first; they are not to be changed."""
        found = [*self._segments.values(), *self._own.values()]
        return [segment for segment in found if kind in (None, segment.kind)]

    def __len__(self) -> int:
        return len(self._segments) + len(self._own)

    def check(self) -> None:
        """Checks that the directory is still this process's to write to.

        Raises:
          DirectoryInUseError: another process took it over, or it was removed or replaced.
        """
        if self._lock is not None:
            self._lock.check()

    def close(self) -> None:
        """Lets other processes write to the directory."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _get(self, kind: str, key: str) -> Segment | None:
        return self._segments.get((kind, key)) or self._own.get((kind, key))

    def _write(self, segment: Segment) -> None:
        """Puts a segment on the disk, if it is this host's; it counts from then on."""
        if not self._elsewhere:
            if self._lock is None:
                raise LedgerError(
                    f"{self.path} is closed, or open for reading only: nothing is added."
                )
            self.check()
            sealed = vars(segment) | {"schema": SCHEMA}
            json_file.create_json(self.path / _name(segment), {**sealed, "sha256": _digest(sealed)})
        self._segments[segment.kind, segment.key] = segment

    def _open(self) -> None:
        """Reads and checks what is there."""
        if self._lock is not None:
            json_file.remove_temporaries(self.path)
        elif not storage.is_folder(self.path):
            raise LedgerError(f"{self.path}: there is no ledger here.")
        found = [(_SEGMENT_NAME.fullmatch(p.name), p) for p in storage.children(self.path)]
        named = [(int(match[1]), path) for match, path in found if match]
        named.sort(key=lambda pair: (pair[0], pair[1].name))
        for place, (number, path) in enumerate(named):
            if number != place:
                what = "two segments have one number" if number < place else "a segment is missing"
                raise LedgerError(
                    f"{self.path}: {what}: expected number {place:06d}, found {path.name}. Put the "
                    "ledger back as it was, or move that file and every later segment away to have "
                    "their work done again."
                )
            segment = _read(path)
            if segment is None and place + 1 < len(named):
                raise LedgerError(
                    f"{path} is damaged, and {len(named) - place - 1} later segments build on it. "
                    "Put an undamaged copy back, or move it and every later segment out of "
                    f"{self.path} to have their work done again."
                )
            if segment is None:
                self._set_aside(path)
            elif clash := self._get(segment.kind, segment.key):
                raise LedgerError(
                    f"{path} and {_name(clash)} both record {segment.key!r} ({segment.kind}): "
                    "move the later one and every segment after it away."
                )
            else:
                self._segments[segment.kind, segment.key] = segment

    def _set_aside(self, path: Location) -> None:
        """Takes a damaged newest segment out of the count."""
        if self._lock is None:
            logging.warning("%s is damaged: left out.", path)
            return
        aside = storage.set_aside(path)
        logging.warning("%s was damaged: renamed to %s, its work is done again.", path, aside.name)


def _text(segments: dict[tuple[str, str], Segment]) -> bytes:
    """Segments as they are told to other hosts."""
    return json_file.encode([vars(segment) for segment in segments.values()]).encode()


def _name(segment: Segment) -> str:
    return f"{segment.index:06d}-{segment.kind}.json"


def _read(path: Location) -> Segment | None:
    """The segment in a file; None where it is damaged. One of another schema is refused."""
    try:
        content = json.loads(storage.read_bytes(path).decode("ascii"))
        whole = content.pop("sha256") == _digest(content)
        schema = content.pop("schema", 1)
        segment = Segment(**content) if whole and schema == SCHEMA else None
    except (FileNotFoundError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    if whole and segment is None:
        raise LedgerError(
            f"{path} holds a record of schema {schema}, but this version of seal_jax reads and "
            f"writes schema {SCHEMA}: use the version that made the run, or another --workdir."
        )
    return segment if segment and path.name == _name(segment) else None


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(json_file.encode(content).encode()).hexdigest()
