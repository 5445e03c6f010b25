"""Files of JSON lines that somebody else wrote."""

import json
import os
import pathlib
from collections.abc import Iterator
from typing import Any


def read(
    path: str | os.PathLike[str], error: type[ValueError], expected: str
) -> Iterator[tuple[str, Any]]:
    """The values of a UTF-8 file's lines, each with its place ("FILE, line 3"); blank lines aside.

    Args:
      path: the file.
      error: what is raised where the file cannot be read or a line is not JSON.
      expected: what a line should be, for the message.
    """
    try:
        text = pathlib.Path(path).expanduser().read_bytes().decode("utf-8-sig")
    except OSError as why:
        raise error(f"{path}: cannot be read ({why.strerror}). Check the path.") from None
    except UnicodeDecodeError as why:
        raise error(f"{path}: not UTF-8 text ({why.reason}); save it as UTF-8.") from None
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            place = f"{path}, line {number}"
            try:
                value = json.loads(line)
            except (ValueError, RecursionError) as why:
                raise error(f"{place}: not JSON ({why}); {expected}.") from None
            yield place, value
