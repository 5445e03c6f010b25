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
from typing import TYPE_CHECKING, Any, Self

from seal_jax.runs import json_file, lease, storage
from seal_jax.runs.directory_lock import DirectoryLock
from seal_jax.runs.storage import Location

if TYPE_CHECKING:  # readers of a ledger need no JAX
    from seal_jax.runtime.hosts import Hosts

SCHEMA = 2  # raised whenever what records hold changes its meaning or its place
_KIND = re.compile(r"[a-z][a-z0-9_]*")
_SEGMENT_NAME = re.compile(r"(\d{6,})-([a-z][a-z0-9_]*)\.json")


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


class Ledger:
    """The segments in a directory, with this object as their only writer.

    Example: the work of a batch that may have been done before.

        with Ledger(run.ledger_path) as ledger:
            record = ledger.find("batch", "round0/batch3")
            if record is None:
                record = ledger.append("batch", "round0/batch3", do_the_work()).record
    """

    def __init__(self, path: str | os.PathLike[str], *, read_only: bool = False):
        """Opens the ledger in `path`, making the directory if need be, and checks every segment.

        Temporary files of killed writers are deleted. A damaged newest segment is renamed to
        `<name>.damaged` with a warning, so its unit counts as not done.

        Args:
          path: a directory on a local disk, or at gs://.
          read_only: take no lock and change nothing (for reports on a run in progress); a damaged
            newest segment is then only left out.

        Raises:
          DirectoryInUseError: another process, or another Ledger here, writes to it.
          LedgerError: a segment before the newest is damaged or missing, two segments clash, or one
            has another schema version than this package writes.
          StorageError: the object store cannot be used.
        """
        self.path = storage.locate(path)
        self._read_only = read_only
        self._files: list[Location] = []
        self._index_of: dict[tuple[str, str], int] = {}
        self._lock: DirectoryLock | lease.Lease | None = None
        if not read_only:
            storage.make_folder(self.path)
            self._lock = lease.hold(self.path)
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def append(self, kind: str, key: str, record: dict[str, Any]) -> Segment:
        """Records a finished unit of work; when this returns, the segment is on the disk.

        Args:
          kind: see `Segment`.
          key: see `Segment`; at least one character.
          record: string-keyed JSON values (see `json_file.encode`); a figure that is not finite
            must be passed as None.

        Returns:
          The segment as `find` and `segments` will read it.

        Raises:
          LedgerError: the unit is recorded already, or `kind` or `key` is not a proper name.
          DirectoryInUseError: another process took the ledger over (in an object store only).
          ValueError, TypeError: JSON cannot hold the record exactly; the message names the place.
        """
        if self._lock is None:
            state = "open for reading only" if self._read_only else "closed"
            raise LedgerError(f"{self.path} is {state}: nothing can be appended.")
        if not _KIND.fullmatch(kind):
            raise LedgerError(
                f"kind {kind!r}: expected lower-case letters, digits and _, such as 'batch'."
            )
        if not isinstance(key, str) or not key:
            raise LedgerError(
                f"key {key!r}: expected a text that names the unit, such as 'round0/batch3'."
            )
        if not isinstance(record, dict):
            raise LedgerError(f"record: expected a dict, got a {type(record).__name__}.")
        if (kind, key) in self._index_of:
            done = self._files[self._index_of[kind, key]].name
            raise LedgerError(
                f"{key!r} ({kind}) is recorded already, in {done}: a segment never changes. Ask "
                "find() first, or give this unit a key of its own."
            )
        self._lock.check()
        index = len(self._files)
        body = {"index": index, "kind": kind, "key": key, "record": record}
        path = self.path / f"{index:06d}-{kind}.json"
        sealed = {**body, "schema": SCHEMA}
        json_file.create_json(path, {**sealed, "sha256": _digest(sealed)})
        segment = Segment(**json.loads(json_file.encode(body)))
        self._add(segment, path)
        return segment

    def sync(self) -> None:
        """Nothing, where one process does the whole run; see `SharedLedger`."""

    def find(self, kind: str, key: str) -> dict[str, Any] | None:
        """The record of a unit of work, read afresh from its file; None where it is not done."""
        index = self._index_of.get((kind, key))
        return None if index is None else self._read_again(index).record

    def segments(self, kind: str | None = None) -> list[Segment]:
        """All segments, or those of one kind, oldest first, read afresh from their files."""
        wanted = sorted(i for (of, _), i in self._index_of.items() if kind is None or of == kind)
        return [self._read_again(index) for index in wanted]

    def __len__(self) -> int:
        return len(self._files)

    def close(self) -> None:
        """Lets other processes write to the directory."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _open(self) -> None:
        """Reads and checks what is there."""
        if self._read_only and not storage.is_folder(self.path):
            raise LedgerError(f"{self.path}: there is no ledger here.")
        if self._lock is not None:
            json_file.remove_temporaries(self.path)
        matches = [
            (_SEGMENT_NAME.fullmatch(path.name), path) for path in storage.children(self.path)
        ]
        named = [(match, path) for match, path in matches if match]
        named.sort(key=lambda pair: (int(pair[0][1]), pair[1].name))
        for place, (match, path) in enumerate(named):
            if int(match[1]) != place:
                raise LedgerError(_gap(self.path, place, path))
            segment = _read(path, place, match[2])
            if segment is None and place + 1 == len(named):
                self._set_aside(path)
            elif segment is None:
                raise LedgerError(
                    f"{path} is damaged, and {len(named) - place - 1} later segments build on it. "
                    "Put an undamaged copy back, or move it and every later segment out of "
                    f"{self.path} to have their work done again."
                )
            else:
                self._add(segment, path)

    def _add(self, segment: Segment, path: Location) -> None:
        unit = (segment.kind, segment.key)
        if unit in self._index_of:
            raise LedgerError(
                f"{path} and {self._files[self._index_of[unit]].name} both record {segment.key!r} "
                f"({segment.kind}): move the later one and every segment after it away."
            )
        self._index_of[unit] = segment.index
        self._files.append(path)

    def _set_aside(self, path: Location) -> None:
        """Takes a damaged newest segment out of the count."""
        if self._lock is None:
            logging.warning("%s is damaged: left out.", path)
            return
        target, number = path.with_name(path.name + ".damaged"), 2
        while storage.exists(target):
            target, number = path.with_name(f"{path.name}.{number}.damaged"), number + 1
        storage.rename(path, target)
        logging.warning("%s was damaged: renamed to %s, its work is done again.", path, target.name)

    def _read_again(self, index: int) -> Segment:
        path = self._files[index]
        match = _SEGMENT_NAME.fullmatch(path.name)
        segment = _read(path, index, match[2]) if match else None
        if segment is None:
            raise LedgerError(
                f"{path} was changed or removed while the ledger was open: put it back."
            )
        return segment


class SharedLedger:
    """The ledger of a run on several hosts: host 0 writes it, and every host holds all of it.

    It has what `Ledger` has for a run; what a host appends, the others find after `sync`.
    """

    def __init__(self, hosts: "Hosts", path: str | os.PathLike[str] | None):
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

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _gap(path: Location, place: int, found: Location) -> str:
    """What to say of the segment `found`, which is not number `place`."""
    twice = int(found.name.split("-")[0]) < place
    what = "two segments have one number" if twice else "a segment is missing"
    return (
        f"{path}: {what}: expected number {place:06d}, found {found.name}. Put the ledger back as "
        "it was, or move that file and every later segment away to have their work done again."
    )


def _read(path: Location, index: int, kind: str) -> Segment | None:
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
    return segment if segment and (segment.index, segment.kind) == (index, kind) else None


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(json_file.encode(content).encode()).hexdigest()
