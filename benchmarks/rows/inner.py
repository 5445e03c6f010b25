"""The inner update: K candidates in one program against adapters trained one after another."""

from benchmarks import contest
from benchmarks.bench import NO_TORCH, Bench
from seal_jax.core import batching
from seal_jax.doctor import machine
from seal_jax.doctor.worker import Worker

GROUP = "inner update"
TOLERANCE = 2e-3  # nats a token, between final losses
_PADDED_STEPS = 2
_PRODUCT_TOKENS = 256


def measure(bench: Bench) -> None:
    """All rows of the inner update."""
    _density(bench)
    group = bench.problems.group(bench.size)
    buckets = bench.problems.buckets
    first = bench.ours.call("compile", group, buckets)
    bench.report.row(
        GROUP,
        "ours, compilation",
        first["compile_seconds"],
        "s",
        note=f"{first['compiles']} programs, once",
        details={"compiles": first["compiles"], "first_seconds": first["seconds"]},
    )
    _compiles(bench)
    ours = _contest(bench, group)
    _sizes(bench, ours)


def _density(bench: Bench) -> None:
    """Real over computed tokens of all self-edits, in groups of K; nothing is trained."""
    problems, size = bench.problems, bench.size
    plan = batching.groups_of_like_cost(problems.costs(), size=size)
    groups = [[problems.edits[index] for index in indices] for indices in plan]
    counts = bench.ours.call("density", groups, problems.buckets, size=size)
    for form in ("packed", "padded"):
        found = counts[form]
        bench.report.row(
            "real / computed tokens",
            f"{form}, K={size}",
            found["real"] / found["computed"],
            "",
            target=0.75 if form == "packed" and not bench.tiny else None,
            note=f"{len(problems.edits)} self-edits",
            details=found,
        )


def _compiles(bench: Bench) -> None:
    """Another group, of other lengths, must not compile anything."""
    other = bench.problems.group(bench.size, 1 if bench.tiny else -1)
    record = bench.ours.call("update", other, bench.problems.buckets, size=bench.size)
    found = {key: record[key] for key in ("compiles", "real", "computed")}
    bench.report.check(GROUP, "no compilation after warm-up", record["compiles"] == 0, **found)


def _contest(bench: Bench, group) -> list[dict]:
    """Ours against PEFT and stacked adapters, in turns; returns our records."""
    size, buckets = len(group), bench.problems.buckets
    steps = bench.ours.call("order", group, buckets, 1)["steps"]
    contestants = {
        "gemm": lambda: bench.ours.call("gemm", small=bench.tiny),
        "ours": lambda: bench.ours.call("update", group, buckets),
        "products": lambda: bench.ours.call("products_only", _PRODUCT_TOKENS),
    }
    bench.ours.call("products_only", _PRODUCT_TOKENS)  # compiles
    stacked = None
    if bench.peft:
        stacked = Worker("benchmarks.stacked", bench.spec)
        bench.peft.call("update", steps, candidates=1)  # warm-up
        stacked.call("update", steps[:2])
        contestants["peft"] = lambda: bench.peft.call("update", steps)
    found = contest.alternate(contestants, bench.repeats)
    if stacked:  # far slower than both, so that fewer repeats tell enough
        slow = {"stacked": lambda: stacked.call("update", steps)}
        found |= contest.alternate(slow, max(1, bench.repeats - 2))
        stacked.close()
    # The machine's speed drifts: its rate is measured between the contestants, like they are.
    gemm = contest.times(found["gemm"], "flops")
    bench.facts["gemm_flops"] = gemm.median
    bench.report.row(
        GROUP,
        "XLA, large GEMM, measured in turn",
        gemm.median / 1e9,
        "GFLOP/s",
        note=f"{gemm.low / 1e9:.0f}-{gemm.high / 1e9:.0f}",
    )
    real = found["ours"][0]["real"]
    ours = contest.times(found["ours"])
    _rates(
        bench,
        f"the model's products alone, {_PRODUCT_TOKENS} tokens",
        found["products"],
        _PRODUCT_TOKENS,
    )
    names = {
        "ours": f"ours, K={size}",
        "peft": "PEFT one after another, own lengths",
        "stacked": f"PyTorch, {size} stacked adapters",
    }
    for key, name in names.items():
        if key not in found:
            bench.report.row(GROUP, name, None, "", note=NO_TORCH)
            continue
        _rates(bench, name, found[key], real, bench.target(0.45) if key == "ours" else None)
    for key, target in (("peft", bench.target(1.5)), ("stacked", None)):
        if key in found:
            bench.report.row(
                GROUP,
                f"ours over {names[key]}",
                contest.speedup(contest.times(found[key]), ours),
                "x",
                target=target,
            )
            _losses(bench, names[key], found["ours"][0]["losses"], found[key][0]["losses"])
    _padded(bench, steps, ours)
    return found["ours"]


