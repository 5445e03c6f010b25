"""JSON values and files: the same value always gives the same bytes, and comes back equal.

What somebody else wrote comes in by `read` and `decode`, which bound its size and its depth and
refuse with a sentence. Whatever a run writes as JSON (ledger segments, config.json, results.json)
passes through `encode`, so that a value read back after a restart is the value that was written:
floats keep every bit, keys are strings, and anything that JSON would change or cannot hold is
refused where it was written, not where it is read.
"""

import contextlib
import errno
import json
import math
import os
import re
import secrets
from collections.abc import Callable, Iterator
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from etils import epath

from seal_jax.runs import storage, text_file
from seal_jax.runs.text_file import FileError

_MOST_LEVELS = 100  # far above what any format here takes
_TEMPORARY = re.compile(r"\.tmp-\d+-[0-9a-f]{8}")
# What file systems without hard links answer.
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EXDEV, errno.EMLINK}


def read(
    path: str | os.PathLike[str] | Traversable,
    *,
    error: type[ValueError] = FileError,
    expected: str = "",
    unique: bool = False,
    lines: bool = False,
    max_bytes: int = text_file.MAX_BYTES,
) -> Any:
    """The value in a JSON file that somebody else wrote.

    Args:
      path, max_bytes: see `text_file.read`.
      error, expected, unique: see `decode`.
      lines: a file of JSON lines is the list of their values.

    Raises:
      error: the file cannot be read, or see `decode`.
    """
    text = text_file.read(path, error=error, expected=expected, max_bytes=max_bytes)
    if lines and _is_lines(text):
        rows = _rows(text, path, error=error, expected=expected, unique=unique)
        return [value for _, value in rows]
    return decode(text, str(path), error=error, expected=expected, unique=unique)


def read_lines(
    path: str | os.PathLike[str], *, error: type[ValueError] = FileError, expected: str = ""
) -> Iterator[tuple[str, Any]]:
    """The values of a file of JSON lines, each with its place; blank lines aside. See `read`."""
    text = text_file.read(path, error=error, expected=expected)
    return _rows(text, path, error=error, expected=expected)


def _rows(text: str, path: object, **how: Any) -> Iterator[tuple[str, Any]]:
    """The value of each line that is not blank, with its place ("FILE, line 3")."""
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            where = f"{path}, line {number}"
            yield where, decode(line, where, **how)


def decode(
    text: str | bytes,
    where: str,
    *,
    error: type[ValueError] = FileError,
    expected: str = "",
    unique: bool = False,
) -> Any:
    """The value of a JSON text that somebody else wrote.

    Args:
      text: bytes are UTF-8, or as their byte-order mark says.
      where: the file and the place in it, which begin a message.
      error: what is raised.
      expected: what should be there, for the message.
      unique: refuse an object that has a key twice; otherwise the last one counts.

    Raises:
      error: not JSON, nested more than 100 deep, or a number of some thousand digits.

    >>> decode('{"a": [1]}', "a.json")
    {'a': [1]}
    >>> decode("{", "a.json", expected="an object of tasks")
    Traceback (most recent call last):
    seal_jax.runs.text_file.FileError: a.json: not JSON: Expecting property name enclosed in \
double quotes at line 1, column 2; expected an object of tasks.
    """
    if isinstance(text, bytes):
        text = text_file.decode(text, where, error=error)
    also = f"; expected {expected}" if expected else ""
    try:
        value = json.loads(text, object_pairs_hook=_unique if unique else None)
        if not _is_deep(value):
            return value
    except json.JSONDecodeError as why:
        place = f"line {why.lineno}, column {why.colno}"
        raise error(f"{where}: not JSON: {why.msg} at {place}{also}.") from None
    except _RepeatedKeyError as why:
        raise error(f"{where}: {why}") from None
    except RecursionError:
        pass
    except ValueError:  # Python refuses integers of more than some thousand digits
        raise error(f"{where}: the JSON holds a number with too many digits{also}.") from None
    raise error(f"{where}: the JSON is nested more than {_MOST_LEVELS} deep{also}.")


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


def kind(value: Any) -> str:
    """A JSON value in words, for a message.

    >>> kind({}), kind([1]), kind(None), kind("x")
    ('an object', 'a list', 'null', "'x'")
    """
    words = {dict: "an object", list: "a list", tuple: "a list", type(None): "null"}
    return words.get(type(value), repr(value)[:40])


def _is_lines(text: str) -> bool:
    """Whether the first line is a JSON object, and others follow."""
    first, _, rest = text.strip().partition("\n")
    if not rest or not first.startswith("{"):
        return False
    try:
        json.loads(first)
    except (ValueError, RecursionError):
        return False
    return True


class _RepeatedKeyError(Exception):
    """An object has a key twice: one of the two values would be lost."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise _RepeatedKeyError(f"an object has the key {twice!r} twice; remove one of them.")
    return made


def _is_deep(value: Any) -> bool:
    """Whether a parsed value has more levels than are allowed; no recursion."""
    level = [value]
    for _ in range(_MOST_LEVELS + 1):
        level = [outer for outer in level if isinstance(outer, dict | list)]
        if not level:
            return False
        level = [
            item
            for outer in level
            for item in (outer.values() if isinstance(outer, dict) else outer)
        ]
    return True


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
        # What was put in place stays so; `remove_temporaries` deletes what is left.
        with contextlib.suppress(OSError):
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
