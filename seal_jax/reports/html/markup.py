"""Pieces of HTML. Every text that comes in is escaped here, unless it is `Html` already."""

import html
from collections.abc import Iterable, Sequence


class Html(str):
    """Text that is HTML: its tags are meant."""


def text(value: object) -> Html:
    """A value as HTML that shows it.

    >>> text("<b>")
    '&lt;b&gt;'
    >>> text(Html("<b>")), text(None)
    ('<b>', '–')
    """
    if isinstance(value, Html):
        return value
    return Html("–" if value is None else html.escape(str(value)))


def tag(name: str, *content: object, **attributes: object) -> Html:
    """An element. An underscore at an attribute's end is dropped, others become hyphens.

    >>> tag("p", "a < b", class_="note")
    '<p class="note">a &lt; b</p>'
    """
    named = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Html(f"<{name}{named}>{join(content)}</{name}>")


def join(parts: Iterable[object]) -> Html:
    """Parts one after another."""
    return Html("".join(text(part) for part in parts))


def table(
    caption: str,
    head: Sequence[object],
    rows: Sequence[Sequence[object]],
    *,
    left: int = 1,
    words_last: bool = False,
    class_: str | None = None,
) -> Html:
    """A table in a box of its own that scrolls sideways; the first cell of a row is its heading.

    Args:
      left: how many of the first columns hold words, the others hold numbers.
      words_last: the last column holds words too.
    """

    def kind(place: int) -> str | None:
        words = place < left or (words_last and place == len(head) - 1)
        return None if words else "number"

    def cells(row: Sequence[object]) -> Html:
        first, *others = row
        return tag(
            "tr",
            tag("th", first, scope="row"),
            *(tag("td", cell, class_=kind(place)) for place, cell in enumerate(others, start=1)),
        )

    heads = (tag("th", name, scope="col", class_=kind(place)) for place, name in enumerate(head))
    return tag(
        "div",
        tag(
            "table",
            tag("caption", caption),
            tag("thead", tag("tr", *heads)),
            tag("tbody", *map(cells, rows)),
            class_=class_,
        ),
        class_="scroll",
        role="region",
        aria_label=caption,
        tabindex=0,
    )


def section(id: str, title: str, *content: object) -> Html:
    """A landmark with a heading."""
    return tag(
        "section",
        tag("h2", title, id=f"{id}-title"),
        *content,
        id=id,
        aria_labelledby=f"{id}-title",
    )


def details(summary: object, *content: object, open_: bool = False) -> Html:
    """What is shown when asked for."""
    inside = join([tag("summary", summary), *content])
    return Html(f"<details{' open' if open_ else ''}>{inside}</details>")
