"""A cheap reward for self-edits: does one step on all of an edit's sequences rank like the loop?

    python -m benchmarks.screen --run=runs/demo --rates=1e-3,3e-3,1e-2 --out=choose.json
    python -m benchmarks.screen --seed=1 --contexts=12 --rates=3e-3 --out=fresh.json

The base model of the demo writes self-edits of training passages. Each is tried by the full inner
loop, from several initial deltas, and by the screen: one step of the same optimizer on all of its
sequences together, from the first of these. Both are scored by the gold answers' log-likelihood.
Step sizes are chosen on some self-edits and confirmed on others, of another seed. With --run they
are those of a run's first round, and so are the rewards.

Printed are, of all pairs of self-edits about one passage, the share that both put in one order
(ties count half), and the correlation within passages, with 95 % intervals over passages; the same
of the full loop from one initial delta with itself from another, which no screen can be expected to
exceed; and seconds.
"""

import argparse
import dataclasses
import itertools
import json
import pathlib
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from seal_jax.loop import answering, inner_loop, policies
from seal_jax.loop import contexts as contexts_lib
from seal_jax.loop import sample as sampling
from seal_jax.loop.session import EncodedLesson, Session, open_session
from seal_jax.loop.stage import Stage, of_record
from seal_jax.runs.ledger import Ledger
from seal_jax.settings import Settings, config_dict, config_files
from seal_jax.stats import intervals, reliability
from seal_jax.tasks.protocol import Context

_BUCKETS = (24, 32, 64, 160)  # of a step of the screen, which has room for all sequences of K edits
_SPREAD = 6.0


def screening(settings: Settings, rate: float) -> Settings:
    """The settings whose inner loop is one step on everything at once."""
    inner = dataclasses.replace(
        settings.inner,
        batch_size=settings.inner.max_sequences,
        epochs=1,
        learning_rate=rate,
        decay="constant",
        buckets=_BUCKETS,
        spread=_SPREAD,
    )
    return dataclasses.replace(settings, inner=inner)


def scores(
    session: Session, contexts: Sequence[Context], edits: Sequence[Sequence[str]], delta: int
) -> tuple[np.ndarray, float]:
    """Mean gold log-likelihood [C, M] after each self-edit, NaN for none; and seconds.

    Args:
      delta: number of the initial delta, which all self-edits of a passage share.
    """
    width, count = session.width(contexts), session.settings.inner.candidates
    found_CxM = np.full(np.shape(edits), np.nan)
    tried = []
    for place in np.ndindex(found_CxM.shape):
        context = contexts[place[0]]
        lesson = session.lesson(session.task.read(context, edits[place[0]][place[1]], 0))
        if isinstance(lesson, EncodedLesson):
            tried.append((place, context, lesson))
    start = 0.0
    for first in range(-count, len(tried), count):  # the first group twice: it compiles
        start = time.perf_counter() if first == 0 else start
        part = tried[max(first, 0) : max(first, 0) + count]
        trained = inner_loop.train(
            session,
            session.base,
            [lesson for *_, lesson in part],
            [("init", "screen", context.id, delta) for _, context, _ in part],
            order=("screen", delta),
            count=count,
            bounds=session.bounds,
        )
        exams = [session.exam(context, "adapted") for _, context, _ in part]
        known = answering.score(
            session, session.base, trained.deltas_K, exams, count=count, width=width
        )
        for (place, *_), of in zip(part, known, strict=True):
            found_CxM[place] = intervals.mean(of.values()) if None not in of.values() else np.nan
    return found_CxM, time.perf_counter() - start


def of_run(workdir: str, contexts: Sequence[str]) -> tuple[list[list[str]], list[np.ndarray]]:
    """Texts [C][M] of a run's first round, and one array [C, M] of their rewards."""
    stage = Stage(kind="round", round=1)
    with Ledger(f"{workdir}/ledger", read_only=True) as records:
        found = [s.record for s in records.segments("edits") if of_record(s.record) == stage]
        selected = records.find("selection", stage.name)
    texts: dict[str, list[str]] = {context: [] for context in contexts}
    for edit in (edit for record in found for edit in record["edits"]):
        texts[edit["context"]].append(edit["text"])
    return [*texts.values()], [np.array(selected["rewards"], float)]


def in_order(a_M: np.ndarray, b_M: np.ndarray) -> tuple[float, int]:
    """How many pairs of a passage's self-edits two scores put in one order, and of how many.

    >>> in_order(np.array([1.0, 2.0, 3.0, np.nan]), np.array([1.0, 3.0, 3.0, 0.0]))
    (2.5, 3)
    """
    both = np.flatnonzero(~np.isnan(a_M) & ~np.isnan(b_M))
    pairs = list(itertools.combinations(both, 2))
    signs = [np.sign(a_M[i] - a_M[j]) * np.sign(b_M[i] - b_M[j]) for i, j in pairs]
    return float(sum((1 + sign) / 2 for sign in signs)), len(pairs)