def _rates(bench: Bench, name: str, records, real: int, target: float | None = None) -> None:
    """Tokens a second of a contestant, and what share of the machine's rate that is."""
    seconds = contest.times(records)
    flops = machine.useful_flops(bench.facts["matmul_parameters"], real) / seconds.median
    share = flops / bench.facts["gemm_flops"]
    details = {
        "real_tokens": real,
        "useful_flops": flops,
        "share_of_gemm": share,
        "peak_bytes": max(record["peak_bytes"] for record in records),
    }
    note = f"peak memory {details['peak_bytes'] / 1e9:.2f} GB"
    bench.report.row(
        GROUP, name, real / seconds.median, "tok/s", seconds=seconds, note=note, details=details
    )
    bench.report.row(
        GROUP,
        f"{name}: useful FLOP/s over large GEMM",
        share,
        "",
        target=target,
        note=f"{flops:.3g} of {bench.facts['gemm_flops']:.3g} FLOP/s",
    )


def _losses(bench: Bench, name: str, ours, theirs) -> None:
    """Nobody is fast by doing less: final losses agree."""
    if not bench.spec.comparable:
        return
    gaps = [abs(a - b) for a, b in zip(ours, theirs, strict=True)]
    bench.report.check(
        GROUP,
        f"final losses equal those of {name}",
        max(gaps) <= TOLERANCE,
        largest_difference=max(gaps),
        ours=ours,
        theirs=theirs,
    )


def _padded(bench: Bench, steps, ours: contest.Times) -> None:
    """PEFT with every sequence padded to a fixed length, from a few steps."""
    problems = bench.problems
    name = f"PEFT one after another, padded to {problems.padded_length}"
    if not bench.peft:
        bench.report.row(GROUP, name, None, "", note=NO_TORCH)
        return
    record = bench.peft.call(
        "padded",
        steps,
        length=problems.padded_length,
        stop_id=problems.stop_ids[0],
        limit=_PADDED_STEPS,
    )
    count = sum(bool(sequence) for step in steps for sequence in step)
    total = record["seconds"] * count
    note = f"extrapolated from {record['steps']} steps of {record['seconds']:.3g} s to {count}"
    bench.report.row(
        GROUP,
        name,
        sum(len(sequence) for step in steps for sequence in step) / total,
        "tok/s",
        seconds=contest.summary([total]),
        note=f"{note}; peak memory {record['peak_bytes'] / 1e9:.2f} GB",
        details={"extrapolated": True, "peak_bytes": record["peak_bytes"]},
    )
    bench.report.row(
        GROUP,
        f"ours over {name}",
        contest.speedup(contest.summary([total]), ours),
        "x",
        target=bench.target(40),
        note="extrapolated",
        details={"extrapolated": True},
    )


def _sizes(bench: Bench, records_at_size: list[dict]) -> None:
    """Time against K, per real token: groups of other sizes hold other candidates."""
    costs = {bench.size: _cost(records_at_size)}
    updates = {}
    for size in bench.candidates:
        if size == bench.size:
            continue
        group = bench.problems.group(bench.size)[:size]
        offset = 1
        while len(group) < size:  # the neighbouring groups' candidates
            group = [*group, *bench.problems.group(bench.size, offset)][:size]
            offset += 1

        def update(group=group):
            return bench.ours.call("update", group, bench.problems.buckets, fitted=True)

        bench.ours.call("compile", group, bench.problems.buckets, fitted=True)
        updates[size] = update
    for size, records in contest.alternate(updates, max(1, bench.repeats - 2)).items():
        costs[size] = _cost(records)
        _rates(bench, f"ours, K={size}", records, records[0]["real"])
    if len(costs) > 1:
        ordered = [costs[size] for size in sorted(costs)]
        rise = max(ordered) / ordered[0] - 1
        bench.report.row(
            "growth",
            f"cost of a real token, K={min(costs)} to {max(costs)}: largest rise",
            100 * rise,
            "%",
            note="target: at most 5 %" if not bench.tiny else "",
            details={f"K={size}": cost for size, cost in sorted(costs.items())},
        )


def _cost(records) -> float:
    """Seconds a real token."""
    return contest.times(records).median / records[0]["real"]
