"""Sources of texts against each other: differences, what can be detected, and one table."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from seal_jax.loop import contexts as contexts_lib
from seal_jax.loop import rewards
from seal_jax.loop.results import shown
from seal_jax.loop.session import Session
from seal_jax.loop.stage import Stage
from seal_jax.stats import intervals
from seal_jax.tasks.base import Task
from seal_jax.tasks.protocol import GOLD_LOG_LIKELIHOOD, Metric
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


def table(found: Record, seconds: Mapping[str, float]) -> str:
    """The arms with what they learned, harmed and cost, and the comparisons below, for people.

    Args:
      seconds: of the run's stages.
    """
    metrics, arms = [Metric(**of) for of in found["metrics"]], found["arms"]
    first, last = next(iter(arms)), metrics[-1].name
    over = [pair for pair in found["pairs"] if (pair["metric"], pair["names"][1]) == (last, first)]
    gains = {pair["names"][0]: pair for pair in over}
    own, rises = found["matched_minus_mismatched"], found.get("unrelated", {})
    heads = ["arm", *(of.label for of in metrics), f"gain over {arms[first]['label']}"]
    heads += ["over mismatched", "harm", "tokens", "steps", "seconds", "rate x epochs"]
    rows = []
    for name, arm in arms.items():
        row = [arm["label"], *(rewards.shown(arm[of.name], of) for of in metrics)]
        row.append(shown(gains[name]) if name in gains else "")
        row += [_plain(of.get(name), digits) for of, digits in ((own, 2), (rises, 3))]
        time = seconds.get(f"{Stage(kind='arm', split='eval', what=name)}: adapt")
        row += [f"{arm[key]:,}" if key in arm else "" for key in ("trained_tokens", "steps")]
        row.append("" if time is None or "steps" not in arm else f"{time:.0f}")
        row.append(f"{arm['learning_rate']:g} x {arm['epochs']}" if "epochs" in arm else "")
        rows.append(row)
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    lines = [
        "  ".join(f"{cell:{'<' if i in (0, len(metrics) + 1) else '>'}{width}}"
                  for i, (cell, width) in enumerate(zip(row, widths, strict=True))).rstrip()
        for row in (heads, *rows)
    ]  # fmt: skip
    bench = found["bench"]
    dose = f"tuned on {bench['development']} other contexts" if bench["development"] else "fixed"
    spent = {"none": "the same epochs for all", "steps": "equal steps", "tokens": "equal tokens"}
    lines += ["", f"dose: {dose}; {spent[bench['equal']]}"]
    if rises:
        lines.append("harm: rise of the loss on unrelated texts, nats a token")
    compared = [of for of in bench["comparisons"] if of["metric"] == last]
    if compared:
        lines += ["", f"{metrics[-1].label}, alone and with all {len(compared)} intervals at once:"]
    for one in compared:
        a, b = (arms[name]["label"] for name in one["names"])
        line = f"  {a} - {b}: {shown(one)}"
        if one["corrected"]:
            low, high = one["corrected"]
            line += f", at once [{low:+.3f}, {high:+.3f}]"
        if one["detectable"] is not None:
            line += f"; detectable: {one['detectable']:.3f}"
        lines.append(line)
    return "\n".join(lines)


def _plain(gain: Record | None, digits: int) -> str:
    """A difference alone."""
    return "" if not gain or gain["difference"] is None else f"{gain['difference']:+.{digits}f}"
