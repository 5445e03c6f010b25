"""Files written where --out says: whole or not at all, and never over somebody's work."""

import os
import pathlib
from collections.abc import Callable


class OutError(ValueError):
    """Nothing can be written there; the message says why and what to change."""


def check(
    path: str | os.PathLike[str], ours: Callable[[bytes], bool], otherwise: str, flag: str = "--out"
) -> None:
    """Refuses a path where no file can be written.

    Args:
      path: the file.
      ours: whether a file of such content may be replaced.
      otherwise: what to say of another one.
      flag: where the path was given.

    Raises:
      OutError: it is a directory, its directory is missing, or a file that is there stays.
    """
    file = pathlib.Path(path)
    if file.is_dir():
        raise OutError(f"{flag}={file} is a directory: give a file.")
    if not file.parent.is_dir():
        raise OutError(f"{flag}={file}: there is no directory {file.parent}: make it first.")
    if file.exists() and not ours(file.read_bytes()):
        raise OutError(
            f"{flag}={file} is there already, and is {otherwise}: it was not touched. Give another "
            "name, or move it away."
        )


def write(path: str | os.PathLike[str], content: bytes) -> None:
    """Writes a file at once; one that is there is replaced."""
    file = pathlib.Path(path)
    part = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    try:
        part.write_bytes(content)
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)