def agreement(a_CxM: np.ndarray, b_CxM: np.ndarray) -> dict[str, Any]:
    """The share of pairs in one order and the correlation within passages, with intervals."""
    sums_Cx2 = np.array([in_order(*of) for of in zip(a_CxM, b_CxM, strict=True)])

    def share(chosen):
        agreed, pairs = np.moveaxis(sums_Cx2[chosen].sum(axis=1), -1, 0)
        return agreed / np.where(pairs > 0, pairs, np.nan)

    found = intervals.bootstrap(share, len(sums_Cx2), seed=0)
    known = [~np.isnan(a) & ~np.isnan(b) for a, b in zip(a_CxM, b_CxM, strict=True)]
    cells = [
        [of[keep, None, None] for of, keep in zip(s, known, strict=True)] for s in (a_CxM, b_CxM)
    ]
    pearson = reliability.agreement(*cells).pearson
    return {
        "pairs": int(sums_Cx2[:, 1].sum()),
        "agreed": sums_Cx2[:, 0].sum(),
        "share": found.value,
        "interval": found.ends,
        "correlation": pearson.value,
        "correlation_interval": pearson.ends,
    }


def shown(name: str, of: dict[str, Any], seconds: float | None = None) -> str:
    """One line of the table."""
    low, high = of["interval"] or (np.nan, np.nan)
    left, right = of["correlation_interval"] or (np.nan, np.nan)
    text = f"{name:<34}{of['agreed']:g} of {of['pairs']} pairs, {of['share']:.2f} "
    text += f"[{low:.2f}, {high:.2f}]; r {of['correlation']:.2f} [{left:.2f}, {right:.2f}]"
    return text + ("" if seconds is None else f"; {seconds:.1f} s")


def main(argv: Sequence[str] | None = None) -> int:
    """Prints a line for each comparison, and writes texts, scores and comparisons."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.screen")
    parser.add_argument("--run", default="", help="a run, rewarded by gold log-likelihood")
    parser.add_argument("--config", default="knowledge:demo", help="a config of knowledge")
    parser.add_argument("--seed", type=int, default=0, help="chooses passages, texts and deltas")
    parser.add_argument("--contexts", type=int, default=6, help="training passages")
    parser.add_argument("--samples", type=int, default=4, help="self-edits of each")
    parser.add_argument("--deltas", type=int, default=2, help="initial deltas of the full loop")
    parser.add_argument("--rates", required=True, help="step sizes of the screen, with commas")
    parser.add_argument("--out", required=True, help="the file of JSON")
    flags = parser.parse_args(argv)
    changes = {
        "seed": flags.seed,
        "restem.contexts_per_round": flags.contexts,
        "restem.rounds": 1,
        "edits.samples": flags.samples,
    }
    if flags.run:
        settings = policies.run_settings(flags.run)
    else:
        settings = config_dict.from_config(config_files.made(flags.config, changes))
    session = open_session(settings)
    training = contexts_lib.available(session, "train", ("adapted", "unadapted"))
    contexts = contexts_lib.training_rounds(session, training)[0]
    found: dict[str, Any] = {"flags": vars(flags), "contexts": [c.id for c in contexts]}
    if flags.run:
        edits, full, seconds = *of_run(flags.run, found["contexts"]), [None]
    else:
        draw = f"screen {flags.seed}"
        edits = sampling.self_edits(session, contexts, draw=draw, samples=flags.samples)
        deltas = range(flags.deltas)
        full, seconds = zip(*(scores(session, contexts, edits, d) for d in deltas), strict=True)
    found |= {"edits": edits, "full": [of.tolist() for of in full], "full_seconds": seconds}
    if len(full) > 1:
        found["full_again"] = agreement(full[0], full[1])
        print(
            shown("full loop, another initial delta", found["full_again"], seconds[0]), flush=True
        )
    found["screens"] = []
    for rate in map(float, flags.rates.split(",")):
        own, took = scores(session.changed(screening(settings, rate)), contexts, edits, 0)
        row = {"rate": rate, "scores": own.tolist(), "seconds": took}
        row |= agreement(own, np.mean(full, axis=0))
        found["screens"].append(row)
        print(shown(f"screen, step size {rate:g}", row, took), flush=True)
    pathlib.Path(flags.out).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
