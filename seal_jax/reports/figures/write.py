"""Pictures written to a folder: in both themes, with a Markdown page of all of them."""

import html
import pathlib
from collections.abc import Iterable

from seal_jax.reports import out_file
from seal_jax.reports.figures.sheet import MARK, THEMES, WIDTH, Picture, svg

_PAGE = "figures.md"


def write(found: Iterable[tuple[str, list[Picture] | str]], folder: str, command: str) -> list[str]:
    """Writes pictures, NAME-light.svg and NAME-dark.svg, and figures.md, which shows them.

    Args:
      found: by name, pictures or why there are none.
      folder: is made; pictures of ours in it are replaced.
      command: what makes them, for the page.

    Returns:
      What to tell: a line for each kind.

    Raises:
      FigureError: matplotlib is missing.
      OutError: a file that is no picture of ours is in the way.
      OSError: a file cannot be written.
    """
    into = pathlib.Path(folder)
    into.mkdir(parents=True, exist_ok=True)
    page, told = [f"{MARK}\n"], []
    for name, of in found:
        if isinstance(of, str):
            told.append(f"{name}: no picture, since {of}")
            continue
        for picture in of:
            for theme in THEMES:
                _put(into / f"{picture.name}-{theme.name}.svg", svg(picture, theme))
            page.append(_shown(picture, command))
            told.append(f"{name}: {into / picture.name}-light.svg and -dark.svg")
    _put(into / _PAGE, "\n".join(page).encode())
    return [*told, f"all of them, with their texts: {into / _PAGE}"]


def _put(path: pathlib.Path, content: bytes) -> None:
    out_file.check(path, lambda old: old.startswith(MARK.encode()), "no picture", "--figures")
    out_file.write(path, content)


def _shown(picture: Picture, command: str) -> str:
    """A picture in Markdown, with its text and its command."""
    light, dark = (f"{picture.name}-{theme.name}.svg" for theme in THEMES)
    return (
        f'<picture>\n  <source media="(prefers-color-scheme: dark)" srcset="{dark}">\n'
        f'  <img src="{light}" width="{WIDTH}" alt="{html.escape(picture.alt)}">\n</picture>\n\n'
        f"```bash\n{command}\n```\n"
    )
