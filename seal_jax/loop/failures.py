"""Errors of the machine under a run, in words: a full or read-only disk, too little memory."""

import contextlib
import errno
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from seal_jax.loop import memory
from seal_jax.runtime import output

_FULL = {errno.ENOSPC, errno.EDQUOT}
_CLOSED = {errno.EROFS, errno.EACCES, errno.EPERM}
# What libraries that write files themselves make of it (TensorStore, under Orbax).
_FULL_IN_WORDS = re.compile(r"ENOSPC|EDQUOT|No space left on device|Disk quota exceeded")
_CONTINUES = "What was recorded is safe, and the same command continues the run"


@contextlib.contextmanager
def explained(workdir: str) -> Iterator[None]:
    """Says what to do about the errors of a block that works in `workdir`.

    Raises:
      OSError: the disk is full, or the directory cannot be written to.
      SettingsError: the device has too little memory.
    """
    try:
        with memory.needed_by("the run"):
            yield
    except Exception as error:
        number = error.errno if isinstance(error, OSError) else None
        in_words = not isinstance(error, OSError) and _FULL_IN_WORDS.search(str(error))
        if number in _FULL or in_words:
            place = getattr(error, "filename", None)
            if place is None and number is not None and output.fails():
                raise  # that is where the room is missing, which the command says
            raise OSError(_full(workdir, place)) from error
        if number in _CLOSED and _is_within(getattr(error, "filename", None), workdir):
            raise OSError(
                f"--workdir={workdir} cannot be written to ({error}): make it writable or give "
                f"another. {_CONTINUES}, if there is one."
            ) from error
        raise


def check_room(workdir: str | os.PathLike[str], needed: int, what: str, lower: str) -> None:
    """Refuses to begin what will not fit on the disk.

    Args:
      workdir: a local directory that is there.
      needed: bytes; about.
      what: that takes them.
      lower: the settings to lower.

    Raises:
      OSError: less is free.
    """
    free = shutil.disk_usage(workdir).free
    if needed > free:
        raise OSError(
            f"--workdir={workdir}: {what} take about {needed / 2**30:.1f} GiB, and "
            f"{free / 2**30:.1f} GiB are free at {_mount_point(Path(workdir).absolute())}: make "
            f"room, give another --workdir, or lower {lower}."
        )


def _full(workdir: str, place: object) -> str:
    """What to say of a disk that was full when a file at `place` was written, if that is known."""
    elsewhere = isinstance(place, str | os.PathLike) and not _is_within(place, workdir)
    mount = _mount_point(Path(str(place) if elsewhere else workdir).absolute())
    free = shutil.disk_usage(mount).free
    what = f"{place}" if elsewhere else f"--workdir={workdir}"
    return (
        f"no space is left for {what}: the file system at {mount} is full, or your "
        f"quota on it is used up ({free / 2**20:.1f} MiB are free there now). {_CONTINUES} when "
        "there is room."
    )


def _mount_point(path: Path) -> Path:
    """Where the file system begins that holds a path, or the part of it that exists."""
    while not os.path.ismount(path) and path != path.parent:
        path = path.parent
    return path


def _is_within(filename: object, workdir: str) -> bool:
    if not isinstance(filename, str | os.PathLike):
        return False
    root, path = (Path(os.path.abspath(of)) for of in (workdir, filename))
    return path.is_relative_to(root) or root.is_relative_to(path)
