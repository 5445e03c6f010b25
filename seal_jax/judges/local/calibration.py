"""How far the local grader agrees with a judge, and how its weights were found.

`report` is what `python -m seal_jax grade` prints. The fit is a logistic regression with a ridge
penalty and a threshold; cross-validation fits both anew in every fold, on other questions.
"""

import collections
import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import optimize

from seal_jax.judges.local.features import NAMES
from seal_jax.judges.local.grade import GRADER, Decision, Weights, says_nothing, weigh
from seal_jax.runs import json_file

_EXPECTED = (
    "an object a line with the strings question, gold and prediction, and the boolean "
    "correct where the answer was judged"
)
PENALTY = 100.0  # of half the squared weights of standardised features
FOLDS = 10
_THRESHOLDS = np.arange(25, 76) / 100
_SMOOTHING = 7  # neighbouring thresholds whose kappas are averaged: a lone peak is chance


def agreement(predicted: Sequence[bool], judged: Sequence[bool]) -> dict[str, float]:
    """How far two series of verdicts agree.

    Args:
      predicted: the grader's verdicts.
      judged: the judge's verdicts, of the same length, at least one.

    Returns:
      agreement (share of equal verdicts), kappa (Cohen's; 0 where chance explains all), and the
      precision and recall of the grader's "correct" (0 where undefined).

    >>> agreement([True, True, False, False], [True, False, False, False])
    {'agreement': 0.75, 'kappa': 0.5, 'precision': 0.5, 'recall': 1.0}
    """
    counts = confusion(predicted, judged)
    n, both = len(judged), counts["both_correct"]
    yes_predicted, yes_judged = both + counts["only_grader"], both + counts["only_judge"]
    equal = (both + counts["both_wrong"]) / n
    chance = (yes_predicted * yes_judged + (n - yes_predicted) * (n - yes_judged)) / n**2
    return {
        "agreement": equal,
        "kappa": (equal - chance) / (1 - chance) if chance < 1 else 0.0,
        "precision": both / yes_predicted if yes_predicted else 0.0,
        "recall": both / yes_judged if yes_judged else 0.0,
    }


