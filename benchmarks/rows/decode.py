"""Greedy decoding of a fixed number of tokens, with and without adapters."""

from benchmarks import contest
from benchmarks.bench import NO_TORCH, Bench
from seal_jax.doctor import machine

GROUP = "decode"
_AGREEMENT = 0.9  # of rows' first tokens, where near-ties may fall either way


def measure(bench: Bench) -> None:
    """1, 16 and 64 rows of the base, and 16 rows of 4 adapters."""
    pool = [prompt for asked in bench.problems.questions for prompt, _ in asked]
    cases = [
        ("1 row", 1, 32, 0, None),
        ("16 rows", 16, 64, 0, bench.target(1.8)),
        ("64 rows", 64, 16, 0, None),
        ("4 adapters x 4 rows", 16, 64, 4, bench.target(5)),
    ]
    for name, rows, new_tokens, adapters, target in cases:
        prompts = [pool[row % len(pool)] for row in range(rows)]
        settings = {"new_tokens": 8 if bench.tiny else new_tokens, "adapters": adapters}
        _case(bench, f"{name}, {settings['new_tokens']} tokens", prompts, settings, target)


def _case(bench: Bench, name: str, prompts, settings, target: float | None) -> None:
    adapters = settings["adapters"]
    contestants = {"ours": lambda: bench.ours.call("decode", prompts, **settings)}
    bench.ours.call("decode", prompts, **settings)
    if bench.peft:
        bench.peft.call("decode", prompts[:4], **{**settings, "new_tokens": 2})
        contestants["generate"] = lambda: bench.peft.call("decode", prompts, **settings)
    fewer = 2 if len(prompts) >= 64 else 1 if adapters else 0  # the slow ones
    repeats = max(1, bench.repeats - fewer)
    found = contest.alternate(contestants, repeats)
    for key in ("ours", "generate"):
        if key not in found:
            bench.report.row(GROUP, f"{key}, {name}", None, "", note=NO_TORCH)
            continue
        seconds = contest.times(found[key])
        steps = settings["new_tokens"] * (adapters if adapters and key == "generate" else 1)
        read = machine.decode_bytes(bench.facts["matmul_parameters"], bench.spec.itemsize, steps)
        rate = read / seconds.median
        share = rate / bench.facts["copy_bytes"]
        bench.report.row(
            GROUP,
            f"{key}, {name}",
            found[key][0]["new_tokens"] / seconds.median,
            "tok/s",
            seconds=seconds,
            note=f"weights read at {share:.0%} of copy bandwidth",
            details={"share_of_copy": share, "peak_bytes": found[key][0]["peak_bytes"]},
        )
    if "generate" in found:
        ratio = contest.speedup(contest.times(found["generate"]), contest.times(found["ours"]))
        bench.report.row(GROUP, f"ours over generate, {name}", ratio, "x", target=target)
        _agreement(bench, name, found["ours"][0]["tokens"], found["generate"][0]["tokens"])


def _agreement(bench: Bench, name: str, ours, theirs) -> None:
    """Greedy tokens are the same: all of them for the tiny model, else most first ones."""
    if not bench.spec.comparable:
        return
    pairs = list(zip(ours, theirs, strict=True))
    first = sum(a[0] == b[0] for a, b in pairs) / len(pairs)
    whole = sum(a == b for a, b in pairs) / len(pairs)
    passed = whole == 1 if bench.tiny else first >= _AGREEMENT
    bench.report.check(
        GROUP, f"greedy tokens equal, {name}", passed, first_tokens=first, whole_rows=whole
    )
