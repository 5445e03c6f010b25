"""Stored texts as arms, on the tiny model: as an evaluation has them, tuned, and at equal compute."""

import json

import pytest

from seal_jax import api, cli
from seal_jax.loop import bench, evaluate, tuning
from seal_jax.runs import ledger
from seal_jax.runs.run_dir import RunDirError
from seal_jax.settings import Evaluation, Tuning

SHORT, LONG = "It has a tower.", "It has mills.\nThe tower is red.\nIt lies by a river.\nIt is old."


@pytest.fixture(scope="module")
def fixed(tiny_settings, change):
    """The tiny run's settings for stored texts, all learned with the same epochs."""
    return change(tiny_settings, {"data.eval_path": "", "evaluation.contexts": 0})


def _rows(count, sources, questions=2):
    return [
        {
            "passage": f"Place {i} lies by a river. It has {i + 3} mills and a red tower.",
            "title": f"place {i}",
            "questions": [
                {"question": f"What number {q} has place {i}?", "answer": f"tower {q}"}
                for q in range(questions)
            ],
            "source": source,
            "edit": text,
        }
        for i in range(count)
        for source, text in sources.items()
    ]  # fmt: skip


def _written(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.fixture(scope="module")
def evaluated(tiny_settings, change, tmp_path_factory):
    """An evaluation of the model's own self-edits, two of each passage, and those as rows."""
    workdir = tmp_path_factory.mktemp("evaluated") / "run"
    arms = {"evaluation.arms": ("base", "passage", "edit_before"), "evaluation.edits": 2}
    results = evaluate.evaluate(change(tiny_settings, arms), str(workdir), quiet=True)
    with ledger.Ledger(workdir / "ledger", read_only=True) as records:
        [sampled] = [s.record for s in records.segments("samples")]
    return results, sampled


def test_probe(evaluated):
    results, sampled = evaluated
    print(json.dumps(sampled)[:3000])
    assert 0
