"""Builds the documentation's site in build/site: python launch/site.py (pip install -e '.[docs]').

Pages are those of docs/, and are called by their titles. A link from a page into the source, which
is no part of the site, becomes the name of the file; one to a file that is not there, and any link
within the site that leads nowhere, is an error.
"""

import html.parser
import pathlib
import re
import shutil
import subprocess
import sys
import urllib.parse

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGES, SITE = ROOT / "build" / "docs", ROOT / "build" / "site"
_API = "# Python functions\n\n`import seal_jax` offers these.\n\n::: seal_jax.api\n"
_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(([^)\s]+)\)")
_TITLE = re.compile(r"# (.+)")


def main() -> int:
    """Builds it, strictly.

    Returns:
      The exit status: 1 where a link leads nowhere.
    """
    for folder in (PAGES, SITE):
        shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(ROOT / "docs", PAGES, ignore=shutil.ignore_patterns("runs"))
    shutil.copy(ROOT / "CHANGELOG.md", PAGES / "changelog.md")
    (PAGES / "api.md").write_text(_API)
    wrong = []
    for page in sorted(PAGES.rglob("*.md")):
        source = ROOT / "docs" / page.relative_to(PAGES)
        text, missing = without_source(page.read_text("utf-8"), source.parent)
        page.write_text(text, "utf-8")
        wrong += [f"docs/{page.relative_to(PAGES)}: {link}: no such file" for link in missing]
    builder = [sys.executable, "-m", "zensical", "build", "--strict", "--clean"]
    subprocess.run(builder, cwd=ROOT, check=True)
    wrong += dead_links(SITE)
    print("\n".join(wrong) or f"every link leads somewhere: {SITE / 'index.html'}")
    return bool(wrong)


def without_source(text: str, folder: pathlib.Path) -> tuple[str, list[str]]:
    """A page in which links to files outside the site are names of files; and links to nothing.

    Args:
      folder: what its links start from.

    >>> without_source("[a](b.md#c), [x/y.py](../launch/site.py)", ROOT / "docs")[0]
    '[a](b.md#c), `x/y.py`'
    """
    missing = []

    def named(found: re.Match[str]) -> str:
        label, link = found[1], found[2]
        place = folder / urllib.parse.unquote(link.partition("#")[0])
        if "://" in link or link.startswith(("#", "mailto:")):
            return found[0]
        if not place.exists():
            if link not in ("api.md", "changelog.md"):
                missing.append(link)
            return found[0]
        inside = place.resolve().is_relative_to(ROOT / "docs")
        if inside and not place.is_dir() and "runs" not in place.relative_to(folder).parts:
            # A page is called by its title rather than by its file.
            title = place.suffix == ".md" and _TITLE.match(place.read_text("utf-8"))
            return f"[{title[1]}]({link})" if title and label.endswith(".md") else found[0]
        path = place.resolve().relative_to(ROOT).as_posix()
        name = label.strip("`")
        return f"`{name}`" if name in path or "/" in name else f"{label} (`{path}`)"

    return _LINK.sub(named, text), missing


class _Page(html.parser.HTMLParser):
    """The links of a page, and the places in it that links lead to."""

    def __init__(self, text: str):
        super().__init__()
        self.links: list[str] = []
        self.ids: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        of = dict(attrs)
        self.ids |= {id for id in (of.get("id"), of.get("name")) if id}
        self.links += [link for name in ("href", "src", "srcset") if (link := of.get(name))]


def dead_links(site: pathlib.Path) -> list[str]:
    """What links of a built site lead to that is not there."""
    pages = {path.resolve(): _Page(path.read_text("utf-8")) for path in site.rglob("*.html")}
    wrong = []
    for path, page in pages.items():
        if path.name == "404.html":  # its links start from the site's root, wherever that is
            continue
        for link in page.links:
            parts = urllib.parse.urlsplit(link)
            if parts.scheme or parts.netloc or link.startswith("data:"):
                continue
            target = path.parent / urllib.parse.unquote(parts.path) if parts.path else path
            target = (target / "index.html" if target.is_dir() else target).resolve()
            to = pages.get(target)
            anchor = urllib.parse.unquote(parts.fragment)
            if not target.exists() or (to and anchor and anchor not in to.ids | {"__comments"}):
                wrong.append(f"{path.relative_to(site.resolve())}: {link} leads nowhere")
    return wrong


if __name__ == "__main__":
    sys.exit(main())
