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
          OSError: the file system has no locks.
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
        except OSError as error:
            self.close()
            raise OSError(
                f"{self.path}: its file system does not lock files ({error.strerror}), so that two "
                "processes might write there at once. Give a directory on a local disk or at "
                "gs://, or mount it with locks (NFS with its lock service, Lustre with -o flock)."
            ) from None
        try:
            self._file.truncate(0)
            self._file.write(f"{os.getpid()} {socket.gethostname()}\n".encode())
        except BaseException:  # a full disk, say: nobody holds the directory
            self.close()
            raise

    def check(self) -> None:
        """Checks that the directory is still the one that was locked.

        Raises:
          DirectoryInUseError: it was removed, or another one is at its place.
        """
        try:
            here = os.path.samestat(os.stat(self.path / LOCK_NAME), os.fstat(self._file.fileno()))
        except (FileNotFoundError, NotADirectoryError):
            here = False
        if not here:
            raise DirectoryInUseError(
                f"{self.path} was removed or replaced while this process (pid {os.getpid()}) "
                "worked in it: it stops here and writes nothing more. What it had recorded there "
                "is gone; the same command starts anew, in a directory that nobody else uses."
            )

    def close(self) -> None:
        """Lets the directory go; calling it again does nothing."""
        self._file.close()
