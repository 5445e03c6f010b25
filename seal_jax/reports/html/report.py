"""`seal_jax report`: writes a run as one HTML file, with everything that it needs inside."""

import base64
import hashlib
import importlib.resources
import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any

from seal_jax.reports.html import about, continual, explorer, figures, run_records, sections, texts
from seal_jax.reports.html.markup import Html, join, tag
from seal_jax.reports.html.run_records import ReportError, RunRecords

MARK = "<!-- seal_jax report -->"


def write(workdir: str, out: str = "") -> pathlib.Path:
    """Writes the report of a run, finished or not; nothing of the run is changed.

    Args:
      workdir: the run's directory.
      out: the HTML file; "" for report.html in the run's directory. An earlier report there is
        replaced, another file is not.

    Returns:
      The file's path.

    Raises:
      ReportError, RunDirError, LedgerError: there is no run, it is damaged, or `out` is in the way.
      OSError: the file cannot be written.
    """
    path = pathlib.Path(out or pathlib.Path(workdir) / "report.html")
    run = run_records.read(workdir)
    if path.is_dir():
        raise ReportError(f"--out={path} is a directory: give a file, such as {path}/report.html.")
    if not path.parent.is_dir():
        raise ReportError(f"--out={path}: there is no directory {path.parent}; make it first.")
    if path.exists() and MARK.encode() not in path.read_bytes()[:200]:
        raise ReportError(
            f"--out={path} is there already, and is no report: it was not touched. Give another "
            "name, or move it away."
        )
    # A text that a model cut inside a character may hold what UTF-8 cannot.
    content = page(run).encode("utf-8", errors="replace")
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        part.write_bytes(content)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return path


def page(run: RunRecords) -> str:
    """The whole page of a run."""
    script, style = (_own(name) for name in ("explorer.js", "page.css"))
    found = explorer.data(run, texts.find(run))
    shown = {
        ("about", "Run"): about.head(run),
        ("arms", "Arms"): sections.arms(run),
        ("learning", "Learning"): figures.learning(run),
        ("reliability", "Reward"): sections.reliability(sections.analysis(run)),
        ("continual", "Continual"): continual.continual(run),
        ("cost", "Cost"): figures.cost(run),
        ("explorer", "Explorer"): _explorer(found),
    }
    title = f"{run.name} · seal_jax"
    # Nothing may be loaded or run but what stands in this file: a text that got through all
    # escaping could still do nothing.
    policy = (
        "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
        f"script-src 'sha256-{_digest(script)}'"
    )
    return "\n".join(
        [
            "<!doctype html>",
            MARK,
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            tag("title", title),
            f"<style>{style}</style>",
            "</head>",
            "<body>",
            '<a class="skip" href="#explorer">Skip to the explorer</a>',
            _header(run, [link for link, content in shown.items() if content]),
            tag("main", *shown.values()),
            f'<script type="application/json" id="data">{as_json(found)}</script>',
            f"<script>{script}</script>",
            "</body>",
            "</html>",
            "",
        ]
    )


def as_json(value: Any) -> str:
    """JSON for a script element: nothing in it can end the element or begin another.

    >>> as_json({"a": "</script>"})
    '{"a":"\\\\u003c/script\\\\u003e"}'
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _header(run: RunRecords, links: Sequence[tuple[str, str]]) -> Html:
    state = "finished" if run.finished else "not finished: what is recorded so far"
    if run.few_shot:
        kind = "curate" if run.config.get("on") else "few-shot learning on ARC"
    elif run.continual:
        kind = "continual self-edits"
    else:
        kind = "knowledge incorporation"
    return tag(
        "header",
        tag(
            "div",
            tag("h1", run.name),
            tag("p", kind, " · ", tag("span", state, class_="state"), class_="kind"),
            class_="title",
        ),
        tag(
            "nav",
            *(tag("a", name, href=f"#{id}") for id, name in links),
            aria_label="Sections",
        ),
        tag("button", "Theme: as the system", type="button", id="theme"),
    )


def _explorer(found: dict[str, Any]) -> Html:
    """The explorer's frame; explorer.js fills it."""
    if not found["stages"]:
        return tag(
            "section",
            tag("h2", "Explorer", id="explorer-title"),
            tag("p", "No self-edit and no answer is recorded yet."),
            id="explorer",
            aria_labelledby="explorer-title",
        )
    what = "tasks" if found["few_shot"] else "contexts and questions"
    options = (
        tag("option", stage["label"], value=place) for place, stage in enumerate(found["stages"])
    )
    tools = tag(
        "div",
        tag("label", "Stage ", tag("select", *options, id="stage")),
        tag(
            "label",
            f"Search {what} ",
            Html('<input type="search" id="search" autocomplete="off" spellcheck="false">'),
        ),
        class_="tools",
        role="search",
        aria_label="The explorer's contexts",
    )
    help_ = join(
        [
            tag("kbd", "↑"),
            " ",
            tag("kbd", "↓"),
            " move, ",
            tag("kbd", "→"),
            " ",
            tag("kbd", "←"),
            " open and close, ",
            tag("kbd", "/"),
            ' search (all words; "several words" together), ',
            tag("kbd", "Esc"),
            " clear. Self-edits stand in the order of their rewards.",
        ]
    )
    return tag(
        "section",
        tag("h2", "Explorer", id="explorer-title"),
        tag("p", found["note"], class_="note") if found["note"] else "",
        tools,
        tag("p", "", id="count", role="status"),
        tag("p", help_, class_="note keys"),
        tag("noscript", tag("p", "The explorer needs JavaScript; all figures above do not.")),
        tag("div", "", id="contexts"),
        id="explorer",
        aria_labelledby="explorer-title",
    )


def _own(name: str) -> str:
    """A file of this package."""
    return (importlib.resources.files(__package__) / name).read_text(encoding="utf-8")


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
