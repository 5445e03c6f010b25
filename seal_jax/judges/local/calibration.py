"""How far the local grader agrees with a judge, and how its weights were found.

`report` is what `seal grade` prints. The fit is a logistic regression with a ridge
penalty; cross-validation fits it anew for every fold, on the other folds' questions.
"""

import collections
import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from seal_jax.judges.local.grade import GRADER, THRESHOLD, WEIGHTS, Decision, is_english
from seal_jax.runs import json_file

_EXPECTED = (
    "an object a line with the strings question, gold and prediction, and the boolean "
    "correct where the answer was judged"
)
_CONFUSION = ("both_correct", "only_grader", "only_judge", "both_wrong")
NAMES = tuple(WEIGHTS)  # of the features, in their order
PENALTY = 1.0  # of half the squared weights
FOLDS = 10
_NEWTON_STEPS = 20


def agreement(predicted: Sequence[bool], judged: Sequence[bool]) -> dict[str, Any]:
    """How far two series of verdicts agree.

    Args:
      predicted: the grader's verdicts.
      judged: the judge's verdicts, of the same length, at least one.

    Returns:
      agreement (share of equal verdicts), kappa (Cohen's; 0 where chance explains all), the
      precision and recall of the grader's "correct" (0 where undefined), and confusion (numbers of
      rows by what the two say).

    >>> found = agreement([True, True, False, False], [True, False, False, False])
    >>> [found[name] for name in ("agreement", "kappa", "precision", "recall")]
    [0.75, 0.5, 0.5, 1.0]
    >>> found["confusion"]
    {'both_correct': 1, 'only_grader': 1, 'only_judge': 0, 'both_wrong': 2}
    """
    pairs = collections.Counter(zip(map(bool, predicted), map(bool, judged), strict=True))
    counts = [pairs[ours, theirs] for ours in (True, False) for theirs in (True, False)]
    both, only_grader, only_judge, neither = counts
    n, yes_ours, yes_theirs = pairs.total(), both + only_grader, both + only_judge
    equal = (both + neither) / n
    chance = (yes_ours * yes_theirs + (n - yes_ours) * (n - yes_theirs)) / n**2
    return {
        "agreement": equal,
        "kappa": (equal - chance) / (1 - chance) if chance < 1 else 0.0,
        "precision": both / max(1, yes_ours),
        "recall": both / max(1, yes_theirs),
        "confusion": dict(zip(_CONFUSION, counts, strict=True)),
    }


def question_fold(question: str, folds: int) -> int:
    """The fold of a question, 0 to folds - 1: a hash of its text, the same on every machine.

    >>> question_fold("Who keeps the red tower's keys?", 10)
    7
    """
    return int(hashlib.sha256(question.encode("utf-8", "replace")).hexdigest(), 16) % folds


class RowsError(ValueError):
    """A file of rows cannot be used; the message says where and why."""


def read_rows(path: str) -> list[dict[str, Any]]:
    """The rows {question, gold, prediction[, correct]} of a JSON-lines file, blank lines aside.

    Raises:
      RowsError: the file cannot be read, has no rows, or a line is not a row; the message gives
        its number and what is expected.
    """
    rows = []
    for place, row in json_file.read_lines(path, error=RowsError, expected=_EXPECTED):
        texts = ("question", "gold", "prediction")
        is_row = isinstance(row, dict) and all(isinstance(row.get(name), str) for name in texts)
        if not is_row or not isinstance(row.get("correct", True), bool):
            raise RowsError(f"{place}: expected {_EXPECTED}.")
        rows.append(row)
    if not rows:
        raise RowsError(f"{path}: no rows; expected {_EXPECTED}.")
    return rows


