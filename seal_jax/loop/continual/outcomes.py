"""The continual experiment's results and table: every cure and bound side by side."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from seal_jax.loop.continual import retained

Record = dict[str, Any]
Answers = Sequence[Record]  # of one passage's questions


@dataclasses.dataclass(frozen=True, kw_only=True)
class Start:
    """The model before any update.

    Attributes:
      answers: [S][P], of every sequence's passages.
      unrelated_S: loss on unrelated texts, nats a token.
    """

    answers: Sequence[Sequence[Answers]]
    unrelated_S: Sequence[float | None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arm:
    """A cure's run, or a bound.

    Attributes:
      name: an entry of continual.cures or continual.bounds.
      steps: of a cure, [P][S][passages so far] answers after each update; empty for bounds.
      end: of a bound, [S][P] answers at the end.
      unrelated_S: loss on unrelated texts at the end; empty where there is no one model at the end.
      keeps_old_data: whether it needs the texts of earlier passages.
      trained_tokens, failed: of all updates: tokens trained on, and updates that taught nothing.
    """

    name: str
    steps: Sequence[Sequence[Sequence[Answers]]] = ()
    end: Sequence[Sequence[Answers]] = ()
    unrelated_S: Sequence[float | None] = ()
    keeps_old_data: bool = False
    trained_tokens: int = 0
    failed: int = 0


def results(
    start: Start, arms: Sequence[Arm], *, metrics: Sequence[str], seed: int, draws: int
) -> dict[str, Any]:
    """All figures.

    Returns:
      {"continual": {cure: {"matrices": {metric: {"matrix", "standard_errors"}}, "summary": {metric:
      see `retained.summary`; where the cure "none" was run with "own_gain_of_uncured" and
      "share_over_uncured"},
      "unrelated": {"loss", "rise"}, "keeps_old_data", "trained_tokens", "failed_updates"}},
      "bounds": {bound: {"end": {metric: mean}, "unrelated"}}}. Intervals resample sequences.
    """
    statistics = {"seed": seed, "draws": draws}
    found = {
        arm.name: {
            metric: retained.matrices(start.answers, arm.steps, metric) for metric in metrics
        }
        for arm in arms
        if arm.steps
    }
    cures: dict[str, Any] = {}
    bounds: dict[str, Any] = {}
    for arm in arms:
        common = {
            "unrelated": _unrelated(arm, start, **statistics),
            "keeps_old_data": arm.keeps_old_data,
        }
        if not arm.steps:
            end = {metric: _mean_end(arm, metric) for metric in metrics}
            bounds[arm.name] = {"end": end, **common}
            continue
        summary = {}
        for metric, own in found[arm.name].items():
            summary[metric] = retained.summary(own, **statistics)
            if "none" in found and arm.name != "none":
                uncured = found["none"][metric]
                summary[metric] |= {
                    "own_gain_of_uncured": retained.own_gain_kept(own, uncured, **statistics),
                    "share_over_uncured": retained.share_over_uncured(own, uncured, **statistics),
                }
        cures[arm.name] = {
            "matrices": {metric: retained.shown(own) for metric, own in found[arm.name].items()},
            "summary": summary,
            **common,
            "trained_tokens": arm.trained_tokens,
            "failed_updates": arm.failed,
        }
    return {"continual": cures, "bounds": bounds}


def table(found: Mapping[str, Any]) -> str:
    """Cures and bounds for the terminal, in gold log-likelihood."""
    metric = "gold_log_likelihood"
    lines = [
        f"{'cure':<22}{'start':>8}{'own':>8}{'end':>8}   {'retained share':<22}"
        f"{'over uncured':<22}{'own gain of uncured':<22}rise of unrelated loss"
    ]
    for name, cure in found["continual"].items():
        of = cure["summary"][metric]
        over, kept = of.get("share_over_uncured"), of.get("own_gain_of_uncured")
        mark = " (old data)" if cure["keeps_old_data"] else ""
        lines.append(
            f"{name + mark:<22}{of['start']:>8.2f}{of['own']:>8.2f}{of['end']:>8.2f}   "
            f"{_shown(of['retained_share']):<22}{_shown(over) if over else '':<22}"
            f"{_shown(kept) if kept else '':<22}"
            f"{_shown(cure['unrelated']['rise'])}"
        )
    for name, bound in found["bounds"].items():
        rise = _shown(bound["unrelated"]["rise"]) if bound["unrelated"] else ""
        lines.append(f"{name:<22}{'':>16}{bound['end'][metric]:>8.2f}{'':>69}{rise}".rstrip())
    return "\n".join(lines)


def _mean_end(arm: Arm, metric: str) -> float | None:
    values = [[retained.value(answers, metric) for answers in passages] for passages in arm.end]
    mean = float(np.nanmean(np.nanmean(values, axis=1)))
    return None if np.isnan(mean) else mean


def _unrelated(arm: Arm, start: Start, *, seed: int, draws: int) -> Record | None:
    """The loss on unrelated texts at the end, and its rise over the start's."""
    both = zip(arm.unrelated_S, start.unrelated_S, strict=False)
    known = [(end, before) for end, before in both if end is not None and before is not None]
    if not known:
        return None
    ends, befores = zip(*known, strict=True)
    return {
        "loss": float(np.mean(ends)),
        "rise": retained.difference(ends, befores, seed=seed, draws=draws),
        "sequences": len(known),
    }


def _shown(figure: Record) -> str:
    if figure["value"] is None:
        return "undefined"
    text = f"{figure['value']:.2f}"
    if figure["interval"]:
        low, high = figure["interval"]
        text += f" [{low:.2f}, {high:.2f}]"
    return text
