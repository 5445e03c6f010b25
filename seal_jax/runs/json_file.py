"""Strict JSON values and files: the same value always gives the same bytes, and comes back equal.

Whatever a run writes as JSON (ledger segments, config.json, results.json) passes through here, so
that a value read back after a restart is the value that was written: floats keep every bit, keys
are strings, and anything that JSON would change or cannot hold is refused where it was written, not
where it is read.
"""

import errno
import json
import math
import os
import re
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

from etils import epath

from seal_jax.runs import storage

_TEMPORARY = re.compile(r"\.tmp-\d+-[0-9a-f]{8}")
# What file systems without hard links answer.
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EXDEV, errno.EMLINK}


def encode(value: Any, *, indent: int | None = None) -> str:
    """Canonical JSON text of `value`: sorted keys, ASCII only, floats by their shortest exact form.

    Args:
      value: None, bool, int, finite float, str, or lists, tuples and string-keyed dicts of these.
        Tuples become lists.
      indent: spaces per level for files that people read; None for the compact form that is hashed.

    Raises:
      ValueError: a float that is not finite, or a dict key that is not a string.
      TypeError: a value of another type, such as an array.
      Both name the place of the value, as in `candidates[2].loss`.
    """
    _check(value, "")
    separators = (",", ":") if indent is None else (",", ": ")
    return json.dumps(value, sort_keys=True, allow_nan=False, indent=indent, separators=separators)


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Writes `value` to `path` at once: at any moment the old file or the whole new one is there.

    Args:
      path: the file, local or gs://; its folder must exist. A file already there is replaced.
      value: see `encode`.
    """
    _write(path, value, storage.put, os.replace)


def create_json(path: str | os.PathLike[str], value: Any) -> None:
    """Like `write_json`, but a file already at `path` stays as it is.

    Raises:
      FileExistsError: there is one. On file systems without hard links the check and the rename are
        two steps, so there the caller must be the folder's only writer. In an object store an
        object with the very content counts as this one.
    """
    _write(path, value, storage.create, _link)


def remove_temporaries(folder: storage.Location) -> None:
    """Deletes the temporary files that killed writers left in `folder`.

    Only names that this module makes are touched. The caller must be the folder's only writer. An
    object store has none: what is not uploaded whole is not there.
    """
    if isinstance(folder, Path):
        for path in folder.glob(".tmp-*"):
            if is_temporary(path.name):
                path.unlink(missing_ok=True)


def is_temporary(name: str) -> bool:
    """Whether `name` is one that `write_json` and `create_json` give their unfinished files."""
    return _TEMPORARY.fullmatch(name) is not None


def _check(value: Any, place: str) -> None:
    """Refuses what JSON cannot hold exactly; `place` leads to `value` from the top."""
    name = place or "the value"
    if value is None or isinstance(value, bool | int | str):
        return
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(
                f"{name} is {value}, which JSON cannot hold: pass None and say why in a key beside "
                "it."
            )
    elif isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise ValueError(
                    f"{name} has the key {key!r} ({type(key).__name__}); JSON keys are strings: "
                    "convert it with str()."
                )
            _check(item, f"{place}.{key}" if place else key)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _check(item, f"{place}[{index}]")
    else:
        raise TypeError(
            f"{name} is a {type(value).__module__}.{type(value).__qualname__}, which JSON cannot "
            "hold: convert it to Python numbers, strings, lists and dicts (arrays: .tolist())."
        )


def _write(
    path: str | os.PathLike[str],
    value: Any,
    upload: Callable[[epath.Path, bytes], None],
    put: Callable[[Path, Path], None],
) -> None:
    """Uploads an object; or writes a temporary file, flushes it, and has `put` give it its name."""
    path, content = storage.locate(path), (encode(value, indent=1) + "\n").encode("ascii")
    if not isinstance(path, Path):
        upload(path, content)
        return
    temporary = path.parent / f".tmp-{os.getpid()}-{secrets.token_hex(4)}"
    try:
        with open(temporary, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        put(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(path.parent)


def _link(temporary: Path, path: Path) -> None:
    """Gives a file a second name, or a new one where there are no hard links, if it is free."""
    try:
        os.link(temporary, path)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, "the file exists already", str(path)) from None
        os.rename(temporary, path)


def _sync_folder(folder: Path) -> None:
    """Makes a rename in `folder` last through a power cut, where the system allows it."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(descriptor)
