"""Grids of colours: checked arrays, and the two forms in which they are written as text.

    "nested": [[0, 1], [2, 3]]      "digits": 01
                                              23

`read` takes a grid out of what a language model wrote. Its rules:

- The first grid counts, and what comes before and after it is ignored, since models introduce their
  answer and run on after it. A grid headed "Input:" is an echo of the question and is passed over.
- "nested": white space, line breaks and commas between numbers and rows may be anything, a trailing
  comma included. Every bracket must be closed: an answer without its last one was cut off.
- "digits": a grid is lines of digits under one another, and ends at an empty line or at words.
  Digits may be set apart by spaces or commas. A line among or beside the rows that is neither a row
  nor words is a damaged row, and the answer is refused rather than read without it.
- Marks of code (backticks) are dropped.

What is cut off between two rows of the "digits" form cannot be told from a whole grid.
"""

import re
from typing import Any, Literal, NoReturn

import numpy as np

from seal_jax.runs.json_file import kind

Grid = np.ndarray  # int8 [H, W]: 1 to MAX_SIZE rows and columns of colours 0 to 9, not writeable
Form = Literal["nested", "digits"]

MAX_SIZE = 30
COLOURS = 10

_DIGITS = "0123456789"

_HEADING = r"\W*(?:(?:the|test|query|given|new|final|predicted) )*{}(?: grid)?(?: \d+)?\W*"
_INPUT_HEADING = re.compile(_HEADING.format("input"), re.IGNORECASE)
_HEADED_ROW = re.compile(
    rf"^({_HEADING.format('(?:input|output|answer)')}:[*_ \t]*)(?=-?[0-9])".replace(
        r"\W*", r"[^\w\n]*"
    ),
    re.IGNORECASE | re.MULTILINE,
)
_FENCE = re.compile(r"^[ \t]*```[\w+-]*[ \t]*$", re.MULTILINE)
_NESTED_START = re.compile(r"\[\s*\[")
_NESTED_PART = re.compile(r"[\s,]*(-?[0-9][0-9.]*|\S)?")
_ROW = r"[ \t]*-?[0-9][0-9 \t,-]*"
_ROWS = re.compile(rf"^{_ROW}(?:\n{_ROW})*$", re.MULTILINE)


class GridError(ValueError):
    """Text or numbers that are no grid; the message says why."""


def check(rows: Any, where: str = "") -> Grid:
    """The grid that nested lists or an array hold.

    Args:
      rows: a list of rows, each a list of whole numbers, or an array of two axes.
      where: what the grid is, to begin the message with.

    Returns:
      An array [H, W] of int8 that cannot be written to.

    Raises:
      GridError: rows of different lengths, none at all, more than 30 of them or more than 30 cells
        in one, cells that are not whole numbers, or colours outside 0 to 9.

    >>> check([[0, 1], [2, 3]]).shape
    (2, 2)
    >>> check([[0, 1], [2]], "train[0]")
    Traceback (most recent call last):
    seal_jax.tasks.arc.grids.GridError: train[0]: row 2 has length 1, but row 1 has length 2; \
all rows of a grid are of one length.
    """
    at = f"{where}: " if where else ""
    if not isinstance(rows, np.ndarray):
        _check_rows(rows, at)
        rows = np.array(rows, object)
    elif rows.ndim != 2 or not np.issubdtype(rows.dtype, np.integer):
        raise GridError(
            f"{at}an array of {rows.dtype} with {rows.ndim} axes is no grid; expected whole "
            "numbers [H, W]."
        )
    if not rows.size:
        raise GridError(f"{at}the grid is empty; it needs a cell at least.")
    if max(rows.shape) > MAX_SIZE:
        height, width = rows.shape
        raise GridError(
            f"{at}the grid has {height} rows of {width}; at most {MAX_SIZE} of {MAX_SIZE} are "
            "allowed."
        )
    wrong = np.argwhere((rows < 0) | (rows >= COLOURS))
    if wrong.size:
        row, column = wrong[0]
        raise GridError(
            f"{at}row {row + 1}, column {column + 1} holds {str(rows[row, column])[:20]}; colours "
            f"are 0 to {COLOURS - 1}."
        )
    if rows.dtype == np.int8 and not rows.flags.writeable:
        return rows
    grid = rows.astype(np.int8)
    grid.flags.writeable = False
    return grid


def write(grid: Grid, form: Form) -> str:
    """A grid as text.

    Raises:
      GridError: see `check`.
      ValueError: an unknown form.

    >>> write(check([[0, 1], [2, 3]]), "nested")
    '[[0, 1], [2, 3]]'
    >>> write(check([[0, 1], [2, 3]]), "digits")
    '01\\n23'
    """
    rows = check(grid).tolist()
    if _is_nested(form):
        return str(rows)
    return "\n".join("".join(map(str, row)) for row in rows)


