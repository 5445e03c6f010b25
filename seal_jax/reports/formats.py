"""Figures as people read them, on the page and in the tables for the terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from seal_jax.tasks.protocol import Metric

Form = tuple[str, int, int, str]  # name, scale, digits, unit; explorer.js reads them too
FORMS: dict[str, Form] = {
    "accuracy": ("accuracy", 100, 1, " %"),
    "solved": ("solved", 100, 1, " %"),
    "gold_log_likelihood": ("gold log-likelihood", 1, 2, " nats"),
    "agreement": ("agreement with the reading model, not knowledge", 1, 2, " nats"),
    "length": ("length", 1, 1, " characters"),
    "log_likelihood_gain": ("log-likelihood gain", 1, 2, " nats"),
    "share": ("share", 1, 2, ""),
    "planted": ("planted reward", 1, 4, ""),
}


def form(of: str | Metric) -> Form:
    """How a metric is shown: a task's own by what it says, others by name, with three digits.

    >>> form("package:own_reward"), form(Metric(name="f1", label="F1", share=True))
    (('own reward', 1, 3, ''), ('F1', 100, 1, ' %'))
    """
    name = of if isinstance(of, str) else of.name
    if name in FORMS:
        label, scale, digits, unit = FORMS[name]
        return (label if isinstance(of, str) else of.label, scale, digits, unit)
    if isinstance(of, Metric):
        return (of.label, 100, 1, " %") if of.share else (of.label, 1, 3, "")
    return name.rpartition(":")[2].replace("_", " "), 1, 3, ""


def metric(of: str | Metric, *, unit: bool = False) -> str:
    """A metric's name for people.

    >>> metric("gold_log_likelihood"), metric("accuracy", unit=True)
    ('gold log-likelihood', 'accuracy (%)')
    """
    shown, _, _, after = form(of)
    return f"{shown} ({after.strip()})" if unit and after else shown


def number(
    of: str | Metric,
    value: float | None,
    *,
    sign: bool = False,
    unit: bool = False,
    fine: bool = False,
) -> str:
    """A value of a metric, in per cent where it is a share; a dash for None.

    Args:
      fine: whether nats have three digits, as in the tables for the terminal.

    >>> number("accuracy", 0.256, unit=True), number("reward", -1, sign=True), number("x", None)
    ('25.6 %', '-1.000', '-')
    """
    if value is None:
        return "-"
    _, scale, digits, after = form(of)
    digits = 3 if fine and after == " nats" else digits
    value = round(scale * value, digits) + 0.0  # no minus before a zero
    return f"{value:{'+' if sign else ''}.{digits}f}{after if unit else ''}"


def interval(of: str | Metric, edges: Sequence[float | None] | None, **shown: bool) -> str:
    """An interval in brackets; "" for none.

    >>> interval("accuracy", (0.1, 0.25)), interval("accuracy", (None, None))
    ('[10.0, 25.0]', '')
    """
    if not edges or None in edges:
        return ""
    return f"[{', '.join(number(of, edge, **shown) for edge in edges)}]"


def estimate(of: str | Metric, found: Mapping[str, Any] | None, **shown: bool) -> str:
    """A figure {"value", "low", "high"} with its interval; a dash for None.

    >>> estimate("share", {"value": 0.5, "low": 0.25, "high": 0.75}), estimate("share", None)
    ('0.50 [0.25, 0.75]', '-')
    """
    if not found:
        return "-"
    edges = interval(of, (found["low"], found["high"]), **shown)
    return f"{number(of, found['value'], **shown)} {edges}".strip()


def columns(rows: Sequence[Sequence[str]], *, words: int | None = None) -> str:
    """Rows as columns two spaces apart; the last cell of a shorter row runs on to the right.

    Args:
      words: how many of the columns hold words; numbers are set to the right. None for all.

    >>> print(columns([["arm", "solved"], ["base", "5"]], words=1))
    arm   solved
    base       5
    """
    count = max(map(len, rows))
    inner = [row if len(row) == count else row[:-1] for row in rows]
    widths = [max(len(row[i]) for row in inner if i < len(row)) for i in range(count)]
    words = count if words is None else words
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i < words else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=False))
        ).rstrip()
        for row in rows
    )
