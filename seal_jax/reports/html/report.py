"""`seal_jax report`: writes a run as one HTML file, with everything that it needs inside."""

import base64
import hashlib
import importlib.resources
import pathlib
from typing import Any

import jinja2

from seal_jax.reports import out_file, run_files, run_records
from seal_jax.reports.html import about, arms, continual, explorer, learning, outcome
from seal_jax.reports.run_records import RunRecords
from seal_jax.runs import storage
from seal_jax.runs.storage import Location

MARK = "<!-- seal_jax report -->"  # as page.html begins


def write(workdir: str, out: str = "") -> Location:
    """Writes the report of a run, finished or not; nothing of the run is changed.

    Args:
      workdir: the run's directory.
      out: see `save`.

    Returns:
      The file's path.

    Raises:
      ReportError, RunDirError, DamagedError, LedgerError: there is no run, or it is damaged.
      OutError: `out` is in the way.
      OSError: the file cannot be written.
    """
    with run_files.as_written(workdir):
        run = run_records.read(workdir)
    return save(run, out)


def save(run: RunRecords, out: str = "") -> Location:
    """The same of a run that was read.

    Args:
      out: the HTML file; "" for report.html in the run's directory. An earlier report there is
        replaced, another file is not.
    """
    path = pathlib.Path(out) if out else run.path / "report.html"
    if isinstance(path, pathlib.Path):
        out_file.check(path, lambda content: MARK.encode() in content[:200], "no report")
    with run_files.as_written(run.path):
        text = page(run)
    # A text that a model cut inside a character may hold what UTF-8 cannot.
    content = text.encode("utf-8", errors="replace")
    if isinstance(path, pathlib.Path):
        out_file.write(path, content)
    else:
        storage.put(path, content)
    return path


def page(run: RunRecords) -> str:
    """The whole page of a run: a template for each section, which escapes what the run says."""
    sections = [
        ("outcome", "Outcome", outcome.outcome(run)),
        ("arms", "Arms", arms.arms(run)),
        ("learning", "Learning", learning.learning(run)),
        ("reliability", "Reward", learning.reliability(run)),
        ("continual", "Continual", continual.continual(run)),
        ("cost", "Cost", about.cost(run)),
        ("explorer", "Explorer", {"title": "Explorer"}),
        ("about", "Settings", about.about(run)),
    ]
    files = importlib.resources.files(__package__)
    script, style = ((files / name).read_text("utf-8") for name in ("explorer.js", "page.css"))
    return _TEMPLATES.get_template("page.html").render(
        run=run,
        sections=[section for section in sections if section[2]],
        explorer=explorer.data(run),
        style=style,
        script=script,
        digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def _shown(value: Any) -> Any:
    """What an expression in a template comes to on the page."""
    value = ", ".join(map(str, value)) if isinstance(value, list) else value
    return "–" if value is None else value


def _printed(number: Any) -> str:
    """A number with the minus sign and the dash of printed text."""
    text = str(_shown(number))
    return "–" if text == "-" else text.replace("-", "−")


_TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader(__package__, ""), autoescape=True, finalize=_shown,
    undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True,
)  # fmt: skip
_TEMPLATES.policies["json.dumps_kwargs"] = {
    "ensure_ascii": False, "allow_nan": False, "separators": (",", ":"),
}  # fmt: skip
_TEMPLATES.filters["printed"] = _printed
