"""One writer per directory: a lock file that says who holds it and goes away with its process."""

import errno
import fcntl
import os
import socket
from pathlib import Path
from typing import Self

LOCK_NAME = ".lock"


class DirectoryInUseError(OSError):
    """Another writer holds the directory."""


class DirectoryLock:
    """An exclusive hold on a directory, until `close`, the end of a `with` block or of the process.

    The hold is an advisory `flock` on `<path>/.lock`, so a killed process leaves none behind; the
    file's text, "pid host", only names the holder in the error message. Two locks in one process
    exclude each other as well.
    """

    def __init__(self, path: str | os.PathLike[str]):
        """Takes the lock at once.

        Args:
          path: an existing directory on a file system with `flock` (any local disk).

        Raises:
          DirectoryInUseError: somebody else holds it; the message names the process.
        """
        self.path = Path(path)
        self._descriptor: int | None = os.open(self.path / LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            self._take(self._descriptor)
        except BaseException:
            self.close()
            raise

    def _take(self, descriptor: int) -> None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise
            pid, _, host = (
                os.pread(descriptor, 400, 0).decode(errors="replace").strip().partition(" ")
            )
            holder = f"process {pid} on {host}" if host else "another process"
            raise DirectoryInUseError(
                f"{self.path} is in use by {holder}: wait until it ends, stop it, or use another "
                "directory."
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()} {socket.gethostname()}\n".encode(), 0)

    def check(self) -> None:
        """Nothing takes a local lock over; see `lease.Lease.check`."""

    def close(self) -> None:
        """Lets the directory go; calling it again does nothing."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_descriptor", None) is not None:
            self.close()
