"""What is left of earlier passages: the continual experiment's figures, and its table.

Dims: S sequences, P passages of a sequence. Row 0 of a matrix is the start, row i the model after
passage i; column j is passage j, known where j <= i (and everywhere in row 0).

A value that is missing, such as that of answers that could not be graded, is NaN in arrays and None
in results. Means and intervals are of what there is.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seal_jax.stats import intervals
from seal_jax.stats.intervals import mean

Record = dict[str, Any]
Matrices = NDArray[np.float64]  # [S, P + 1, P]; NaN where a passage was not asked or has no value


@dataclasses.dataclass(frozen=True, kw_only=True)
class Start:
    """The model before any update.

    Attributes:
      marks: [S][P] {"answers", "scores"} of every sequence's passages.
      unrelated_S: loss on unrelated texts, nats a token.
    """

    marks: Sequence[Sequence[Record]]
    unrelated_S: Sequence[float | None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arm:
    """A mitigation's run, or a bound.

    Attributes:
      name: an entry of continual.mitigations or continual.bounds.
      steps: of a mitigation, [P][S][passages so far] marks after each update; empty for bounds.
      end: of a bound, [S][P] marks at the end.
      unrelated_S: loss on unrelated texts at the end; empty where there is no one model at the end.
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
    start: Start, arms: Sequence[Arm], *, metrics: Sequence[str], seed: int, draws: int
) -> dict[str, Any]:
    """All figures.

    Returns:
      {"continual": {mitigation: {"matrices": {metric: see `shown`}, "summary": {metric: see
      `summary`; where "none" was run, with `own_gain_kept` as "own_gain_of_unmitigated" and
      `share_over` as "share_over_unmitigated"}, "unrelated": {"loss", "rise", "sequences"},
      "keeps_old_data", "trained_tokens", "failed_updates"}},
      "bounds": {bound: {"end": {metric: mean}, "unrelated"}}}. Intervals resample sequences.
    """
    statistics = {"seed": seed, "draws": draws}
    found = {
        arm.name: {metric: matrices(start.marks, arm.steps, metric) for metric in metrics}
        for arm in arms
        if arm.steps
    }
    mitigations: dict[str, Any] = {}
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
        of_each = {}
        for metric, own in found[arm.name].items():
            of_each[metric] = summary(own, **statistics)
            if "none" in found and arm.name != "none":
                plain = found["none"][metric]
                of_each[metric] |= {
                    "own_gain_of_unmitigated": own_gain_kept(own, plain, **statistics),
                    "share_over_unmitigated": share_over(own, plain, **statistics),
                }
        mitigations[arm.name] = {
            "matrices": {metric: shown(own) for metric, own in found[arm.name].items()},
            "summary": of_each,
            **common,
            "trained_tokens": arm.trained_tokens,
            "failed_updates": arm.failed,
        }
    return {"continual": mitigations, "bounds": bounds}


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
        found[s, 0] = [_value(marked, metric) for marked in passages]
        for i, rows in enumerate(steps):
            found[s, i + 1, : i + 1] = [_value(marked, metric) for marked in rows[s]]
    return found


def shown(found: Matrices) -> Record:
    """{"matrix": means over sequences, "standard_errors"}; None where there is no value."""
    known = ~np.isnan(found)
    counts = known.sum(axis=0)
    means = np.where(known, found, 0.0).sum(axis=0) / np.maximum(counts, 1)
    squares = np.where(known, (found - means) ** 2, 0.0).sum(axis=0)
    errors = np.sqrt(squares / np.maximum(counts - 1, 1) / np.maximum(counts, 1))
    return {
        "matrix": _listed(means, counts > 0),
        "standard_errors": _listed(errors, counts > 1),
    }


def ends(found: Matrices) -> NDArray[np.float64]:
    """[3, S] means over passages at the start, right after each one's own update, and at the end.

    A passage counts where it has all three values; a sequence without one has NaN.
    """
    of_passages = np.stack(
        [found[:, 0], np.diagonal(found[:, 1:], axis1=1, axis2=2), found[:, -1]]
    )  # [3, S, P]
    whole_SxP = ~np.isnan(of_passages.sum(axis=0))
    means = [
        [mean(row[whole]) for row, whole in zip(of, whole_SxP, strict=True)] for of in of_passages
    ]
    return np.array(means, float)


