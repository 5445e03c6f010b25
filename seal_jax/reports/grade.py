"""`grade`: verdicts of the local grader on a file of answers, and its agreement with a judge."""

import json
from collections.abc import Callable
from typing import Any

from seal_jax.judges.local import calibration
from seal_jax.judges.local.grade import decide
from seal_jax.runtime import terminal


def grade_rows(rows_path: str, *, show: bool, write: Callable[[str], Any] = terminal.say) -> dict:
    """Grades the rows of a file and writes JSON lines: rows first where asked, the summary last.

    Args:
      rows_path: JSON lines {question, gold, prediction[, correct]}.
      show: also write the rows on which the grader and `correct` differ, and every row without
        `correct`. Each gains `graded`, `by` (the rule that decided, or "weights") and
        `probability` (null under a rule).
      write: takes a line.

    Returns:
      The summary; see `calibration.report`.

    Raises:
      RowsError: the file cannot be used.
    """
    rows = calibration.read_rows(rows_path)
    decisions = [decide(row["gold"], row["prediction"], row["question"]) for row in rows]
    if show:
        for row, decision in zip(rows, decisions, strict=True):
            if row.get("correct") != decision.verdict.correct:
                likely = decision.probability and round(decision.probability, 3)
                graded = {"graded": decision.verdict.correct, "by": decision.by}
                write(json.dumps({**row, **graded, "probability": likely}))
    summary = calibration.report(rows, decisions)
    write(json.dumps(summary))
    return summary
