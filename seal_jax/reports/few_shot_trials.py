"""Trials of few-shot learning in the form that `scores` takes: a test grid is a question."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

Record = dict[str, Any]


def with_answers(trials: Sequence[Record]) -> list[Record]:
    """The trials of a stage with "answers", one a test; without any where a trial has a reason.

    In the evaluation every self-edit is tried once, under a seed of its own. Such seeds are no
    replicates of one another, so a stage with one trial of each self-edit has one replicate.
    """
    once = len({(trial["context"], trial["index"]) for trial in trials}) == len(trials)
    return [
        {
            **trial,
            "replicate": 0 if once else trial["replicate"],
            "answers": [] if trial["reason"] is not None else answers(trial),
        }
        for trial in trials
    ]


def answers(record: Record) -> list[Record]:
    """One a test of a trial's, or of an unadapted model's, record.

    >>> answers({"solved_tests": [True], "gold_log_likelihoods": [-2.0], "graded": 1.0})
    [{'question': 'test 1', 'solved': True, 'gold_log_likelihood': -2.0, 'graded': 1.0}]
    """
    beliefs = zip(record["solved_tests"], record["gold_log_likelihoods"], strict=True)
    return [
        {
            "question": f"test {number}",
            "solved": solved,
            "gold_log_likelihood": belief,
            # Known of the task as a whole: the same in every test, so the mean over tests is right.
            "graded": record["graded"],
        }
        for number, (solved, belief) in enumerate(beliefs, start=1)
    ]


def _value(name: str) -> Callable[[Record], float]:
    return lambda answer: np.nan if answer[name] is None else float(answer[name])


VALUES: Mapping[str, Callable[[Record], float]] = {
    name: _value(name) for name in ("solved", "graded", "gold_log_likelihood")
}
