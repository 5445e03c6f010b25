"""The benchmark's tiny form: results, not times."""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import pytest

_ROOT = pathlib.Path(__file__).resolve().parents[2]
_WITH_TORCH = all(importlib.util.find_spec(name) for name in ("torch", "peft"))
needs_torch = pytest.mark.needs("torch", "peft")
_THEIRS = (
    "PEFT one after another, own lengths",
    "PyTorch, 4 stacked adapters",
    "PEFT one after another, padded to 64",
)


@pytest.fixture(scope="module")
def lines(tmp_path_factory):
    """The JSON lines of one tiny run."""
    out = tmp_path_factory.mktemp("bench") / "bench.jsonl"
    flags = os.environ["XLA_FLAGS"].split()
    flags = [flag for flag in flags if "device_count" not in flag]  # the machine's one CPU
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": " ".join(flags)}
    command = [sys.executable, "-m", "benchmarks.run", "--tiny", "--repeats=1"]
    done = subprocess.run(
        [*command, "--candidates=1,4", f"--out={out}"],
        cwd=_ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return [json.loads(line) for line in out.read_text().splitlines()]


def _rows(lines, group):
    found = {line["name"]: line for line in lines if line["kind"] == "row"}
    return {name: row for name, row in found.items() if row["group"] == group}


def _check(lines, name):
    (found,) = [line for line in lines if line["kind"] == "check" and line["name"] == name]
    return found


def test_nothing_compiles_after_the_first_group(lines):
    check = _check(lines, "no compilation after warm-up")
    assert check["passed"]
    assert check["found"]["compiles"] == 0
    first = _rows(lines, "inner update")["ours, compilation"]
    assert first["details"]["compiles"] >= 1  # so the counter counts


def test_packing_computes_on_fewer_tokens_than_padding(lines):
    rows = _rows(lines, "real / computed tokens")
    packed, padded = (rows[f"{form}, K=4"] for form in ("packed", "padded"))
    assert 0 < padded["value"] <= packed["value"] <= 1
    # 12 synthetic self-edits: the same tokens, whatever the form.
    assert packed["details"]["real"] == padded["details"]["real"] > 0


@needs_torch
@pytest.mark.parametrize(
    "name", ["PEFT one after another, own lengths", "PyTorch, 4 stacked adapters"]
)
def test_losses_are_equal(lines, name):
    check = _check(lines, f"final losses equal those of {name}")
    assert check["passed"]
    pairs = zip(check["found"]["ours"], check["found"]["theirs"], strict=True)
    assert max(abs(ours - theirs) for ours, theirs in pairs) <= 2e-3
    assert len(set(check["found"]["ours"])) == 4  # candidates of different data


@needs_torch
def test_greedy_tokens_are_equal(lines):
    for case in ("1 row", "16 rows", "64 rows", "4 adapters x 4 rows"):
        check = _check(lines, f"greedy tokens equal, {case}, 8 tokens")
        assert check["passed"]
        assert check["found"]["whole_rows"] == 1


@needs_torch
def test_trained_models_answer_and_believe_the_same(lines):
    found = _check(lines, "gold log-likelihoods equal PEFT's")["found"]
    assert found["largest_difference"] <= 1e-2
    assert found["same_answers"] == 1


@needs_torch
@pytest.mark.parametrize("name", _THEIRS)
def test_pytorch_and_peft_have_times(lines, name):
    assert _rows(lines, "inner update")[name]["value"] > 0


@pytest.mark.skipif(_WITH_TORCH, reason="PyTorch and PEFT are installed")
def test_who_is_not_installed_has_an_empty_row(lines):
    for name in _THEIRS:
        assert _rows(lines, "inner update")[name]["value"] is None


def test_every_contestant_has_a_row(lines):
    inner = _rows(lines, "inner update")
    for name in ("ours, K=1", "ours, K=4"):
        assert inner[name]["value"] > 0
    assert set(_THEIRS) < set(inner)
    assert inner["SkyRL-tx"]["value"] is None
    assert _rows(lines, "decode")["vLLM with many LoRA adapters"]["value"] is None
    evaluation = _rows(lines, "self-edit evaluation")
    one, ten = (
        evaluation[f"ours, K=4, {epochs}, 4 self-edits"] for epochs in ("1 epoch", "10 epochs")
    )
    assert ten["details"]["extrapolated"] and not one["details"]["extrapolated"]
    parts = one["details"]
    seconds = 10 * parts["update_seconds"] + parts["answer_seconds"] + parts["belief_seconds"]
    assert ten["value"] == pytest.approx(3600 * 4 / seconds)
    assert "serial API grading" in evaluation["the paper, Qwen2.5-7B"]["note"]