def report(rows: Sequence[Mapping[str, Any]], decisions: Sequence[Decision]) -> dict[str, Any]:
    """What can be said of graded rows as a whole.

    Args:
      rows: {question, gold, prediction[, correct]}.
      decisions: the grader's decision on each.

    Returns:
      grader, n, questions, graded_correct, empty, not_english (rows that the grader cannot read)
      and judged (how many rows have `correct`); with
      judged rows, agreement, kappa, precision, recall and confusion of the grader as it is. Where
      questions with both verdicts fill every fold, also `fit` (weights fitted to these rows) and
      `cross_validated`: the agreement of weights fitted without the questions that they are
      tried on.
    """
    judged = [(row, one) for row, one in zip(rows, decisions, strict=True) if "correct" in row]
    found: dict[str, Any] = {
        "grader": GRADER,
        "n": len(rows),
        "questions": len({row["question"] for row in rows}),
        "graded_correct": sum(one.verdict.correct for one in decisions),
        "empty": sum(one.verdict.empty for one in decisions),
        "not_english": sum(
            not is_english(row["gold"], row["prediction"], row["question"]) for row in rows
        ),
        "judged": len(judged),
    }
    if not judged:
        return found
    theirs = [row["correct"] for row, _ in judged]
    ours = [one.verdict.correct is True for _, one in judged]
    found |= agreement(ours, theirs)
    table = tabulate([row for row, _ in judged], [one for _, one in judged])
    free_N = table.ruled_N < 0
    if len({*zip(table.fold_N[free_N], table.judged_N[free_N], strict=True)}) == 2 * FOLDS:
        held_out = agreement(cross_validate(table).tolist(), theirs)
        found["cross_validated"] = {**held_out, "folds": FOLDS}
        weights = {name: round(weight, 2) for name, weight in fit(table).items()}
        bias = weights.pop("bias")
        found["fit"] = {"threshold": THRESHOLD, "bias": bias, "weights": weights}
    return found


@dataclasses.dataclass(frozen=True)
class Table:
    """Judged rows as arrays: F features, N rows.

    `ruled_N` holds the verdict of the grader's rules: 1 correct, 0 wrong, -1 where the weights
    decide. Weights are fitted on the rows that no rule decides. `fold_N` is each question's fold.
    """

    features_NxF: np.ndarray
    ruled_N: np.ndarray
    judged_N: np.ndarray
    fold_N: np.ndarray


def tabulate(rows: Sequence[Mapping[str, Any]], decisions: Sequence[Decision]) -> Table:
    """Rows {question, correct} and the grader's decisions on them as a table."""
    return Table(
        np.array([[one.features.get(name, 0.0) for name in NAMES] for one in decisions], float),
        np.array([one.verdict.correct if not one.features else -1 for one in decisions], int),
        np.array([row["correct"] for row in rows], bool),
        np.array([question_fold(row["question"], FOLDS) for row in rows]),
    )


def fit(table: Table, chosen_N: np.ndarray | None = None) -> dict[str, float]:
    """The weights for the chosen rows (all by default): ridge regression by Newton's method.

    At least one chosen row must be free of rules.
    """
    free_N = table.ruled_N < 0 if chosen_N is None else chosen_N & (table.ruled_N < 0)
    x_NxF, y_N = table.features_NxF[free_N], table.judged_N[free_N]
    ridge_F = np.array([0.0 if name == "bias" else PENALTY for name in NAMES])
    weights_F = np.zeros(len(NAMES))
    for _ in range(_NEWTON_STEPS):
        p_N = 1 / (1 + np.exp(-x_NxF @ weights_F))
        gradient_F = x_NxF.T @ (p_N - y_N) + ridge_F * weights_F
        hessian_FxF = (x_NxF.T * (p_N * (1 - p_N))) @ x_NxF + np.diag(ridge_F)
        weights_F -= np.linalg.solve(hessian_FxF, gradient_F)
    return dict(zip(NAMES, weights_F.tolist(), strict=True))


def verdicts(table: Table, weights: Mapping[str, float]) -> np.ndarray:
    """The verdict on every row under these weights; rules come first."""
    logits_N = table.features_NxF @ np.array([weights[name] for name in NAMES])
    free_N = 1 / (1 + np.exp(-logits_N)) >= THRESHOLD
    return np.where(table.ruled_N < 0, free_N, table.ruled_N == 1)


def cross_validate(table: Table) -> np.ndarray:
    """The verdict on every row under weights fitted to the other folds' questions.

    All rows of a question are in one fold (`question_fold`).
    """
    found_N = np.zeros(len(table.judged_N), bool)
    for fold in set(table.fold_N.tolist()):
        held_out_N = table.fold_N == fold
        found_N[held_out_N] = verdicts(table, fit(table, ~held_out_N))[held_out_N]
    return found_N
