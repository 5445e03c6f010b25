"""Sources of texts against each other: differences, and what can be detected."""

import itertools
from collections.abc import Sequence
from typing import Any

from seal_jax.loop import contexts as contexts_lib
from seal_jax.loop.results import shown
from seal_jax.loop.session import Session
from seal_jax.stats import intervals
from seal_jax.tasks.base import Task
from seal_jax.tasks.protocol import GOLD_LOG_LIKELIHOOD
from seal_jax.tasks.sources import Stored

Record = dict[str, Any]
_PASSAGE = "passage"  # the arm that repeats the passage: what every source is compared with


def stored(task: Task) -> list[str]:
    """The arms of a task that learn texts from a file."""
    return [name for name, source in task.sources.items() if isinstance(source, Stored)]


def of(found: Record, sources: Sequence[str], session: Session, *, seed: int, draws: int) -> Record:
    """The comparison of sources with each other and with the passage alone.

    Args:
      found: what `results.of` gives.
      sources: the arms that are compared.

    Returns:
      {"sources", the best by gold log-likelihood first; "equal", "development": contexts that the
      dose was tuned on; "comparisons": of each pair and metric {"names", "metric", "difference",
      "interval", "corrected", "detectable"}: the second minus the first, its 95 % interval alone,
      and so that those of all pairs hold at once}.
    """
    arms, settings = found["arms"], session.settings
    likely = {name: arms[name][GOLD_LOG_LIKELIHOOD.name] for name in sources if name in arms}
    ranked = sorted(likely, key=lambda name: (likely[name] is None, -(likely[name] or 0)))
    pairs = list(itertools.combinations(ranked, 2))
    pairs += [(name, _PASSAGE) for name in ranked if _PASSAGE in arms]
    comparisons = []
    for metric in found["metrics"]:
        values = {
            name: [one["arms"][name][metric["name"]] for one in found["contexts"].values()]
            for name in {name for pair in pairs for name in pair}
        }
        family = intervals.paired_bootstraps(
            [([values[a]], [values[b]]) for a, b in pairs], seed=seed, draws=draws
        )
        for pair, alone, together in zip(pairs, family.single, family.corrected, strict=True):
            comparisons.append(
                {
                    "names": list(pair),
                    "metric": metric["name"],
                    "difference": alone.value,
                    "interval": alone.ends,
                    "corrected": together.ends,
                    "detectable": intervals.detectable(*(values[name] for name in pair)),
                }
            )
    return {
        "sources": ranked,
        "equal": settings.evaluation.equal,
        "development": len(contexts_lib.development(session)) if settings.tuning.epochs else 0,
        "comparisons": comparisons,
    }


def said(found: Record) -> str:
    """The dose, and every comparison, for people."""
    bench, name = found["bench"], found["metrics"][-1]["name"]
    dose = f"tuned on {bench['development']} other contexts" if bench["development"] else "fixed"
    spent = {"none": "the same epochs for all", "steps": "equal steps", "tokens": "equal tokens"}
    lines = [f"dose: {dose}; {spent[bench['equal']]}"]
    compared = [of for of in bench["comparisons"] if of["metric"] == name]
    if compared:
        label = found["metrics"][-1]["label"]
        lines += ["", f"{label}, alone and with all {len(compared)} intervals at once:"]
    for one in compared:
        a, b = (found["arms"][name]["label"] for name in one["names"])
        line = f"  {a} - {b}: {shown(one)}"
        if one["corrected"]:
            low, high = one["corrected"]
            line += f", at once [{low:+.3f}, {high:+.3f}]"
        if one["detectable"] is not None:
            line += f"; detectable: {one['detectable']:.3f}"
        lines.append(line)
    return "\n".join(lines)
