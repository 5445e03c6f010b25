"""The end of a run: what came of it in words, and where its report is."""

import shutil
import textwrap

from seal_jax.reports import run_records, words
from seal_jax.reports.html import report
from seal_jax.runtime import hosts, terminal

_WIDEST = 100


def tell(workdir: str, *, quiet: bool) -> None:
    """Writes a run's report, and says what came of the run.

    The run is finished by then: what goes wrong here is said, and fails nothing.
    """
    if hosts.join().rank > 0:
        return
    try:
        run = run_records.read(workdir)
        paragraphs = words.of_run(run)
        path = report.save(run)
    except Exception as error:  # whatever it is, the results are there
        terminal.say(
            f"the report could not be written ({error}); when that is mended, `seal report "
            f"--workdir={workdir}` writes it.",
            error=True,
        )
        return
    if not quiet:
        width = min(shutil.get_terminal_size().columns, _WIDEST)
        parts = [wrapped(text, width) for text in paragraphs]
        terminal.say("\nWhat came of it\n\n" + "\n\n".join([*parts, f"report: {path}"]))


def wrapped(text: str, width: int) -> str:
    """A paragraph in lines, of which none begins with a per cent sign; one with lines as it is."""
    if "\n" in text:
        return text
    held = text.replace(" %", "\u00a0%")
    return textwrap.fill(held, width, break_on_hyphens=False).replace("\u00a0", " ")
