"""How near a plan comes to a run on this machine: memory and time of each program of a round.

    python -m benchmarks.plan_accuracy --config=knowledge:smoke --out=accuracy.json

runs one round of the config four times, with other seeds, on one CPU device in a fresh process,
with every program of it timed and its largest resident set taken (Linux), and then plans the same
settings for the lengths of the texts that the last run wrote. The first call of each shape
compiles, and is left out.
"""

import argparse
import collections
import dataclasses
import functools
import gc
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

GIB = 2**30
_RUNS = 4
_PROGRAMS = ("sampling", "inner update", "answers", "log-likelihoods", "M-step")


class Watch:
    """Wraps programs; `calls` has (seconds, bytes beyond the arguments, bytes of the arguments)
    of each call, by the program's name and by the shapes of its arguments."""

    def __init__(self):
        self.calls = collections.defaultdict(lambda: collections.defaultdict(list))

    def watched(self, name, program):
        import jax

        @functools.wraps(program)
        def call(*arguments, **named):
            leaves = [x for x in jax.tree.leaves((arguments, named)) if hasattr(x, "nbytes")]
            shapes = str([(x.shape, str(x.dtype)) for x in leaves])
            gc.collect()
            _forget_peak()
            before, start = _resident("VmRSS"), time.perf_counter()
            out = jax.block_until_ready(program(*arguments, **named))
            seconds = time.perf_counter() - start
            held = sum(x.nbytes for x in leaves)
            self.calls[name][shapes].append((seconds, _resident("VmHWM") - before, held))
            return out

        call.lower = program.lower
        return call

    def install(self) -> None:
        """Puts the watched programs in the place of a run's."""
        from seal_jax.core import evaluate, parallel, sampling

        sampling.generate_jit = self.watched("sampling", sampling.generate_jit)
        evaluate.answers_of_candidates = self.watched("answers", evaluate.answers_of_candidates)
        evaluate.gold_log_likelihoods_of_candidates = self.watched(
            "log-likelihoods", evaluate.gold_log_likelihoods_of_candidates
        )
        for name, factory in (("inner update", "inner_program"), ("M-step", "m_step")):
            made = getattr(parallel, factory)
            wrapped = functools.cache(lambda *args, n=name, f=made: self.watched(n, f(*args)))
            setattr(parallel, factory, wrapped)

    def found(self) -> dict[str, dict]:
        """Of each program, at the shapes whose arguments are largest and that were called twice."""
        of = {}
        for name, by_shape in self.calls.items():
            again = [calls[1:] for calls in by_shape.values() if len(calls) > 1]
            if not again:
                continue
            largest = max(again, key=lambda calls: (calls[0][2], len(calls)))
            of[name] = {
                "calls": len(largest),
                "seconds": statistics.median(call[0] for call in largest),
                "least_seconds": min(call[0] for call in largest),
                "most_seconds": max(call[0] for call in largest),
                "memory_bytes": max(call[1] + call[2] for call in largest),
            }
        return of


def _forget_peak() -> None:
    pathlib.Path("/proc/self/clear_refs").write_text("5")


def _resident(name: str) -> int:
    status = pathlib.Path("/proc/self/status").read_text()
    return 1024 * int(next(row.split()[1] for row in status.splitlines() if row.startswith(name)))


def measure(config: str, overrides: list[str]) -> dict:
    """Runs a round, plans it, and returns both; to be called in a fresh process."""
    from seal_jax.loop import session, train
    from seal_jax.planning import planner
    from seal_jax.reports import records

    settings = _settings(config, overrides)
    one = dataclasses.replace(settings.restem, rounds=1)
    evaluation = dataclasses.replace(settings.evaluation, arms=("base",), contexts=2)
    settings = dataclasses.replace(settings, restem=one, evaluation=evaluation)
    watch = Watch()
    watch.install()
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(_RUNS):  # the later runs' calls find everything compiled
            print(f"run {seed + 1} of {_RUNS}", file=sys.stderr, flush=True)
            given = dataclasses.replace(settings, seed=seed)
            train.train(given, f"{folder}/{seed}", quiet=True)
        last = pathlib.Path(folder, str(_RUNS - 1), "ledger")
        stages = records.read(last)
        written = sum(file.stat().st_size for file in last.iterdir())
    work = _lengths(session.open_session(settings), stages["round 1"].edits)
    print("planning", file=sys.stderr, flush=True)
    plan = planner.plan(settings, work=work, largest=False)
    return {
        "plan": plan,
        "measured": watch.found(),
        "ledger_bytes": written,
        "trials": sum(len(stage.trials) for stage in stages.values()),
    }


