"""Sampling self-edits from the policy, and a round of the outer loop's E-step."""

from benchmarks import contest
from benchmarks.bench import NO_TORCH, Bench
from seal_jax.doctor import models
from seal_jax.doctor.worker import Worker

GROUP = "self-edit sampling"
_SAMPLES = 5


def measure(bench: Bench) -> None:
    """Five samples of each of four contexts, of fixed length."""
    prompts = list(bench.problems.edit_prompts[:4])
    settings = {"samples": _SAMPLES, "new_tokens": 8 if bench.tiny else 64}
    contestants = {"ours": lambda: bench.ours.call("sample", prompts, **settings)}
    bench.ours.call("sample", prompts, **settings)
    if bench.peft:
        contestants["generate"] = lambda: bench.peft.call("sample", prompts, **settings)
    repeats = max(1, bench.repeats - 2)
    found = contest.alternate(contestants, repeats)
    rows = f"{len(prompts)} contexts x {_SAMPLES} samples of {settings['new_tokens']} tokens"
    for key in ("ours", "generate"):
        if key not in found:
            bench.report.row(GROUP, f"{key}, {rows}", None, "", note=NO_TORCH)
            continue
        seconds = contest.times(found[key])
        bench.report.row(
            GROUP,
            f"{key}, {rows}",
            found[key][0]["new_tokens"] / seconds.median,
            "tok/s",
            seconds=seconds,
            details={"peak_bytes": found[key][0]["peak_bytes"]},
        )
    if "generate" in found:
        ratio = contest.speedup(contest.times(found["generate"]), contest.times(found["ours"]))
        bench.report.row(GROUP, "ours over generate", ratio, "x")


def measure_round(bench: Bench) -> None:
    """Sample, adapt, answer and grade, through the programs that a run uses."""
    name = "ours: sample, adapt, answer, grade"
    if bench.spec.model != models.SMOLLM2:
        bench.report.row("round", name, None, "", note="run for SmolLM2 only")
        return
    worker = Worker("benchmarks.round", bench.spec)
    worker.call("run")
    records = [worker.call("run")]
    worker.close()
    seconds = contest.times(records)
    record = records[0]
    bench.report.row(
        "round",
        name,
        3600 * record["self_edits"] / seconds.median,
        "self-edits/h",
        seconds=seconds,
        note=record["what"],
        details={key: record[key] for key in ("compiles", "peak_bytes", "questions")},
    )
    bench.report.check(
        "round",
        "no compilation in the second round",
        record["compiles"] == 0,
        compiles=record["compiles"],
    )
