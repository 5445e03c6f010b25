"""What the benchmark computes from measurements, by hand."""

import pytest

from benchmarks import contest
from benchmarks.report import Report
from benchmarks.rows import decode, inner
from seal_jax.core.model.config import ModelConfig
from seal_jax.doctor import machine, models
from seal_jax.doctor.worker import Worker, WorkerError


def _config(**changes):
    sizes = dict(
        family="llama",
        vocab_size=100,
        hidden_size=8,
        intermediate_size=12,
        num_layers=3,
        num_heads=4,
        num_kv_heads=2,
        head_dim=2,
    )
    return ModelConfig(**{**sizes, **changes})


def test_matmul_parameters():
    # Query and output: 8*8 each; key and value: 8*4 each; three of 8*12. Three layers; head 8*100.
    assert machine.matmul_parameters(_config()) == 3 * (128 + 64 + 288) + 800
    # A tied head multiplies too; looking up an untied embedding does not.
    assert machine.matmul_parameters(_config(tie_embeddings=True)) == 2240
    # Heads wider than the hidden size: query and output 8*16 each, key and value 8*8 each.
    assert machine.matmul_parameters(_config(head_dim=4)) == 3 * (256 + 128 + 288) + 800


def test_parameters_of_the_larger_shapes():
    """From the models' cards: 1.24 and 7.62 billion, embeddings of the latter counted twice."""
    small, large = (
        machine.matmul_parameters(ModelConfig.from_hf(models.hf_config(name)))
        for name in ("llama-3.2-1b", "qwen2.5-7b")
    )
    assert small == pytest.approx(1.236e9, rel=1e-3)
    assert large == pytest.approx(7.616e9 - 152064 * 3584, rel=1e-3)


def test_useful_flops_and_bytes():
    assert machine.useful_flops(2240, 10) == 4 * 2240 * 10
    assert machine.decode_bytes(2240, 2, 5) == 2240 * 2 * 5


def test_summary_and_speedup():
    times = contest.summary([4.0, 1.0, 10.0, 3.0])
    assert times == contest.Times(median=3.5, low=1.0, high=10.0, repeats=4)
    assert contest.speedup(times, contest.summary([0.5])) == 7.0
    with pytest.raises(ValueError, match="at least 1"):
        contest.summary([])


def test_contestants_take_turns():
    calls = []

    def measure(name):
        calls.append(name)
        return {"seconds": len(calls)}

    found = contest.alternate({"a": lambda: measure("a"), "b": lambda: measure("b")}, 3)
    assert calls == ["a", "b"] * 3
    assert contest.times(found["a"]).median == 3  # of 1, 3, 5
    assert contest.times(found["b"]).median == 4


class _Bench:
    spec = models.Spec(model="tiny")
    tiny = True

    def __init__(self, path):
        self.report = Report(path)


def test_unequal_results_fail(tmp_path):
    bench = _Bench(tmp_path / "out.jsonl")
    inner._losses(bench, "near", [1.0, 2.0], [1.0, 2.0019])
    inner._losses(bench, "far", [1.0, 2.0], [1.0, 2.0021])
    decode._agreement(bench, "same", [[1, 2]], [[1, 2]])
    decode._agreement(bench, "other", [[1, 2]], [[1, 3]])
    assert [check.passed for check in bench.report.checks] == [True, False, True, False]


def test_random_weights_are_not_compared(tmp_path):
    bench = _Bench(tmp_path / "out.jsonl")
    bench.spec = models.Spec(model="qwen2.5-7b")
    inner._losses(bench, "far", [1.0], [9.0])
    assert not bench.report.checks


def test_missed_and_unmeasured_targets(tmp_path):
    report = Report(tmp_path / "out.jsonl")
    report.row("inner", "fast", 1.6, "x", target=1.5)
    report.row("inner", "slow", 1.4, "x", target=1.5)
    report.row("inner", "elsewhere", None, "", target=1.5)
    fast, slow, elsewhere = report.table().splitlines()[1:]
    assert ">= 1.5 met" in fast
    assert ">= 1.5 MISSED" in slow
    assert "not measured" in elsewhere and "MISSED" not in elsewhere


def test_unsteady_times_are_marked(tmp_path):
    report = Report(tmp_path / "out.jsonl")
    report.row("inner", "steady", 1.0, "x", seconds=contest.summary([2.0, 2.9]), note="so")
    report.row("inner", "disturbed", 1.0, "x", seconds=contest.summary([2.0, 3.1]), note="so")
    steady, disturbed = report.table().splitlines()[1:]
    assert steady.endswith("so")
    assert disturbed.endswith("so; UNSTEADY: is the machine idle?")


def test_a_failing_contestant_says_why():
    with pytest.raises(WorkerError, match="no_such_module"):
        Worker("benchmarks.no_such_module", None)
