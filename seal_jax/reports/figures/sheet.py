"""A sheet that pictures are drawn on, in a light or a dark theme, with places in pixels."""

import dataclasses
import html
import io
import textwrap
from collections.abc import Callable, Sequence
from typing import Any

WIDTH = 700
MARGIN = 16
_TITLE, _NOTE = 21, 16  # heights of a line
MARK = "<!-- seal_jax picture -->"


class FigureError(ValueError):
    """Pictures cannot be drawn; the message says what to change."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Theme:
    """Colours.

    Attributes:
      name: in the file's name.
      paper, ink, faint, grid: of the ground, of text, of what is beside it, and of lines.
      series: of what is told apart, which has different markers as well.
      heat: the colours of the lowest and the highest value of a table.
    """

    name: str
    paper: str
    ink: str
    faint: str
    grid: str
    series: tuple[str, ...]
    heat: tuple[str, str]


THEMES = (
    Theme(
        name="light", paper="#ffffff", ink="#1f2328", faint="#59636e", grid="#d1d9e0",
        series=("#0969da", "#bc4c00", "#1a7f37", "#8250df", "#9a6700", "#59636e"),
        heat=("#f6f8fa", "#8bc1ff"),
    ),
    Theme(
        name="dark", paper="#0d1117", ink="#f0f6fc", faint="#9198a1", grid="#3d444d",
        series=("#58a6ff", "#f0883e", "#3fb950", "#bc8cff", "#d29922", "#9198a1"),
        heat=("#161b22", "#1f4f8f"),
    ),
)  # fmt: skip
MARKERS = "osD^vP"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Picture:
    """What is drawn, and the same in words.

    Attributes:
      name: of its files.
      title: what is seen.
      notes: what has to be known to read it: how many, of what, which intervals.
      figures: every figure on it, in words.
      height: of the plot, in pixels.
      paint: draws the plot on a sheet, below `Sheet.top`.
    """

    name: str
    title: str
    notes: Sequence[str]
    figures: Sequence[str]
    height: int
    paint: Callable[["Sheet"], None]

    @property
    def alt(self) -> str:
        """The picture for those who do not see it."""
        return " ".join([f"{self.title}.", *(f"{of}." for of in self.figures), *self.notes])


class Sheet:
    """A drawing, `WIDTH` wide.

    Attributes:
      top: where the plot begins.
    """

    def __init__(self, theme: Theme, top: int, height: int, figure: Any):
        self.theme, self.top, self.height, self._figure = theme, top, height, figure

    def axes(self, left: float, top: float, width: float, height: float) -> Any:
        """Axes at a place below `top`, with the left and the lower line."""
        below = self.height - self.top - top - height
        place = (left / WIDTH, below / self.height, width / WIDTH, height / self.height)
        axes = self._figure.add_axes(place, facecolor="none")
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(self.theme.grid)
        axes.tick_params(colors=self.theme.faint, labelsize=12, length=3)
        return axes

    def text(self, left: float, top: float, text: str, **how: Any) -> None:
        """Text whose upper left corner is there, from the top of the sheet."""
        how = {"color": self.theme.ink, "size": 12, "va": "top", "linespacing": 1.25} | how
        self._figure.text(left / WIDTH, 1 - top / self.height, text, **how)


def svg(picture: Picture, theme: Theme) -> bytes:
    """A picture as a file that needs nothing else: letters are drawn, title and text are inside.

    Raises:
      FigureError: matplotlib is missing.
    """
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError:
        raise FigureError(
            "pictures are drawn by matplotlib: pip install 'seal_jax[figures]'"
        ) from None
    title = textwrap.wrap(picture.title, 72)
    notes = [line for note in picture.notes for line in textwrap.wrap(note, 106)]
    top = MARGIN + _TITLE * len(title) + 8
    height = top + picture.height + 10 + _NOTE * len(notes) + MARGIN
    # The same picture is the same file: no date, no random names.
    with matplotlib.rc_context({"svg.hashsalt": picture.name, "font.family": "DejaVu Sans"}):
        figure = Figure((WIDTH / 72, height / 72), dpi=72, facecolor=theme.paper)
        sheet = Sheet(theme, top, height, figure)
        sheet.text(MARGIN, MARGIN, "\n".join(title), size=15, weight="bold")
        picture.paint(sheet)
        below = top + picture.height + 10
        sheet.text(MARGIN, below, "\n".join(notes), color=theme.faint)
        out = io.BytesIO()
        figure.savefig(out, format="svg", facecolor=theme.paper, metadata={"Date": None})
    text = out.getvalue().decode()
    head, _, rest = text[text.index("<svg") :].partition(">")
    head = head.replace(f'{WIDTH}pt"', f'{WIDTH}"').replace(f'{height}pt"', f'{height}"')
    words = f"<title>{html.escape(picture.title)}</title><desc>{html.escape(picture.alt)}</desc>"
    return f'{MARK}\n{head} role="img">\n {words}{rest}'.encode()