def _settings(config: str, overrides: list[str]):
    import seal_jax

    pairs = dict(entry.split("=", 1) for entry in overrides)
    return seal_jax.configure(config, {key: json.loads(value) for key, value in pairs.items()})


def _lengths(opened, edits):
    """The lengths of the run's own texts, as a plan wants them."""
    from seal_jax.loop import contexts
    from seal_jax.planning.workload import Workload
    from seal_jax.tasks.protocol import Lesson

    by_id = {context.id: context for context in contexts.available(opened, "train").contexts}
    said = [by_id[edit["context"]] for edit in edits]
    lines, passages, counts = [], [], []
    for context, edit in zip(said, edits, strict=True):
        lesson = opened.task.read(context, edit["text"], 0)
        sequences = opened.lesson(lesson).sequences if isinstance(lesson, Lesson) else ()
        passage, *rest = sorted(map(len, sequences), reverse=True) or [1]
        passages.append(passage)
        lines += rest
        counts.append(len(rest))
    exams = {id: opened.exam(context, "adapted") for id, context in by_id.items()}
    mean = lambda values: max(1, round(statistics.mean(values)))  # noqa: E731
    return Workload(
        longest_prompt=max(len(opened.edit_prompt(context)) for context in said),
        edit_tokens=mean([len(edit["tokens"]) for edit in edits]),
        longest_edit=max(len(edit["tokens"]) for edit in edits),
        lines=mean(counts),
        line_tokens=mean(lines or [1]),
        passage_tokens=mean(passages),
        question_tokens=max(len(prompt) for exam in exams.values() for prompt in exam.prompts),
        questions=mean([len(exams[context.id].prompts) for context in said]),
    )


def table(found: dict) -> str:
    """Plan against measurement, a row a program."""
    planned = {program["name"]: program for program in found["plan"]["programs"]}
    lines = [
        "| program | GiB, plan | measured | ratio "
        "| s a call, plan | measured (least, most) | ratio |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in _PROGRAMS:
        if name not in found["measured"]:
            lines.append(f"| {name} | was not called twice at one shape | | | | | |")
            continue
        plan, real = planned[name], found["measured"][name]
        memory = plan["memory_bytes"] - plan["merged_policy_bytes"]
        lines.append(
            f"| {name} | {memory / GIB:.2f} | {real['memory_bytes'] / GIB:.2f} "
            f"| {memory / real['memory_bytes']:.2f} | {plan['seconds']:.3f} "
            f"| {real['seconds']:.3f} ({real['least_seconds']:.3f}, {real['most_seconds']:.3f}; "
            f"{real['calls']} calls) | {plan['seconds'] / real['seconds']:.2f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measures in another process, whose allocator gives back what is freed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", default="knowledge:demo")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=JSON")
    parser.add_argument("--out", required=True, help="file for plan and measurements, as JSON")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.measure:
        found = measure(flags.config, flags.set)
        pathlib.Path(flags.out).write_text(json.dumps(found, indent=1))
        print(table(found))
        return
    # Large arrays are given back when freed; the products' small buffers are kept, as without this.
    settings = {
        "JAX_PLATFORMS": "cpu",
        "MALLOC_MMAP_THRESHOLD_": "4194304",
        "MALLOC_TRIM_THRESHOLD_": "4194304",
    }
    command = [sys.executable, "-m", "benchmarks.plan_accuracy", "--measure", *sys.argv[1:]]
    subprocess.run(command, check=True, env=os.environ | settings)


if __name__ == "__main__":
    main()
