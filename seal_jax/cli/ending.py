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
        wrapped = [
            text if "\n" in text else textwrap.fill(text, width, break_on_hyphens=False)
            for text in paragraphs
        ]
        terminal.say("\nWhat came of it\n\n" + "\n\n".join([*wrapped, f"report: {path}"]))
