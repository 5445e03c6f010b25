"""Measures this project beside PyTorch, PEFT and transformers on the machine at hand.

    python -m benchmarks.run                 # SmolLM2-135M, 10 minutes on 2 CPU cores
    python -m benchmarks.run --tiny          # a tiny model: checks results, not times
    python -m benchmarks.run --only=inner,decode --repeats=5

Prints a table and writes every row and check as a JSON line. The exit status is 1 if a check fails:
equal losses, equal greedy tokens, and nothing compiled after the first group. What the rows mean
stands in docs/performance.md.
"""

import argparse
import importlib.util
import os
import sys
import time
from collections.abc import Sequence

from benchmarks import problems
from benchmarks.bench import NO_TORCH, Bench
from benchmarks.report import Report
from benchmarks.rows import decode, evaluation, growth, inner, sampling
from seal_jax.doctor import machine, models
from seal_jax.doctor.worker import Worker

_ROWS = {
    "inner": inner.measure,
    "growth": growth.measure,
    "decode": decode.measure,
    "evaluation": evaluation.measure,
    "sampling": sampling.measure,
    "round": sampling.measure_round,
}
_UNMEASURED = (
    ("decode", "vLLM with many LoRA adapters", "not run"),
    ("inner update", "SkyRL-tx", "not run"),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark; returns the exit status."""
    flags = _parse(argv)
    start = time.perf_counter()
    # Both sides may share a GPU: neither takes all of its memory at the start.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    os.environ.setdefault("TQDM_DISABLE", "1")  # no progress bars between the rows
    bench = _open(flags)
    try:
        for name in flags.only:
            began = time.perf_counter()
            _ROWS[name](bench)
            bench.report.took(name, time.perf_counter() - began)
    finally:
        bench.ours.close()
        if bench.peft:
            bench.peft.close()
    report = bench.report
    for group, name, note in _UNMEASURED:
        report.row(group, name, None, "", note=note)
    if bench.on_cpu:
        for name in ("Qwen2.5-7B shape, paper's settings", "SmolLM2-135M and 1B shapes"):
            report.row("self-edit evaluation", f"GPU, {name}", None, "", note="no GPU here")
    report.row(
        "self-edit evaluation",
        "the paper, Qwen2.5-7B",
        None,
        "",
        note="it says 30-45 s each, which include adapter loading and serial API grading",
    )
    failed = [check.name for check in report.checks if not check.passed]
    print(f"\n{report.table()}\n\n{time.perf_counter() - start:.0f} s in all; {flags.out}")
    return 1 if failed else 0


def _open(flags) -> Bench:
    """The workers and the problems."""
    spec = models.Spec(
        model=models.TINY if flags.tiny else flags.model,
        dtype=flags.dtype,
        remat=flags.remat,
        **(dict(rank=4, alpha=8.0, learning_rate=1e-2) if flags.tiny else {}),
    )
    report = Report(flags.out)
    work = problems.load(tiny=flags.tiny)
    ours = Worker("benchmarks.ours", spec)
    facts = ours.call("facts", small=flags.tiny)
    installed = all(importlib.util.find_spec(name) for name in ("torch", "peft"))
    peft = Worker("seal_jax.doctor.torch_side", spec) if installed else None
    report.facts(
        model=spec.model,
        dtype=spec.dtype,
        remat=spec.remat,
        rank=spec.rank,
        problems=work.source,
        cores=machine.cores(),
        ours=facts,
        torch=peft.call("facts") if peft else NO_TORCH,
    )
    print(f"{spec.model}, {spec.dtype}, {machine.cores()} CPU cores, {facts['device']}")
    print(f"{work.source}")
    report.row("machine", "XLA, large GEMM", facts["gemm_flops"] / 1e9, "GFLOP/s")
    report.row("machine", "XLA, copy", facts["copy_bytes"] / 1e9, "GB/s")
    return Bench(
        spec=spec,
        problems=work,
        ours=ours,
        peft=peft,
        facts=facts,
        report=report,
        repeats=flags.repeats,
        candidates=flags.candidates,
        tiny=flags.tiny,
    )


def _parse(argv):
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__)
    parser.add_argument("--tiny", action="store_true", help="a tiny model; checks results only")
    parser.add_argument("--model", default=models.SMOLLM2, choices=models.NAMES)
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--remat", default="dots", choices=("none", "dots", "full"))
    parser.add_argument("--only", type=_names, default=tuple(_ROWS), help=f"of {','.join(_ROWS)}")
    parser.add_argument("--repeats", type=_positive, default=3)
    parser.add_argument(
        "--candidates", type=_numbers, default=(1, 4, 8, 16), help="K of our inner update"
    )
    parser.add_argument("--out", default="bench.jsonl", help="the file of JSON lines")
    return parser.parse_args(argv)


def _names(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    unknown = set(names) - set(_ROWS)
    if unknown:
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: expected {', '.join(_ROWS)}.")
    return names


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(_positive(part) for part in text.split(","))


def _positive(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number from 1.")
    return number


if __name__ == "__main__":
    sys.exit(main())
