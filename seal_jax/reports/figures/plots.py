"""The forms of a picture: intervals in rows, lines, values on colours, and bars."""

import dataclasses
import itertools
import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from seal_jax.reports.figures.sheet import MARGIN, MARKERS, WIDTH, Sheet
from seal_jax.reports.html import charts

_LABEL = 226  # width of the rows' labels
_GAP = 22
_AXIS = 24  # height of an axis with its figures
_HEAD = 24

Ends = Sequence[float] | None
Points = Sequence[tuple[float, float | None]]
Plot = tuple[int, Callable[[Sheet], None]]  # height, and what paints it


@dataclasses.dataclass(frozen=True, kw_only=True)
class Estimate:
    """A value in a row of intervals.

    Attributes:
      value: None where there is none.
      text: the same with its interval, for people.
      ends: of the interval; None for none: the dot is hollow.
      wide: of a wider interval, which is drawn thinner.
      parts: the values that it is the mean of, drawn as small dots.
    """

    value: float | None
    text: str
    ends: Ends = None
    wide: Ends = None
    parts: Sequence[float] = ()

    @property
    def known(self) -> list[float]:
        """All that has to be on the axis."""
        own = [] if self.value is None else [self.value]
        return [*own, *(self.ends or ()), *(self.wide or ()), *self.parts]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """Estimates of one thing, one a panel (None where it has none there).

    Attributes:
      series: which colour and marker.
    """

    label: str
    series: int
    estimates: Sequence[Estimate | None]


def rows(
    every: Sequence[Row], panels: Sequence[str], *, zero: bool = False, log: Sequence[int] = ()
) -> Plot:
    """Intervals one below the other, panels side by side.

    Args:
      panels: what each measures.
      zero: whether zero is on each axis, and marked.
      log: the panels with logarithmic axes.
    """
    labels = ["\n".join(textwrap.wrap(row.label, 35)) for row in every]
    step = max(40, 16 * max(label.count("\n") + 1 for label in labels) + 6)
    width = (WIDTH - 2 * MARGIN - _LABEL - _GAP * (len(panels) - 1)) / len(panels)
    heads, head = _heads(panels, width)
    height = head + step * len(every) + _AXIS

    def paint(sheet: Sheet) -> None:
        theme = sheet.theme
        for p, name in enumerate(heads):
            left = MARGIN + _LABEL + p * (width + _GAP)
            axes = sheet.axes(left, head, width, step * len(every))
            sheet.text(left, sheet.top, name, weight="bold")
            found = [row.estimates[p] for row in every]
            known = [edge for one in found if one for edge in one.known] + [0.0] * zero
            scale = math.log10 if p in log else float
            low, high = min(map(scale, known), default=0), max(map(scale, known), default=1)
            room = 0.06 * (high - low) or 0.5
            low, high = low - room, high + room
            axes.set(xlim=(low, high), ylim=(len(every), 0), yticks=())
            axes.spines["left"].set_visible(False)
            if p in log:
                powers = range(math.floor(low), math.ceil(high))
                every_tick = [math.log10(k * 10.0**n) for n in powers for k in (1, 3)]
            else:
                every_tick = charts.ticks(low, high)
            edge = 0.04 * (high - low)  # figures at an end would run into the next panel
            ticks = [value for value in every_tick if low + edge <= value <= high - edge]
            axes.set_xticks(ticks, [f"{10**at:g}" for at in ticks] if p in log else None)
            axes.grid(axis="x", color=theme.grid, linewidth=0.6)
            axes.set_axisbelow(True)
            if zero:
                axes.axvline(0, color=theme.ink, linewidth=1.2)
            for n, (row, one) in enumerate(zip(every, found, strict=True)):
                if not one or one.value is None:
                    text, of = one.text if one else "–", axes.get_yaxis_transform()
                    axes.text(0, n + 0.5, text, transform=of, color=theme.faint, va="center")
                    continue
                colour, y, at = theme.series[row.series], n + 0.68, scale(one.value)
                for ends, thick in ((one.wide, 1.2), (one.ends, 3.2)):
                    if ends:
                        axes.plot([*map(scale, ends)], [y, y], color=colour, linewidth=thick)
                axes.plot(
                    at, y, MARKERS[row.series], color=colour, markersize=8,
                    markerfacecolor=colour if one.ends else theme.paper,
                )  # fmt: skip
                parts = [*map(scale, one.parts)]
                axes.plot(parts, [y + 0.2] * len(parts), "|", color=colour, markersize=7)
                # In the middle over its dot, but within the panel.
                share, half = (at - low) / (high - low), 3.55 * len(one.text) / width
                place = min(max(share, half), 1 - half) if half < 0.5 else 0.5
                ground = {"facecolor": theme.paper, "edgecolor": "none", "pad": 1.5}
                axes.text(
                    place, n + 0.27, one.text, transform=axes.get_yaxis_transform(), bbox=ground,
                    color=theme.ink, size=12, ha="center", va="center",
                )  # fmt: skip
        for n, label in enumerate(labels):
            middle = sheet.top + head + step * (n + 0.5)
            sheet.text(MARGIN, middle, label, va="center")

    return height, paint