def confusion(predicted: Sequence[bool], judged: Sequence[bool]) -> dict[str, int]:
    """Numbers of rows by what the grader and the judge say.

    >>> confusion([True, True, False], [True, False, False])
    {'both_correct': 1, 'only_grader': 1, 'only_judge': 0, 'both_wrong': 1}
    """
    pairs = collections.Counter(
        (bool(ours), bool(theirs)) for ours, theirs in zip(predicted, judged, strict=True)
    )
    return {
        "both_correct": pairs[True, True],
        "only_grader": pairs[True, False],
        "only_judge": pairs[False, True],
        "both_wrong": pairs[False, False],
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
      grader, n, questions, graded_correct, empty and judged (how many rows have `correct`); with
      judged rows, agreement, kappa, precision, recall and confusion of the grader as it is. Where
      questions with both verdicts fill every fold, also `fit` (weights fitted to these rows) and
      `cross_validated`: the agreement of weights and thresholds fitted without the questions that
      they are tried on.
    """
    judged = [(row, one) for row, one in zip(rows, decisions, strict=True) if "correct" in row]
    found: dict[str, Any] = {
        "grader": GRADER,
        "n": len(rows),
        "questions": len({row["question"] for row in rows}),
        "graded_correct": sum(one.verdict.correct for one in decisions),
        "empty": sum(one.verdict.empty for one in decisions),
        "judged": len(judged),
    }
    if not judged:
        return found
    theirs = [row["correct"] for row, _ in judged]
    ours = [one.verdict.correct is True for _, one in judged]
    found |= {**agreement(ours, theirs), "confusion": confusion(ours, theirs)}
    table = tabulate([row for row, _ in judged])
    if is_enough(table):
        held_out = cross_validate(table).tolist()
        fitted = fit(table)
        found["cross_validated"] = {
            **agreement(held_out, theirs),
            "confusion": confusion(held_out, theirs),
            "folds": FOLDS,
        }
        found["fit"] = {
            "threshold": fitted.threshold,
            "bias": round(fitted.bias, 2),
            "weights": {name: round(value, 2) for name, value in fitted.of.items()},
        }
    return found


@dataclasses.dataclass(frozen=True)
class Table:
    """Judged rows as arrays: F features, N rows.

    `ruled_N` holds the verdict of the grader's rules: 1 correct, 0 wrong, -1 where the weights
    decide. Weights are fitted on the rows that no rule decides.
    """

    features_NxF: np.ndarray
    ruled_N: np.ndarray
    judged_N: np.ndarray
    questions: tuple[str, ...]


def tabulate(rows: Sequence[Mapping[str, Any]]) -> Table:
    """The features, rule verdicts and judgements of rows {question, gold, prediction, correct}."""
    weighed = [
        ("empty", False, {})
        if says_nothing(row["gold"], row["prediction"])
        else weigh(row["gold"], row["prediction"], row["question"])
        for row in rows
    ]
    return Table(
        np.array([[found.get(name, 0.0) for name in NAMES] for *_, found in weighed], float),
        np.array([-1 if ruled is None else int(ruled) for _, ruled, _ in weighed]),
        np.array([row["correct"] for row in rows], bool),
        tuple(row["question"] for row in rows),
    )


def is_enough(table: Table, folds: int = FOLDS) -> bool:
    """Whether every fold has rows of both verdicts that no rule decides."""
    fold_N = [question_fold(question, folds) for question in table.questions]
    seen = {
        (fold, bool(judged))
        for fold, judged, ruled in zip(fold_N, table.judged_N, table.ruled_N, strict=True)
        if ruled < 0
    }
    return len(seen) == 2 * folds


def fit(table: Table, chosen_N: np.ndarray | None = None) -> Weights:
    """The weights and the threshold for the chosen rows (all by default).

    Logistic regression; features are standardised for the penalty only. The threshold has the
    highest kappa with the judge on the same rows, averaged over its neighbours. At least one
    chosen row must be free of rules.
    """
    chosen_N = np.ones(len(table.judged_N), bool) if chosen_N is None else chosen_N
    free_N = chosen_N & (table.ruled_N < 0)
    x_NxF, y_N = table.features_NxF[free_N], table.judged_N[free_N].astype(float)
    mean_F, std_F = x_NxF.mean(0), x_NxF.std(0)
    std_F = np.where(std_F > 0, std_F, 1.0)
    z_NxF = (x_NxF - mean_F) / std_F

    def loss(parameters):
        weights_F, bias = parameters[:-1], parameters[-1]
        logits_N = z_NxF @ weights_F + bias
        value = np.sum(np.logaddexp(0, logits_N) - y_N * logits_N)
        error_N = 1 / (1 + np.exp(-logits_N)) - y_N
        gradient = np.append(z_NxF.T @ error_N + PENALTY * weights_F, error_N.sum())
        return value + PENALTY / 2 * weights_F @ weights_F, gradient

    start = np.zeros(z_NxF.shape[1] + 1)
    found = optimize.minimize(loss, start, jac=True, method="L-BFGS-B").x
    weights_F = found[:-1] / std_F
    bias = float(found[-1] - weights_F @ mean_F)
    weights = Weights(dict(zip(NAMES, weights_F.tolist(), strict=True)), bias, 0.5)
    kappas = [
        agreement(
            verdicts(table, dataclasses.replace(weights, threshold=float(t)))[chosen_N].tolist(),
            table.judged_N[chosen_N].tolist(),
        )["kappa"]
        for t in _THRESHOLDS
    ]
    around = np.ones(_SMOOTHING) / _SMOOTHING
    smooth = np.convolve(np.pad(kappas, _SMOOTHING // 2, mode="edge"), around, "valid")
    return dataclasses.replace(weights, threshold=float(_THRESHOLDS[smooth.argmax()]))


def verdicts(table: Table, weights: Weights) -> np.ndarray:
    """The verdict on every row under these weights; rules come first."""
    logits_N = table.features_NxF @ np.array([weights.of[n] for n in NAMES]) + weights.bias
    free_N = 1 / (1 + np.exp(-logits_N)) >= weights.threshold
    return np.where(table.ruled_N < 0, free_N, table.ruled_N == 1)


def cross_validate(table: Table, folds: int = FOLDS) -> np.ndarray:
    """The verdict on every row under weights and threshold fitted to the other folds' questions.

    All rows of a question are in one fold (`question_fold`).
    """
    fold_N = np.array([question_fold(question, folds) for question in table.questions])
    found_N = np.zeros(len(fold_N), bool)
    for fold in range(folds):
        held_out_N = fold_N == fold
        if held_out_N.any():
            found_N[held_out_N] = verdicts(table, fit(table, ~held_out_N))[held_out_N]
    return found_N
