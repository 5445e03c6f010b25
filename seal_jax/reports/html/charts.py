"""Charts as paths on a drawing of 380 by 220, of which parts.html makes SVG."""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from seal_jax.reports.run_records import Record

_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 370, 10, 186  # the plane within the axes
_BINS = 20

Points = Sequence[tuple[float, float | None]]
Scale = Callable[[float], float]


def lines(
    title: str, series: Mapping[str, Points], labels: tuple[str, str], *, dots: bool = True
) -> Record | None:
    """Lines over a common axis; a value that is None leaves a gap, and so is not invented.

    Args:
      labels: of the x-axis and of the y-axis.
    """
    known = [(x, y) for points in series.values() for x, y in points if y is not None]
    if not known:
        return None
    x, y, ticks = _plane(*zip(*known, strict=True), margin=0.04, least=1)
    drawn = []
    for name, points in series.items():
        pieces = [
            [(x(at), y(value)) for at, value in piece if value is not None]
            for gap, piece in itertools.groupby(points, lambda point: point[1] is None)
            if not gap
        ]
        path = "".join("M" + " ".join(f"{a:.1f},{b:.1f}" for a, b in piece) for piece in pieces)
        shown = [dot for piece in pieces for dot in piece if dots or len(piece) == 1]
        drawn.append((name, path, shown))
    chart = {"title": title, "form": "line", "labels": labels, "series": drawn, "mean": None}
    return chart | ticks


def histogram(
    title: str, values: Sequence[float], kept: Sequence[float], over: Sequence[float], label: str
) -> Record:
    """How often values come up, and kept ones among them; `over` has the ends of the axis."""
    counts, edges = np.histogram(values, _BINS, (min(over), max(over)))
    x, y, ticks = _plane(edges.tolist(), [0, counts.max()])
    mean = math.fsum(values) / len(values)
    drawn: list[tuple[str, str, list[Any]]] = []
    for name, of in (("all", values), ("kept", kept)):
        bars = zip(np.histogram(of, edges)[0], map(x, edges), map(x, edges[1:]), strict=False)
        path = "".join(
            f"M{left + 0.5:.1f},{_BOTTOM}V{y(count):.1f}H{right - 0.5:.1f}V{_BOTTOM}Z"
            for count, left, right in bars
            if count
        )
        drawn.append((name, path, []))
    chart = {"title": title, "form": "bar", "labels": (label, "self-edits"), "series": drawn}
    return chart | ticks | {"mean": (x(mean), f"{mean:.3g}")}


def interval(edges: Sequence[float], value: float, over: Sequence[float]) -> Record:
    """An estimate with its interval on a line of 140 that marks zero and is of the span `over`."""
    x = _scale(min(over), max(over), 4, 136)
    return {"zero": x(0), "low": x(edges[0]), "value": x(value), "high": x(edges[1])}


def forest(
    title: str, rows: Sequence[tuple[str, str, float | None, Sequence[float] | None, str]]
) -> Record:
    """Differences with their intervals, one below the other, over an axis that marks zero.

    Args:
      rows: a label, the figure as text, the difference and the ends of its interval (None where
        there is none), and what it cost ("" where that is not known).
    """
    known = [
        edge
        for _, _, value, ends, _ in rows
        if value is not None
        for edge in (value, *(ends or ()))
    ]
    low, high = min(0.0, *known, 0.0), max(0.0, *known, 0.0)
    x = _scale(low, high, 10, 220)  # figures stand to the right
    drawn = [
        {
            "label": label,
            "text": text,
            "value": None if value is None else x(value),
            "ends": ends and [x(edge) for edge in ends],
            "cost": cost,
        }
        for label, text, value, ends, cost in rows
    ]
    within = [tick for tick in ticks(low, high) if low <= tick <= high]
    return {"title": title, "rows": drawn, "zero": x(0), "ticks": _placed(within, x)}


def _plane(
    xs: Sequence[float], ys: Sequence[float], *, margin: float = 0, least: float = 0
) -> tuple[Scale, Scale, Record]:
    """Scales of a plane with axes, and its ticks with their places.

    Args:
      margin: room for the first and last dot, as a share of the width.
      least: between two ticks of the x-axis.
    """
    low, high, y_ticks = min(xs), max(xs), ticks(min(ys), max(ys))
    x_ticks = [tick for tick in ticks(low, high, least) if low <= tick <= high]
    room = margin * (high - low)
    x = _scale(low - room, high + room, _LEFT, _RIGHT)
    y = _scale(min(*y_ticks, *ys), max(*y_ticks, *ys), _BOTTOM, _TOP)
    return x, y, {"x_ticks": _placed(x_ticks, x), "y_ticks": _placed(y_ticks, y)}


def _placed(ticks: Sequence[float], scale: Scale) -> list[tuple[float, str]]:
    return [(scale(tick), f"{tick:.4g}".replace("-", "−")) for tick in ticks]


def _scale(low: float, high: float, first: float, last: float) -> Scale:
    """Takes [low, high] to [first, last]; a single value to the middle."""
    if low == high:
        low, high = low - 0.5, high + 0.5
    return lambda value: round(first + (last - first) * (value - low) / (high - low), 1)


def ticks(low: float, high: float, least: float = 0) -> list[float]:
    """Round numbers from below `low` to above `high`, at least so far from one another."""
    if low == high:
        return [low]
    raw = max((high - low) / 4, least)
    size = 10 ** math.floor(math.log10(raw))
    step = next(size * k for k in (1, 2, 5, 10) if size * k >= raw)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [k * step for k in range(first, last + 1)]
