"""Finished runs as the real writers leave them."""

import copy

import pytest

from seal_jax.loop import arms, results
from seal_jax.loop.results import Outcome
from seal_jax.runs import ledger, run_dir
from seal_jax.settings import Settings
from seal_jax.stats.intervals import mean
from seal_jax.tasks.base import Task
from seal_jax.tasks.protocol import Context

CONFIG = {
    "seed": 0,
    "data": {"eval_path": "eval.json", "max_questions": 2},
    "inner": {"epochs": 3, "lora": {"rank": 32}},
}


def some_contexts(count=4, article_of=lambda c: f"article {c // 2}"):
    return [Context(id=f"c{c}", title=article_of(c), text="", questions=()) for c in range(count)]


def some_answers(lls, correct=None):
    """[C][1][Q] answer records from log-likelihoods [C][Q]; right where that is above -1."""

    def answer(c, q, ll):
        right = ll > -1 if correct is None else correct[c][q]
        return {
            "question": f"c{c}-q{q}",
            "text": "",
            "correct": right,
            "empty": ll < -9,
            "ungraded": "no judge" if right is None else None,
            "gold_log_likelihood": ll,
        }

    return [[[answer(c, q, ll) for q, ll in enumerate(of)]] for c, of in enumerate(lls)]


def outcome(task, name, answers):
    """An arm with marks of answers [C][E][Q]."""
    marks = [
        [{"answers": edit, "scores": {"accuracy": mean(a["correct"] for a in edit)}} for edit in of]
        for of in answers
    ]
    return Outcome(name, arms.table(task)[name], marks)


@pytest.fixture
def write_run(tmp_path):
    """(name, {arm: answers}, **changes) -> the path of a finished run, by the real writers.

    `outcomes` are given in the place of answers to runs of another `task`.
    """

    def write(
        name, answers_of=(), contexts=None, config=(), batches=1, task=None, outcomes=(), **changes
    ):
        task = task or Task(Settings())
        contexts = contexts or some_contexts()
        outcomes = outcomes or [outcome(task, arm, of) for arm, of in answers_of.items()]
        resolved = copy.deepcopy(CONFIG) | dict(config)
        with run_dir.open_run(tmp_path / name, resolved) as directory:
            with ledger.Ledger(directory.ledger_path) as records:
                records.append("selection", "round 1", {"real_tokens": 1000})
                for number in range(batches):
                    group = {"trials": [{}, {}, {}], "real_tokens": 50, "computed_tokens": 80}
                    records.append("trials", f"round 1/{number}", group)
            timing = {"seconds": {"round 1": 3.0, "total": 12.5}, "resumed": False}
            run_dir.write_json(directory.timing_path, timing)
            found = results.of(outcomes, task, contexts, seed=0, draws=100)
            found |= {"versions": {"jax": "0.10.2"}, "grader": "local-1"}
            run_dir.write_json(directory.results_path, found | changes)
        return str(tmp_path / name)

    return write
