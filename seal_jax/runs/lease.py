"""One writer per directory of an object store, which has no locks: numbered leases that beat.

A lease is an object `.lease-000007` with its holder's name, which its holder writes anew every few
seconds with a higher count. The one with the highest number counts. To hold a directory is to have
created the next number, which an object store grants to one writer; numbers only grow, so nobody
can come in by an old one. A holder that closes says so in its lease; one that was killed stops
beating, and is taken for dead when its count has stood still for `STALE_SECONDS` of the watcher's
own clock, whatever the clocks of the machines say.

What no lease can give: a holder that was suspended for longer than that and wakes up does not know
it yet. `check` asks before each record, and the heartbeat notices within `BEAT_SECONDS`; between
the two, at most one segment may still be written, which `create` keeps from replacing another.
"""

import json
import logging
import os
import re
import secrets
import socket
import threading
import time
from pathlib import Path
from typing import Any

from etils import epath

from seal_jax.runs import storage
from seal_jax.runs.closing import Closing
from seal_jax.runs.directory_lock import LOCK_NAME, DirectoryInUseError, DirectoryLock, in_use

BEAT_SECONDS = 10.0
STALE_SECONDS = 45.0
_NAME = re.compile(r"\.lease-(\d{6,})")


def hold(path: storage.Location) -> "DirectoryLock | Lease":
    """An exclusive hold on a directory: a lock on a local disk, a lease in an object store.

    Raises:
      DirectoryInUseError: somebody else holds it; the message names the process.
    """
    if isinstance(path, Path):
        return DirectoryLock(path)
    return Lease(path, beat_seconds=BEAT_SECONDS, stale_seconds=STALE_SECONDS)


def is_hold(name: str) -> bool:
    """Whether `name` is one that the files of locks and leases have."""
    return name == LOCK_NAME or _NAME.fullmatch(name) is not None


class Lease(Closing):
    """An exclusive hold on a directory of an object store; see `directory_lock.DirectoryLock`."""

    def __init__(self, path: epath.Path, *, beat_seconds: float, stale_seconds: float):
        """Takes the lease, or waits until its holder has beaten (then refuses) or is stale.

        Args:
          path: the directory, as `storage.locate` gives it.
          beat_seconds: how often this holder writes its lease.
          stale_seconds: how long another's must stand still to be taken over.

        Raises:
          DirectoryInUseError: somebody else holds the directory; the message names the process.
        """
        self.path = path
        self._beat_seconds = beat_seconds
        self._id = secrets.token_hex(8)
        self._lost: str | None = None
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None
        self._number = self._take(stale_seconds)
        self._thread = threading.Thread(target=self._beat_on, daemon=True, name=f"lease {path}")
        self._thread.start()

    def check(self) -> None:
        """Asks the store whether this is still the lease that counts.

        Raises:
          DirectoryInUseError: another process took it over.
        """
        number, content = self._last()
        if self._lost is None and number != self._number:
            self._lost = _holder(content) if number >= 0 else "a process that deleted its lease"
        if self._lost is not None:
            raise DirectoryInUseError(
                f"{self.path} was taken over by {self._lost}, since this process (pid "
                f"{os.getpid()}) gave no sign for too long: it stops here and records nothing "
                "more. Let the other one go on."
            )

    def close(self) -> None:
        """Lets the directory go; calling it again does nothing."""
        if self._thread is None:
            return
        self._closed.set()
        self._thread.join()
        self._thread = None
        if self._lost is None and self._last()[0] == self._number:
            self._write(0, released=True)

    def _take(self, stale_seconds: float) -> int:
        """Creates the next lease, once the last one is released or stale."""
        last, content = self._last()
        if last >= 0 and not content.get("released"):
            self._wait_until_stale(last, content, stale_seconds)
        number = last + 1
        try:
            storage.create(self._object(number), self._content(0))
        except FileExistsError:
            raise in_use(self.path, _holder(self._read(number))) from None
        # Older ones go, and with them their numbers: whoever looked before us may have created one
        # of these anew, and now sees ours, which is higher.
        last, content = self._last()
        if last != number:
            raise in_use(self.path, _holder(content))
        for older in self._numbers():
            if older < number:
                storage.remove(self._object(older))
        return number

    def _wait_until_stale(self, number: int, seen: dict[str, Any], seconds: float) -> None:
        """Returns when the lease stood still for so long; refuses when it beats."""
        logging.warning(
            "%s is held by %s: waiting %g s to see whether it is alive",
            self.path, _holder(seen), seconds,
        )  # fmt: skip
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(min(1.0, seconds / 10))
            last, content = self._last()
            if last == number and content.get("released"):
                return
            if (last, content) != (number, seen):
                raise in_use(self.path, _holder(content))
        logging.warning("%s has gone: taking %s over", _holder(seen), self.path)

    def _beat_on(self) -> None:
        """Writes the lease anew until it is closed or lost; a failure is tried again."""
        count = 0
        while not self._closed.wait(self._beat_seconds):
            try:
                number, content = self._last()
                if number != self._number:
                    self._lost = _holder(content)
                    logging.error("%s was taken over by %s", self.path, self._lost)
                    return
                count += 1
                self._write(count)
            except OSError as error:
                logging.warning("the lease on %s could not be renewed: %s", self.path, error)

    def _write(self, count: int, *, released: bool = False) -> None:
        storage.put(self._object(self._number), self._content(count, released=released))

    def _content(self, count: int, *, released: bool = False) -> bytes:
        holder = {"id": self._id, "pid": os.getpid(), "host": socket.gethostname()}
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        return json.dumps(holder | {"beat": count, "time": now, "released": released}).encode()

    def _numbers(self) -> list[int]:
        matches = (_NAME.fullmatch(child.name) for child in storage.children(self.path))
        return sorted(int(match[1]) for match in matches if match)

    def _last(self) -> tuple[int, dict[str, Any]]:
        """Number and content of the lease that counts; -1 and nothing where there is none."""
        numbers = self._numbers()
        return (numbers[-1], self._read(numbers[-1])) if numbers else (-1, {})

    def _read(self, number: int) -> dict[str, Any]:
        try:
            content = json.loads(storage.read_bytes(self._object(number)))
        except (FileNotFoundError, ValueError):
            content = None
        return content if isinstance(content, dict) else {}

    def _object(self, number: int) -> epath.Path:
        return self.path / f".lease-{number:06d}"


def _holder(content: dict[str, Any]) -> str:
    if "pid" not in content:
        return "another process"
    return f"process {content['pid']} on {content['host']} (last sign at {content['time']})"
