"""Text files that somebody else wrote, read in one way wherever the package takes one.

UTF-8 with or without a byte-order mark, and UTF-16 or UTF-32 with one. What is no text (a PDF, an
archive, a Git LFS pointer) or is in another encoding is refused with a sentence.
"""

import codecs
import os
import pathlib
from importlib.resources.abc import Traversable

from seal_jax.runs import storage

MAX_BYTES = 2**30

_MARKS = {  # UTF-32's marks begin with UTF-16's
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_OTHERS = {
    b"%PDF-": "a PDF: save its text as a .txt file",
    b"PK\x03\x04": "a zip archive (or an office document): unpack it, or save its text",
    b"{\\rtf": "rich text: save it as plain text",
    b"PAR1": "a Parquet file: export it as JSON, such as with to_json of datasets or pandas",
    b"\x1f\x8b": "compressed with gzip: unpack it",
    b"version https://git-lfs": "a Git LFS pointer, not the file itself: run git lfs pull",
}
_BINARY = (
    "{}: not text: it holds null bytes, as binary files and UTF-16 without a byte-order mark do; "
    "save it as UTF-8."
)


class FileError(ValueError):
    """A file that cannot be read as what it should be; the message names it and the way out."""


def read(
    path: str | os.PathLike[str] | Traversable,
    *,
    error: type[ValueError] = FileError,
    expected: str = "",
    max_bytes: int = MAX_BYTES,
) -> str:
    """The text of a file, without a byte-order mark; lines end with "\\n".

    Args:
      path: local ("~" is the home directory), gs://, or of a package.
      error: what is raised.
      expected: what should be there, for the message.
      max_bytes: a larger file is refused.

    Raises:
      error: the file cannot be read, is larger, or holds no text.
    """
    data = read_bytes(path, error=error, expected=expected, max_bytes=max_bytes)
    return decode(data, str(path), error=error)


def read_bytes(
    path: str | os.PathLike[str] | Traversable,
    *,
    error: type[ValueError] = FileError,
    expected: str = "",
    max_bytes: int = MAX_BYTES,
) -> bytes:
    """The bytes of a file; see `read`."""
    try:
        file = located(path)
        if isinstance(file, pathlib.Path):
            with file.open("rb") as opened:
                data = opened.read(max_bytes + 1)
        else:
            data = file.read_bytes()
    except OSError as why:
        also = f"; expected {expected}" if expected else ""
        raise error(
            f"{path}: cannot read the file ({why.strerror or why}){also}. Check the path."
        ) from why
    if len(data) > max_bytes:
        raise error(f"{path}: larger than {max_bytes / 2**20:.0f} MB, the most that is read here.")
    return data


def located(path: str | os.PathLike[str] | Traversable) -> storage.Location | Traversable:
    """The path as an object, "~" written out."""
    if isinstance(path, str | os.PathLike):
        return storage.locate(os.path.expanduser(path))
    return path


def decode(data: bytes, where: str, *, error: type[ValueError] = FileError) -> str:
    """The text of a file's bytes; `where` begins the message. See `read`."""
    for beginning, what in _OTHERS.items():
        if data.startswith(beginning):
            raise error(f"{where}: {what}.")
    encoding = next((name for mark, name in _MARKS.items() if data.startswith(mark)), "utf-8")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as why:
        if b"\0" in data:
            raise error(_BINARY.format(where)) from None
        line = data.count(b"\n", 0, why.start) + 1
        raise error(
            f"{where}: not {encoding.upper().removesuffix('-SIG')} text ({why.reason}, line "
            f"{line}); save it as UTF-8. (From Latin-1: iconv -f LATIN1 -t UTF-8.)"
        ) from None
    if "\0" in text:
        raise error(_BINARY.format(where))
    return text.replace("\r\n", "\n").replace("\r", "\n")
