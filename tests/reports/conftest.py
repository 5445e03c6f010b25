"""Finished runs as the real writers leave them."""

import copy

import pytest

from seal_jax.loop import per_context
from seal_jax.runs import ledger, run_dir
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
    return [
        [
            [
                {
                    "question": f"c{c}-q{q}",
                    "text": "",
                    "correct": ll > -1 if correct is None else correct[c][q],
                    "empty": ll < -9,
                    "gold_log_likelihood": ll,
                }
                for q, ll in enumerate(of)
            ]
        ]
        for c, of in enumerate(lls)
    ]


@pytest.fixture
def write_run(tmp_path):
    """(name, {arm: answers}, **changes) -> the path of a finished run, by the real writers."""

    def write(name, answers_of, contexts=None, config=(), batches=1, **results):
        contexts = contexts or some_contexts()
        resolved = copy.deepcopy(CONFIG) | dict(config)
        with run_dir.open_run(tmp_path / name, resolved) as directory:
            with ledger.Ledger(directory.ledger_path) as records:
                records.append("selection", "round 1", {"real_tokens": 1000})
                for number in range(batches):
                    batch = {"trials": [{}, {}, {}], "real_tokens": 50, "computed_tokens": 80}
                    records.append("batch", f"round 1/{number}", batch)
            timing = {"seconds": {"round 1": 3.0, "total": 12.5}, "resumed": False}
            run_dir.write_json(directory.timing_path, timing)
            found = {
                "arms": {name: {} for name in answers_of},
                "contexts": per_context.per_context(contexts, answers_of),
                "versions": {"jax": "0.10.2"},
            }
            run_dir.write_json(directory.results_path, found | results)
        return str(tmp_path / name)

    return write