@dataclasses.dataclass(frozen=True, kw_only=True)
class Curves:
    """A panel of lines.

    Attributes:
      title, across: what is measured, and over what.
      series: points by name; None leaves a gap.
      ends: intervals of points, as in series.
      zero: whether zero is on the axis, and marked.
      log: whether the axis is logarithmic.
      loose: whether one point does not lead to the next: the lines are dotted.
    """

    title: str
    across: str
    series: Mapping[str, Points]
    ends: Mapping[str, Sequence[Ends]] = dataclasses.field(default_factory=dict)
    zero: bool = False
    log: bool = False
    loose: bool = False


def curves(panels: Sequence[Curves]) -> Plot:
    """Lines over a common axis, panels side by side, the names of lines below."""
    tall = 210
    legend = 18 * max(len(of.series) for of in panels)
    width = (WIDTH - MARGIN - len(panels) * 60) / len(panels)
    heads, head = _heads([of.title for of in panels], width)

    def paint(sheet: Sheet) -> None:
        theme = sheet.theme
        for p, of in enumerate(panels):
            left = 60 + p * (width + 60)
            axes = sheet.axes(left, head + 4, width, tall)
            sheet.text(left - 44, sheet.top, heads[p], weight="bold")
            axes.grid(color=theme.grid, linewidth=0.6)
            axes.set_axisbelow(True)
            if of.zero:
                axes.axhline(0, color=theme.ink, linewidth=1.2)
            if of.log:
                axes.set_xscale("log")
            for n, (name, points) in enumerate(of.series.items()):
                colour = theme.series[n % len(theme.series)]
                x, y = zip(*points, strict=True)
                known = [math.nan if value is None else value for value in y]
                few = MARKERS[n % len(MARKERS)] if len(points) <= 12 else ""
                axes.plot(
                    x,
                    known,
                    f"{few}{':' if of.loose else '-'}",
                    color=colour,
                    label=name,
                    markersize=6,
                )
                for at, ends in zip(x, of.ends.get(name, ()), strict=False):
                    if ends:
                        axes.plot([at, at], ends, color=colour, linewidth=2)
            values = sorted({at for points in of.series.values() for at, _ in points})
            if of.log:
                powers = range(math.floor(math.log10(values[0])), 20)
                round_ones = [k * 10**n for n in powers for k in (1, 2, 5)]
                within = [at for at in round_ones if values[0] / 1.1 <= at <= values[-1] * 1.1]
                axes.set_xticks(within, [f"{at:,}" for at in within])
            elif len(values) <= 6:
                axes.set_xticks(values, [f"{at:,.0f}" for at in values])
            axes.minorticks_off()
            axes.margins(x=0.08)
            axes.set_xlabel(of.across, color=theme.faint, size=12)
            axes.legend(
                loc="upper left", bbox_to_anchor=(-0.12, -0.22), frameon=False, fontsize=12,
                labelcolor=theme.ink, borderaxespad=0, labelspacing=0.25,
            )  # fmt: skip

    return head + 4 + tall + 52 + legend, paint


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table:
    """Values on colours.

    Attributes:
      title: what is measured.
      rows, columns: their names.
      cells: [row][column] of a value and its text; None where there is none.
    """

    title: str
    rows: Sequence[str]
    columns: Sequence[str]
    cells: Sequence[Sequence[tuple[float | None, str] | None]]


