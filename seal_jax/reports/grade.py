"""`grade`: verdicts of the local grader on a file of answers, and its agreement with a judge."""

import json
from typing import Any

from seal_jax.judges.local import calibration
from seal_jax.judges.local.grade import decide
from seal_jax.reports.formats import columns


def grade_rows(rows_path: str, *, show: bool = False) -> dict[str, Any]:
    """Grades the rows of a file.

    Args:
      rows_path: JSON lines {question, gold, prediction[, correct]}.
      show: whether to return rows as well.

    Returns:
      See `calibration.report`. With `show` also "rows": those on which the grader and `correct`
      differ, and every row without `correct`. Each gains `graded`, `by` (the rule that decided, or
      "weights") and `probability` (null under a rule).

    Raises:
      RowsError: the file cannot be used.
    """
    rows = calibration.read_rows(rows_path)
    decisions = [decide(row["gold"], row["prediction"], row["question"]) for row in rows]
    found = calibration.report(rows, decisions)
    if show:
        found["rows"] = [
            dict(row)
            | {"graded": decision.verdict.correct, "by": decision.by}
            | {"probability": decision.probability and round(decision.probability, 3)}
            for row, decision in zip(rows, decisions, strict=True)
            if row.get("correct") != decision.verdict.correct
        ]
    return found


def table(found: dict[str, Any]) -> str:
    """The result of `grade_rows` as text, its rows first, as JSON lines."""
    counts = {
        "correct": found["graded_correct"],
        "wrong": found["n"] - found["graded_correct"],
        "of them empty": found["empty"],
        "not in English": found["not_english"],
    }
    rows = "\n".join(map(json.dumps, found.get("rows", ())))
    parts = [
        *filter(None, [rows]),
        f"{found['grader']} on {found['n']:,} answers to {found['questions']:,} questions",
        columns([[name, f"{count:,}"] for name, count in counts.items()], words=1),
    ]
    if found["judged"]:
        figures = ("agreement", "kappa", "precision", "recall")
        graders = {"as it is": found}
        if fitted := found.get("cross_validated"):
            graders[f"fitted to these rows, {fitted['folds']} folds"] = fitted
        lines = [[f"{found['judged']:,} judged answers", *figures]]
        lines += [[name, *(f"{of[key]:.3f}" for key in figures)] for name, of in graders.items()]
        said = found["confusion"]
        confusion = [
            ["", "judge: correct", "judge: wrong"],
            ["grader: correct", f"{said['both_correct']:,}", f"{said['only_grader']:,}"],
            ["grader: wrong", f"{said['only_judge']:,}", f"{said['both_wrong']:,}"],
        ]
        parts += [columns(lines, words=1), columns(confusion, words=1)]
    return "\n\n".join(parts)
