"""How the inner update's time grows with the number of sequences and their length."""

import numpy as np

from benchmarks import contest
from benchmarks.bench import Bench

GROUP = "growth"


def measure(bench: Bench) -> None:
    """Synthetic groups: all sequences alike."""
    size = 4 if 4 in bench.candidates else bench.size
    base = 8 if bench.tiny else 24
    shapes = [(4, base), (12, base), (4, 3 * base)]
    rng = np.random.default_rng(0)
    for count, length in shapes:
        group = [
            [tuple(int(t) for t in rng.integers(3, 300, length)) for _ in range(count)]
            for _ in range(size)
        ]

        def update(group=group):
            return bench.ours.call("update", group, bench.problems.buckets, fitted=True)

        bench.ours.call("compile", group, bench.problems.buckets, fitted=True)
        records = [update()]
        seconds = contest.times(records)
        bench.report.row(
            GROUP,
            f"ours, K={size}: {count} sequences of {length} tokens",
            records[0]["real"] / seconds.median,
            "tok/s",
            seconds=seconds,
        )
