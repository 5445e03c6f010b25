"""One writer per directory: a lock file that says who holds it and goes away with its process."""

import fcntl
import os
import socket
from pathlib import Path

from seal_jax.runs.closing import Closing

LOCK_NAME = ".lock"


class DirectoryInUseError(OSError):
    """Another writer holds the directory."""


def in_use(path: os.PathLike[str], holder: str) -> DirectoryInUseError:
    """The error for a directory that `holder` (a few words) holds."""
    return DirectoryInUseError(
        f"{os.fspath(path)} is in use by {holder}: wait until it ends, stop it, or use another "
        "directory."
    )


class DirectoryLock(Closing):
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
        self._file = open(self.path / LOCK_NAME, "a+b", buffering=0)  # noqa: SIM115
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(self._file.fileno()).st_nlink == 0:  # deleted by the one that held it
                raise BlockingIOError
        except (BlockingIOError, PermissionError):
            self._file.seek(0)
            pid, _, host = self._file.read(400).decode(errors="replace").strip().partition(" ")
            self.close()
            holder = f"process {pid} on {host}" if host else "another process"
            raise in_use(self.path, holder) from None
        self._file.truncate(0)
        self._file.write(f"{os.getpid()} {socket.gethostname()}\n".encode())

    def check(self) -> None:
        """Nothing takes a local lock over; see `lease.Lease.check`."""

    def close(self) -> None:
        """Lets the directory go; calling it again does nothing."""
        self._file.close()
