"""Rows, checks and targets: how results are kept, printed and written."""

import dataclasses
import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any

from benchmarks.contest import Times

_UNSTEADY = 1.5  # slowest over fastest run, above which a median means little


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table.

    Attributes:
      group: what is measured; name: the contestant, or what is compared.
      seconds: of one run; None where that is not what the row is about.
      value, unit: the figure of the row; None is "not measured".
      target: what the figure should be at least, if there is a target.
      note: what the reader must know beside the figure.
      details: further numbers, for the JSON line only.
    """

    group: str
    name: str
    value: float | None
    unit: str
    seconds: Times | None = None
    target: float | None = None
    note: str = ""
    details: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Check:
    """A result that must hold whatever the speed.

    Attributes:
      group, name: what is checked.
      passed: whether it holds.
      found: the numbers that say so.
    """

    group: str
    name: str
    passed: bool
    found: dict[str, Any]


class Report:
    """Collects rows and checks, writes each as a JSON line at once, and prints the table."""

    def __init__(self, path: str | os.PathLike):
        self._path = pathlib.Path(path)
        self._path.write_text("")
        self.rows: list[Row] = []
        self.checks: list[Check] = []

    def facts(self, **facts: Any) -> None:
        """What was measured on and with."""
        self._write("facts", facts)

    def row(self, group: str, name: str, value: float | None, unit: str, **fields) -> None:
        """Adds a row; see `Row`."""
        row = Row(group=group, name=name, value=value, unit=unit, **fields)
        self.rows.append(row)
        self._write("row", dataclasses.asdict(row))
        print(" ".join(_cells(row)), flush=True)

    def check(self, group: str, name: str, passed: bool, **found) -> None:
        """Adds a check."""
        check = Check(group=group, name=name, passed=bool(passed), found=found)
        self.checks.append(check)
        self._write("check", dataclasses.asdict(check))

    def took(self, name: str, seconds: float) -> None:
        """How long the rows of one flag took, warm-up and compilation included."""
        self._write("took", {"name": name, "seconds": seconds})

    def _write(self, kind: str, values: dict[str, Any]) -> None:
        with self._path.open("a") as file:
            file.write(json.dumps({"kind": kind, **values}) + "\n")

    def table(self) -> str:
        """The rows as aligned text, with the checks below."""
        lines = [("what", "contestant", "result", "seconds (median, min-max)", "target", "note")]
        lines += [_cells(row) for row in self.rows]
        widths = [max(len(line[i]) for line in lines) for i in range(5)]
        text = [
            "  ".join([*(c.ljust(w) for c, w in zip(line, widths, strict=False)), line[5]]).rstrip()
            for line in lines
        ]
        for check in self.checks:
            verdict = "ok" if check.passed else "FAILED"
            text.append(f"check {check.group}: {check.name}: {verdict} {json.dumps(check.found)}")
        return "\n".join(text)


def _cells(row: Row) -> Sequence[str]:
    """The row's texts."""
    result = "not measured" if row.value is None else f"{_number(row.value)} {row.unit}"
    seconds = ""
    if row.seconds:
        t = row.seconds
        seconds = f"{t.median:.3g} s"
        if t.repeats > 1:
            seconds += f" ({t.low:.3g}-{t.high:.3g})"
    target = ""
    if row.target is not None:
        target = f">= {row.target:g}"
        if row.value is not None:
            target += " met" if row.value >= row.target else " MISSED"
    unsteady = row.seconds is not None and row.seconds.high > _UNSTEADY * row.seconds.low
    notes = [*([row.note] if row.note else []), *(["UNSTEADY: is the machine idle?"] * unsteady)]
    return row.group, row.name, result.strip(), seconds, target, "; ".join(notes)


def _number(value: float) -> str:
    """Three digits, and no exponent below a billion.

    >>> _number(0.12345), _number(1234.5), _number(1.5e11)
    ('0.123', '1,234', '1.5e+11')
    """
    if abs(value) >= 1e9:
        return f"{value:.3g}"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
