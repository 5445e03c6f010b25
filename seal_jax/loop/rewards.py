"""Rewards of self-edits: from the answers of adapted models, or read off the texts."""

import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from seal_jax.settings import Reward, SettingsError

if TYPE_CHECKING:  # it imports the model, which reports on rewards do not need
    from seal_jax.loop.writing import Edit

Record = dict[str, Any]


def score(records: Sequence[Record], reward: Reward) -> float:
    """The reward of one self-edit: the mean over those of its replicates that gave a result.

    Answers that could not be graded are left out of the accuracy.

    Args:
      records: of its trials; see `trials.try_group`.
      reward: of a kind that needs the inner loop.

    Returns:
      The reward; NaN where no replicate has one.
    """
    values = [value(record["answers"], reward) for record in records]
    known = [v for v in values if v is not None]
    return float(np.mean(known)) if known else float("nan")


def value(answers: Sequence[Record], reward: Reward) -> float | None:
    """The reward that the answers of one adapted model give; None without answers or verdicts.

    Args:
      answers: a record a question; see `answering.ask`.
      reward: of a kind that needs the inner loop. A function that it names is given a copy of them,
        and never no answers.

    Raises:
      SettingsError: a function gave neither a finite number nor None.

    >>> answers = [
    ...     {"correct": True, "gold_log_likelihood": -1.0},
    ...     {"correct": None, "gold_log_likelihood": -3.0},
    ... ]
    >>> value(answers, Reward(kind="accuracy")), value(answers, Reward(kind="mix", mix=0.1))
    (1.0, 0.8)
    """
    if answers and (function := reward.function()):
        found = function([dict(answer) for answer in answers])
        return None if found is None else _finite(found, reward.kind)
    graded = [float(answer["correct"]) for answer in answers if answer["correct"] is not None]
    likelihoods = [answer["gold_log_likelihood"] for answer in answers]
    if not answers or (reward.kind != "gold_log_likelihood" and not graded):
        return None
    if reward.kind == "accuracy":
        return float(np.mean(graded))
    if None in likelihoods:
        return None
    if reward.kind == "gold_log_likelihood":
        return float(np.mean(likelihoods))
    return float(np.mean(graded) + reward.mix * np.mean(likelihoods))


def _finite(found: Any, kind: str) -> float:
    """What a reward function gave, as a number."""
    try:
        number = float(found)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise SettingsError(
            f"reward.kind={kind} gave {found!r}: expected a finite number, or None for no reward."
        )
    return number


def forgetting(records: Sequence[Record], before: Sequence[Record]) -> float:
    """By how much one self-edit makes gold answers about another context less likely.

    Args:
      records: of its trials, with the other context's gold log-likelihoods in "mismatched".
      before: the unadapted model's answers to the same questions.

    Returns:
      The mean over replicates and questions of the nats lost, of which gains count as none; NaN
      where nothing is known.

    >>> before = [{"gold_log_likelihood": -2.0}, {"gold_log_likelihood": -6.0}]
    >>> forgetting([{"mismatched": [-3.0, -4.0]}], before)
    0.5
    """
    lost = [
        max(0.0, answer["gold_log_likelihood"] - after)
        for record in records
        for answer, after in zip(before, record.get("mismatched") or (), strict=False)
        if after is not None and answer["gold_log_likelihood"] is not None
    ]
    return float(np.mean(lost)) if lost else float("nan")


def pattern_score(pattern: str, text: str) -> float:
    """The share of a text's characters that matches of a regular expression cover.

    >>> pattern_score("[0-9]+", "in 1874")
    0.5714285714285714
    """
    covered = sum(len(match.group()) for match in re.finditer(pattern, text))
    return covered / len(text) if text else 0.0


def text_scores(reward: Reward, edits: Sequence[Sequence["Edit"]]) -> list[list[float]]:
    """Rewards "pattern" and "length" of self-edits [C][M]."""
    if reward.kind == "length":
        return [[float(len(edit.text)) for edit in of] for of in edits]
    return [[pattern_score(reward.pattern, edit.text) for edit in of] for of in edits]
