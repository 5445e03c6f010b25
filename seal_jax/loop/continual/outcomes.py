"""What is left of earlier passages: the continual experiment's figures, and its table.

Dims: S sequences, P passages of a sequence. Row 0 of a matrix is the start, row i the model after
passage i; column j is passage j, known where j <= i (and everywhere in row 0).

A value that is missing, such as that of answers that could not be graded, is NaN in arrays and None
in results. Means and intervals are of what there is.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seal_jax.stats import intervals
from seal_jax.stats.intervals import mean

Record = dict[str, Any]
Matrices = NDArray[np.float64]  # [S, P + 1, P]; NaN where a passage was not asked or has no value


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arm:
    """A mitigation's run, a bound, or the model before any update.

    Attributes:
      name: "start", or an entry of continual.mitigations or continual.bounds.
      steps: of a mitigation, [P][S][passages so far] marks after each update.
      end: of the others, [S][P] marks {"answers", "scores"} of every sequence's passages.
      unrelated_S: loss on unrelated texts at the end, nats a token; empty where there is no one
        model at the end.
      keeps_old_data: whether it needs the texts of earlier passages.
      trained_tokens, failed: of all updates: tokens trained on, and updates that taught nothing.
    """

    name: str
    steps: Sequence[Sequence[Sequence[Record]]] = ()
    end: Sequence[Sequence[Record]] = ()
    unrelated_S: Sequence[float | None] = ()
    keeps_old_data: bool = False
    trained_tokens: int = 0
    failed: int = 0


def results(
    start: Arm,
    mitigated: Sequence[Arm],
    bounds: Sequence[Arm],
    *,
    metrics: Sequence[str],
    seed: int,
    draws: int,
) -> dict[str, Any]:
    """All figures.

    Returns:
      {"continual": {mitigation: {"matrices": {metric: see `shown`}, "summary": {metric: see
      `summary`, beside "none" where that was run}, "unrelated": {"loss", "rise", "sequences"},
      "keeps_old_data", "trained_tokens", "failed_updates"}},
      "bounds": {bound: {"end": {metric: mean}, "unrelated", "keeps_old_data"}}}. Intervals resample
      sequences.
    """
    statistics = {"seed": seed, "draws": draws}
    found = {
        arm.name: {metric: matrices(start.end, arm.steps, metric) for metric in metrics}
        for arm in mitigated
    }

    def common(arm: Arm) -> Record:
        unrelated = _unrelated(arm, start, **statistics)
        return {"unrelated": unrelated, "keeps_old_data": arm.keeps_old_data}

    def beside(arm: Arm, metric: str) -> Matrices | None:
        return found["none"][metric] if "none" in found and arm.name != "none" else None

    def end(arm: Arm, metric: str) -> float | None:
        return mean(mean(_value(marked, metric) for marked in of) for of in arm.end)

    return {
        "continual": {
            arm.name: {
                "matrices": {metric: shown(own) for metric, own in found[arm.name].items()},
                "summary": {
                    metric: summary(own, beside(arm, metric), **statistics)
                    for metric, own in found[arm.name].items()
                },
                **common(arm),
                "trained_tokens": arm.trained_tokens,
                "failed_updates": arm.failed,
            }
            for arm in mitigated
        },
        "bounds": {
            arm.name: {"end": {metric: end(arm, metric) for metric in metrics}, **common(arm)}
            for arm in bounds
        },
    }


def matrices(
    start: Sequence[Sequence[Record]], steps: Sequence[Sequence[Any]], metric: str
) -> Matrices:
    """The matrix of every sequence.

    Args:
      start: [S][P] marks of the start.
      steps: [P][S][passages so far] marks after each passage.
    """
    found = np.full((len(start), len(steps) + 1, len(steps)), np.nan)
    for s, passages in enumerate(start):
        for i, row in enumerate([passages, *(rows[s] for rows in steps)]):
            found[s, i, : len(row)] = [_value(marked, metric) for marked in row]
    return found


def shown(found: Matrices) -> Record:
    """{"matrix": means over sequences, "standard_errors"}; None where there is no value."""
    known = np.ma.masked_invalid(found)
    errors = np.ma.sqrt(known.var(axis=0, ddof=1) / known.count(axis=0))
    return {"matrix": known.mean(axis=0).tolist(), "standard_errors": errors.tolist()}


def ends(found: Matrices) -> NDArray[np.float64]:
    """[3, S] means over passages at the start, right after each one's own update, and at the end.

    A passage counts where it has all three values; a sequence without one has NaN.
    """
    of_passages = np.stack(
        [found[:, 0], np.diagonal(found[:, 1:], axis1=1, axis2=2), found[:, -1]]
    )  # [3, S, P]
    missing = np.broadcast_to(np.isnan(of_passages.sum(axis=0)), of_passages.shape)
    return np.ma.array(of_passages, mask=missing).mean(axis=2).filled(np.nan)


def summary(
    found: Matrices, unmitigated: Matrices | None = None, *, seed: int, draws: int
) -> Record:
    """The three means, and shares with intervals that resample sequences.

    The retained share is (end - start) / (own - start): 1 where nothing is lost after a passage's
    own update, 0 where the gain is gone, below 0 where the start knew more.

    Returns:
      {"start", "own", "end", "own_gain" (own - start), "retained_share"}; beside a run without a
      mitigation, on the same sequences, also "own_gain_of_unmitigated", the own gain as a share of
      that run's, and "share_over_unmitigated", the retained share minus that run's.
    """
    start_S, own_S, end_S = ends(found)
    gains = [end_S - start_S, own_S - start_S]
    share = functools.partial(_of_gains, seed=seed, draws=draws)
    figures = {
        "start": mean(start_S),
        "own": mean(own_S),
        "end": mean(end_S),
        "own_gain": _difference(own_S, start_S, seed=seed, draws=draws),
        "retained_share": share(_ratio, *gains),
    }
    if unmitigated is not None:
        start_S, own_S, end_S = ends(unmitigated)
        plain = [end_S - start_S, own_S - start_S]
        figures["own_gain_of_unmitigated"] = share(_ratio, gains[1], plain[1])
        figures["share_over_unmitigated"] = share(
            lambda *of: _ratio(*of[:2]) - _ratio(*of[2:]), *gains, *plain
        )
    return figures


def table(found: Mapping[str, Any]) -> str:
    """Mitigations and bounds for the terminal, in gold log-likelihood."""
    metric = "gold_log_likelihood"
    lines = [
        f"{'mitigation':<22}{'start':>8}{'own':>8}{'end':>8}   {'retained share':<22}"
        f"{'over unmitigated':<22}{'own gain of unmitigated':<24}rise of unrelated loss"
    ]
    for name, one in found["continual"].items():
        of = one["summary"][metric]
        mark = " (old data)" if one["keeps_old_data"] else ""
        values = "".join(f"{_number(of[key]):>8}" for key in ("start", "own", "end"))
        lines.append(
            f"{name + mark:<22}{values}   {_figure(of['retained_share']):<22}"
            f"{_figure(of.get('share_over_unmitigated')):<22}"
            f"{_figure(of.get('own_gain_of_unmitigated')):<24}{_rise(one)}".rstrip()
        )
    for name, bound in found["bounds"].items():
        end = _number(bound["end"][metric])
        lines.append(f"{name:<22}{'':>16}{end:>8}{'':>71}{_rise(bound)}".rstrip())
    return "\n".join(lines)


def _value(marked: Record, metric: str) -> float:
    found = marked["scores"].get(metric)
    return np.nan if found is None else float(found)


def _unrelated(arm: Arm, start: Arm, *, seed: int, draws: int) -> Record | None:
    """The loss on unrelated texts at the end, and its rise over the start's."""
    if not arm.unrelated_S:
        return None
    end_S, start_S = (np.array(of.unrelated_S, float) for of in (arm, start))
    rise = _difference(end_S, start_S, seed=seed, draws=draws)
    if rise["value"] is None:
        return None
    known = end_S[~np.isnan(end_S - start_S)]
    return {"loss": mean(known), "rise": rise, "sequences": len(known)}


