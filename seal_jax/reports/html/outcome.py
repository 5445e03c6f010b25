"""What came of a run: the paragraphs that its command ended in, and a forest plot of the gains."""

import re

from seal_jax.loop.results import COST_HEADS
from seal_jax.reports import words
from seal_jax.reports.formats import form, interval, metric, number
from seal_jax.reports.html import charts
from seal_jax.reports.run_records import Record, RunRecords
from seal_jax.reports.words import Gain


def outcome(run: RunRecords) -> Record | None:
    """The section; None of a run without results.

    Returns:
      {"title", "paragraphs" (the lines of each), "charts"}.
    """
    paragraphs = words.of_run(run)
    if not paragraphs:
        return None
    base = run.results.get("arms", {}).get("base")
    over, plots = f"Gain over {base['label']}" if base else "Gain", []
    for rows in words.compared(run.results).values():
        of = rows[0][1].metric
        scale = form(of)[1]
        shown = [
            (
                label,
                f"{number(of, gain.difference, sign=True)} {interval(of, gain.ends, sign=True)}",
                None if gain.difference is None else scale * gain.difference,
                gain.ends and [scale * edge for edge in gain.ends],
                _spent(run, gain),
            )
            for label, gain in rows
        ]
        plots.append(charts.forest(f"{over} in {metric(of, unit=True)}", shown))
    typeset = [text if "\n" in text else _typeset(text) for text in paragraphs]
    return {"title": "What came of it", "paragraphs": typeset, "charts": plots}


def _spent(run: RunRecords, gain: Gain) -> str:
    """What the arms of a difference spent, "" where neither learns.

    Of two that learn tokens and steps alone, the second's before the first's.
    """
    cells = [run.costs[arm].cells() for arm in gain.arms if arm in run.costs]
    heads = COST_HEADS[: 4 if len(cells) == 1 else 2]
    return ", ".join(
        f"{' / '.join(dict.fromkeys(values))} {head}"
        for head, *values in zip(heads, *cells, strict=False)
        if values and all(values)
    )


def _typeset(text: str) -> str:
    """With the minus signs of printed text, and no end of a line before a per cent sign."""
    return re.sub(r"(?<![\w-])-(?=\d)", "−", text).replace(" %", "\u00a0%")