def summary(found: Matrices, *, seed: int, draws: int) -> Record:
    """The three means, and the retained share with an interval that resamples sequences.

    The retained share is (end - start) / (own - start): 1 where nothing is lost after a passage's
    own update, 0 where the gain is gone, below 0 where the start knew more.
    """
    start_S, own_S, end_S = ends(found)
    return {
        "start": mean(start_S),
        "own": mean(own_S),
        "end": mean(end_S),
        "retained_share": _of_gains(_ratio, *_end_and_own(found), seed=seed, draws=draws),
    }


def own_gain_kept(found: Matrices, plain: Matrices, *, seed: int, draws: int) -> Record:
    """The diagonal's gain over the start as a share of that of the run without a mitigation."""
    own_S, plain_S = _end_and_own(found)[1], _end_and_own(plain)[1]
    return _of_gains(_ratio, own_S, plain_S, seed=seed, draws=draws)


def share_over(found: Matrices, plain: Matrices, *, seed: int, draws: int) -> Record:
    """The retained share minus that of the run without a mitigation, on the same sequences."""

    def over(end, own, plain_end, plain_own):
        return _ratio(end, own) - _ratio(plain_end, plain_own)

    return _of_gains(over, *_end_and_own(found), *_end_and_own(plain), seed=seed, draws=draws)


def table(found: Mapping[str, Any]) -> str:
    """Mitigations and bounds for the terminal, in gold log-likelihood."""
    metric = "gold_log_likelihood"
    lines = [
        f"{'mitigation':<22}{'start':>8}{'own':>8}{'end':>8}   {'retained share':<22}"
        f"{'over unmitigated':<22}{'own gain of unmitigated':<24}rise of unrelated loss"
    ]
    for name, one in found["continual"].items():
        of = one["summary"][metric]
        over, kept = of.get("share_over_unmitigated"), of.get("own_gain_of_unmitigated")
        mark = " (old data)" if one["keeps_old_data"] else ""
        values = "".join(f"{_number(of[key]):>8}" for key in ("start", "own", "end"))
        lines.append(
            f"{name + mark:<22}{values}   {_figure(of['retained_share']):<22}"
            f"{_figure(over) if over else '':<22}{_figure(kept) if kept else '':<24}"
            f"{_rise(one)}".rstrip()
        )
    for name, bound in found["bounds"].items():
        end = _number(bound["end"][metric])
        lines.append(f"{name:<22}{'':>16}{end:>8}{'':>71}{_rise(bound)}".rstrip())
    return "\n".join(lines)


def _value(marked: Record, metric: str) -> float:
    found = marked["scores"].get(metric)
    return np.nan if found is None else float(found)


def _mean_end(arm: Arm, metric: str) -> float | None:
    return mean(mean(_value(marked, metric) for marked in passages) for passages in arm.end)


def _unrelated(arm: Arm, start: Start, *, seed: int, draws: int) -> Record | None:
    """The loss on unrelated texts at the end, and its rise over the start's."""
    if not arm.unrelated_S:
        return None
    end_S, start_S = np.array(arm.unrelated_S, float), np.array(start.unrelated_S, float)
    known_S = ~np.isnan(end_S - start_S)
    if not known_S.any():
        return None
    rise = intervals.paired(
        end_S[:, None].tolist(), start_S[:, None].tolist(), seed=seed, draws=draws
    )
    return {
        "loss": mean(end_S[known_S]),
        "rise": {"value": rise["difference"], "interval": rise["interval"]},
        "sequences": int(known_S.sum()),
    }


def _end_and_own(found: Matrices) -> tuple[NDArray, NDArray]:
    """[S] gains over the start, at the end and right after each passage's own update."""
    start_S, own_S, end_S = ends(found)
    return end_S - start_S, own_S - start_S


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


def _listed(values: NDArray, known: NDArray) -> list[list[float | None]]:
    return [
        [float(v) if k else None for v, k in zip(*row, strict=True)]
        for row in zip(values, known, strict=True)
    ]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _figure(figure: Record) -> str:
    if figure["value"] is None:
        return "undefined"
    text = _number(figure["value"])
    if figure["interval"]:
        low, high = figure["interval"]
        text += f" [{low:.2f}, {high:.2f}]"
    return text


def _rise(of: Record) -> str:
    return _figure(of["unrelated"]["rise"]) if of["unrelated"] else ""