def tables(every: Sequence[Table], *, common: bool, step: int = 40, across: str = "") -> Plot:
    """Tables one below the other; the higher a value, the stronger its colour.

    Args:
      common: whether a colour means the same in all of them.
      step: height of a row.
      across: what stands in the columns.
    """
    label = 190
    heads = [_HEAD + 17 * max(name.count("\n") + 1 for name in of.columns) for of in every]
    heights = [head + step * len(of.rows) + 16 for head, of in zip(heads, every, strict=True)]

    def spread(among: Sequence[Table]) -> tuple[float, float]:
        cells = itertools.chain.from_iterable(row for of in among for row in of.cells)
        known = [cell[0] for cell in cells if cell and cell[0] is not None]
        return min(known, default=0), max(known, default=0)

    def paint(sheet: Sheet) -> None:
        top = 0
        for of, head, height in zip(every, heads, heights, strict=True):
            low, high = spread(every if common else [of])
            width = WIDTH - 2 * MARGIN - label
            axes = sheet.axes(MARGIN + label, top + head, width, step * len(of.rows))
            axes.set(xlim=(0, len(of.columns)), ylim=(len(of.rows), 0), xticks=(), yticks=())
            axes.spines[:].set_visible(False)
            at = sheet.top + top
            sheet.text(MARGIN, at, of.title, weight="bold")
            if across:
                sheet.text(WIDTH - MARGIN, at, across, color=sheet.theme.faint, ha="right")
            for c, name in enumerate(of.columns):
                middle = MARGIN + label + (c + 0.5) * width / len(of.columns)
                sheet.text(middle, at + head - 4, name, ha="center", va="bottom")
            for r, (name, row) in enumerate(zip(of.rows, of.cells, strict=True)):
                text = "\n".join(textwrap.wrap(name, 27))
                sheet.text(MARGIN, at + head + step * (r + 0.5), text, va="center")
                for c, cell in enumerate(row):
                    if cell and cell[0] is not None:
                        share = (cell[0] - low) / (high - low) if high > low else 0.5
                        colour = _between(*sheet.theme.heat, share)
                        axes.axhspan(
                            r + 0.04, r + 0.96, (c + 0.01) / len(row), (c + 0.99) / len(row),
                            color=colour, linewidth=0,
                        )  # fmt: skip
                    shown, ink = (cell[1], sheet.theme.ink) if cell else ("–", sheet.theme.faint)
                    axes.text(c + 0.5, r + 0.5, shown, color=ink, size=12,
                              ha="center", va="center", linespacing=1.3)  # fmt: skip
            top += height

    return sum(heights), paint


def bars(every: Mapping[str, Mapping[str, float]], label: str) -> Plot:
    """Bars of parts that add up, one below the other, from zero; the sum stands at the end."""
    labels = ["\n".join(textwrap.wrap(name, 35)) for name in every]
    step = 34 if any("\n" in label for label in labels) else 24
    tall = step * len(every)
    parts = list(dict.fromkeys(name for of in every.values() for name in of))

    def paint(sheet: Sheet) -> None:
        theme = sheet.theme
        axes = sheet.axes(MARGIN + _LABEL, _HEAD, WIDTH - 2 * MARGIN - _LABEL - 40, tall)
        axes.set(ylim=(len(every), 0), yticks=())
        axes.grid(axis="x", color=theme.grid, linewidth=0.6)
        axes.set_axisbelow(True)
        for n, (label_of, of) in enumerate(zip(labels, every.values(), strict=True)):
            left = 0.0
            for part, value in of.items():
                colour = theme.series[parts.index(part) % len(theme.series)]
                axes.barh(n + 0.5, value, 15 / step, left, color=colour, edgecolor=theme.paper)
                left += value
            axes.text(left, n + 0.5, f" {left:,.0f}", color=theme.ink, size=12, va="center")
            sheet.text(MARGIN, sheet.top + _HEAD + step * (n + 0.5), label_of, va="center")
        axes.set_xlabel(label, color=theme.faint, size=12)
        at = float(MARGIN)
        for n, part in enumerate(parts):
            sheet.text(at, sheet.top, "■", color=theme.series[n % len(theme.series)])
            sheet.text(at + 14, sheet.top, part)
            at += 30 + 7.6 * len(part)

    return _HEAD + tall + 44, paint


def _heads(names: Sequence[str], width: float) -> tuple[list[str], int]:
    """Names in bold over panels of a width, on lines, and the height of all of them."""
    lines = [textwrap.wrap(name, int(width / 7.8)) for name in names]
    return ["\n".join(of) for of in lines], _HEAD + 15 * (max(map(len, lines)) - 1)


def _between(first: str, last: str, share: float) -> Any:
    """A colour so far from one to another."""
    pairs = ((int(of[i : i + 2], 16) for of in (first, last)) for i in (1, 3, 5))
    return [((1 - share) * one + share * other) / 255 for one, other in pairs]
