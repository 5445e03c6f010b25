"""Charts as inline SVG, drawn in the page's own colours."""

import math
from collections.abc import Mapping, Sequence

from seal_jax.reports.html.markup import Html, join, tag

_WIDTH, _HEIGHT = 380, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 10, 10, 34
_BINS = 20

Points = Sequence[tuple[float, float | None]]


def lines(
    title: str, series: Mapping[str, Points], *, x_label: str, y_label: str, dots: bool = True
) -> Html:
    """Lines over a common axis; a value that is None leaves a gap, and so is not invented."""
    known = [(x, y) for points in series.values() for x, y in points if y is not None]
    if not known:
        return Html("")
    frame = _Frame([x for x, _ in known], [y for _, y in known], whole=True)
    drawn = []
    for number, points in enumerate(series.values()):
        for piece in _pieces(points):
            path = " ".join(f"{frame.x(x):.1f},{frame.y(y):.1f}" for x, y in piece)
            drawn.append(tag("polyline", points=path, class_=f"line series{number}"))
            if dots or len(piece) == 1:
                drawn += [
                    tag(
                        "circle",
                        cx=f"{frame.x(x):.1f}",
                        cy=f"{frame.y(y):.1f}",
                        r=3.5,
                        class_=f"dot series{number}",
                    )
                    for x, y in piece
                ]
    shown = _svg(title, [*frame.axes(x_label, y_label), *drawn])
    return _figure(title, shown, _legend(list(series)))


def histogram(
    title: str,
    values: Sequence[float],
    marked: Sequence[float],
    *,
    over: tuple[float, float],
    x_label: str,
    names: tuple[str, str] = ("all", "kept"),
) -> Html:
    """How often values come up, and those of `marked` among them; `over` is the axis."""
    low, high = over if over[1] > over[0] else (over[0] - 0.5, over[0] + 0.5)

    def counted(these: Sequence[float]) -> list[int]:
        counts = [0] * _BINS
        for value in these:
            counts[min(int((value - low) / (high - low) * _BINS), _BINS - 1)] += 1
        return counts

    every = counted(values)
    frame = _Frame([low, high], [0, max(every)])
    bars = []
    for number, counts in enumerate((every, counted(marked))):
        for place, count in enumerate(counts):
            if not count:
                continue
            left, right = (frame.x(low + (high - low) * k / _BINS) for k in (place, place + 1))
            bars.append(
                tag(
                    "rect",
                    x=f"{left + 0.5:.1f}",
                    y=f"{frame.y(count):.1f}",
                    width=f"{right - left - 1:.1f}",
                    height=f"{frame.y(0) - frame.y(count):.1f}",
                    class_=f"bar series{number}",
                )
            )
    mean = math.fsum(values) / len(values)
    at = f"{frame.x(mean):.1f}"
    bars.append(tag("line", x1=at, x2=at, y1=_TOP, y2=_HEIGHT - _BOTTOM, class_="mean"))
    shown = _svg(f"{title}; mean {mean:.3g}", [*frame.axes(x_label, "self-edits"), *bars])
    legend = _legend(list(names)) + tag("span", "dashed: the mean", class_="key")
    return _figure(title, shown, Html(legend))


def interval(low: float, value: float, high: float, over: tuple[float, float]) -> Html:
    """An estimate with its interval on a line that marks zero; beside the figures in a table."""
    span = (over[1] - over[0]) or 1.0

    def x(of: float) -> str:
        return f"{4 + 132 * (min(max(of, over[0]), over[1]) - over[0]) / span:.1f}"

    return tag(
        "svg",
        tag("line", x1=x(0), x2=x(0), y1=0, y2=18, class_="zero"),
        tag("line", x1=x(low), x2=x(high), y1=9, y2=9, class_="whisker"),
        tag("circle", cx=x(value), cy=9, r=4, class_="dot series0"),
        viewBox="0 0 140 18",
        class_="interval",
        aria_hidden="true",
    )


def _pieces(points: Points) -> list[list[tuple[float, float]]]:
    """The stretches without a gap."""
    found: list[list[tuple[float, float]]] = [[]]
    for x, y in points:
        if y is None:
            found.append([])
        else:
            found[-1].append((x, y))
    return [piece for piece in found if piece]


class _Frame:
    """A plane with axes."""

    def __init__(self, xs: Sequence[float], ys: Sequence[float], *, whole: bool = False):
        ticks = _ticks(min(xs), max(xs), whole=whole)
        self._xs = [x for x in ticks if min(xs) <= x <= max(xs)]
        self._ys = _ticks(min(ys), max(ys))
        self._x = (min(xs), max(xs)) if max(xs) > min(xs) else (xs[0] - 0.5, xs[0] + 0.5)
        self._y = (min(*self._ys, *ys), max(*self._ys, *ys))
        if whole:  # room for the first and last dot
            margin = (self._x[1] - self._x[0]) * 0.04
            self._x = (self._x[0] - margin, self._x[1] + margin)
        if self._y[0] == self._y[1]:
            self._y = (self._y[0] - 0.5, self._y[1] + 0.5)

    def x(self, value: float) -> float:
        share = (value - self._x[0]) / (self._x[1] - self._x[0])
        return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        share = (value - self._y[0]) / (self._y[1] - self._y[0])
        return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)

    def axes(self, x_label: str, y_label: str) -> list[Html]:
        right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
        found = []
        for value in self._ys:
            y = f"{self.y(value):.1f}"
            found.append(tag("line", x1=_LEFT, x2=right, y1=y, y2=y, class_="grid"))
            found.append(
                tag(
                    "text",
                    _number(value),
                    x=_LEFT - 5,
                    y=f"{self.y(value) + 4:.1f}",
                    class_="tick end",
                )
            )
        found += [
            tag("text", _number(value), x=f"{self.x(value):.1f}", y=bottom + 14, class_="tick")
            for value in self._xs
        ]
        middle = (_LEFT + right) / 2
        found.append(tag("text", x_label, x=middle, y=_HEIGHT - 4, class_="axis"))
        turned = f"translate(11 {(_TOP + bottom) / 2}) rotate(-90)"
        found.append(tag("text", y_label, transform=turned, class_="axis"))
        return found


def _ticks(low: float, high: float, *, whole: bool = False) -> list[float]:
    """Round numbers from below `low` to above `high`; within them if they are whole numbers."""
    if low == high:
        return [low]
    raw = (high - low) / 4
    size = 10 ** math.floor(math.log10(raw))
    step = next(size * k for k in (1, 2, 5, 10) if size * k >= raw)
    if whole:
        step = max(round(step), 1)
        return [float(k) for k in range(math.ceil(low), math.floor(high) + 1) if k % step == 0] or [
            low
        ]
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [k * step for k in range(first, last + 1)]


def _number(value: float) -> str:
    return f"{value:.4g}".replace("-", "−")


def _svg(title: str, content: Sequence[Html]) -> Html:
    return tag(
        "svg",
        tag("title", title),
        *content,
        viewBox=f"0 0 {_WIDTH} {_HEIGHT}",
        role="img",
        aria_label=title,
    )


def _legend(names: Sequence[str]) -> Html:
    return join(
        tag("span", tag("span", "", class_=f"swatch series{number}"), name, class_="key")
        for number, name in enumerate(names)
        if name
    )


def _figure(title: str, shown: Html, legend: Html) -> Html:
    caption = tag("figcaption", tag("strong", title), tag("span", legend, class_="legend"))
    return tag("figure", caption, shown)