def _difference(second_S: NDArray, first_S: NDArray, *, seed: int, draws: int) -> Record:
    """The mean of second - first with its interval."""
    rows = (of_S[:, None].tolist() for of_S in (second_S, first_S))
    found = intervals.paired(*rows, seed=seed, draws=draws)
    return {"value": found["difference"], "interval": found["interval"]}


def _of_gains(
    statistic: Callable[..., NDArray], *gains_S: NDArray, seed: int, draws: int
) -> Record:
    """A statistic of mean gains, with an interval that resamples the sequences that have them all.

    Args:
      statistic: from [n] means of each of the gains to [n] values.
      gains_S: [S] each.
    """
    gains = np.stack(gains_S)
    gains = gains[:, ~np.isnan(gains).any(axis=0)]
    found = intervals.bootstrap(
        lambda drawn: statistic(*(of_S[drawn].mean(axis=1) for of_S in gains)),
        gains.shape[1],
        seed=seed,
        draws=draws,
    )
    return {"value": found.value, "interval": found.ends}


def _ratio(above: NDArray, below: NDArray) -> NDArray:
    """Ratios; NaN where there was no gain to have a share of."""
    return np.where(below > 0, above / np.where(below > 0, below, 1.0), np.nan)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _figure(figure: Record | None) -> str:
    if figure is None:
        return ""
    if figure["value"] is None:
        return "undefined"
    ends = figure["interval"]
    return _number(figure["value"]) + (f" [{ends[0]:.2f}, {ends[1]:.2f}]" if ends else "")


def _rise(of: Record) -> str:
    return _figure(of["unrelated"]["rise"]) if of["unrelated"] else ""