def read(text: str, form: Form) -> Grid:
    """The grid in what a model wrote, by the rules at the head of this file.

    Args:
      text: an answer.
      form: the form that was asked for; the other one is not looked for.

    Raises:
      GridError: there is no grid, or the first one is not right; the message says why.
      ValueError: an unknown form.

    >>> read("Here it is:\\n```\\n0 1\\n2 3\\n```\\nRows were swapped.", "digits").tolist()
    [[0, 1], [2, 3]]
    >>> read("Input: [[5]] Output: [[0, 1,],\\n [2, 3]]<end>", "nested").tolist()
    [[0, 1], [2, 3]]
    """
    text = _FENCE.sub("", text.replace("\r\n", "\n")).replace("`", " ")
    return check(_read_nested(text) if _is_nested(form) else _read_digits(text), "the answer")


def _check_rows(rows: Any, at: str) -> None:
    """Refuses what is no list of equally long lists of whole numbers."""
    if not isinstance(rows, list | tuple):
        raise GridError(f"{at}expected a list of rows, found {kind(rows)}.")
    for number, row in enumerate(rows, 1):
        if not isinstance(row, list | tuple):
            raise GridError(f"{at}row {number} is {kind(row)}; expected a list of colours.")
        if len(row) != len(rows[0]):
            raise GridError(
                f"{at}row {number} has length {len(row)}, but row 1 has length {len(rows[0])}; all "
                "rows of a grid are of one length."
            )
        for column, cell in enumerate(row, 1):
            if isinstance(cell, bool) or not isinstance(cell, int | np.integer):
                raise GridError(
                    f"{at}row {number}, column {column} is {kind(cell)}; expected a whole number "
                    f"from 0 to {COLOURS - 1}."
                )


def _read_nested(text: str) -> list[list[int]]:
    """The rows of the first grid in nested lists."""
    starts = [match.start() for match in _NESTED_START.finditer(text)]
    start = next((start for start in starts if not _is_input(text[:start])), None)
    if start is None:
        _refuse_nothing(bool(starts), "'[[' begins one")
    rows: list[list[int]] = []
    inside = False  # of a row
    position = text.index("[", start) + 1
    while True:
        match = _NESTED_PART.match(text, position)
        assert match is not None  # it may match nothing
        position, part = match.end(), match.group(1)
        if part is None:
            raise GridError(
                f"the answer ends within the grid, in or after row {max(len(rows), 1)}: it was cut "
                "off."
            )
        if part == "[" and not inside:
            inside = True
            rows.append([])
        elif part == "]" and inside:
            inside = False
        elif part == "]":
            return rows
        elif inside and part[-1] in _DIGITS:
            rows[-1].append(_colour(part, len(rows)))
        else:
            raise GridError(
                f"the answer has {text[match.start(1) :][:20]!r} in or after row "
                f"{max(len(rows), 1)}, where a colour or a bracket belongs."
            )


def _read_digits(text: str) -> list[list[int]]:
    """The rows of the first grid in lines of digits."""
    text = _HEADED_ROW.sub(r"\1\n", text)
    found = list(_ROWS.finditer(text))
    match = next((match for match in found if not _is_input(text[: match.start()])), None)
    if match is None:
        _refuse_nothing(bool(found), "it is lines of digits and nothing else")
    above = text[: match.start()].removesuffix("\n").rpartition("\n")[2]
    below = text[match.end() :].removeprefix("\n").partition("\n")[0]
    for line in (above, below):
        if _is_damaged_row(line):
            raise GridError(f"the answer has {line.strip()[:40]!r} where a row of digits belongs.")
    return [_row(line, number) for number, line in enumerate(match.group().split("\n"), 1)]


def _row(line: str, number: int) -> list[int]:
    """The colours of a line that is all digits, or digits set apart."""
    parts = line.replace(",", " ").split()
    if len(parts) == 1 and parts[0].isdigit():
        parts = list(parts[0])
    return [_colour(part, number) for part in parts]


def _colour(part: str, row: int) -> int:
    if len(part) != 1 or part not in _DIGITS:
        raise GridError(f"the answer holds {part[:20]!r} in row {row}; colours are 0 to 9.")
    return int(part)


def _is_input(before: str) -> bool:
    """Whether the last line before a grid is no more than the heading of an input."""
    return bool(_INPUT_HEADING.fullmatch(before.rstrip().rpartition("\n")[2]))


def _is_damaged_row(line: str) -> bool:
    """Whether a line beside rows was meant to be one: it begins with a digit, or is half digits."""
    solid = "".join(line.split())
    if not solid or solid.endswith(":"):
        return False
    return solid[0].isdigit() or 2 * sum(map(str.isdigit, solid)) >= len(solid)


def _refuse_nothing(inputs: bool, mark: str) -> NoReturn:
    if inputs:
        raise GridError("the answer holds no grid but one headed as an input.")
    raise GridError(f"the answer holds no grid: {mark}.")


def _is_nested(form: str) -> bool:
    if form not in ("nested", "digits"):
        raise ValueError(f"The form {form!r} is unknown: expected 'nested' or 'digits'.")
    return form == "nested"
