"""`seal_jax analyze`: what each reward is worth, from a run's ledger or a file of scores.

How far a reward finds the same self-edits again with other seeds and other questions, how far
rewards agree, and what keeping the best would gain on what it was not chosen by. docs/analyze.md
has the formulae.
"""

import dataclasses
import functools
import itertools
import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from seal_jax.reports import scores
from seal_jax.reports.scores import Scored
from seal_jax.runs import storage
from seal_jax.settings import Reward
from seal_jax.stats import best_of_m, intervals, reliability
from seal_jax.stats.intervals import Estimate
from seal_jax.stats.reliability import Array

Record = dict[str, Any]

FORMS: tuple[Literal["replicates", "questions", "both"], ...] = (
    "replicates", "questions", "both",
)  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scores:
    """A reward of a stage's self-edits.

    Attributes:
      name: what it is.
      cells: for each context [M, Q, R]; Q or R is 1 where it has no questions or replicates.
      exact: whether it has no replicates because it needs none.
      unadapted: its mean for the unadapted model, or None.
    """

    name: str
    cells: list[Array]
    exact: bool = False
    unadapted: float | None = None


def analyze(source: str, *, seed: int = 0, draws: int = 10_000, mix: float | None = None) -> Record:
    """Analyses the rewards of a run, or of a file of scored self-edits.

    Args:
      source: a run's directory (finished or not; nothing in it is changed), or a scored file.
      seed, draws: of the bootstrap over contexts.
      mix: what a nat counts in the reward "mix" (see settings.Reward); None for the run's own.

    Returns:
      {"source", "stages", "notes"}, ready for JSON; None stands where something cannot be
      estimated. `table` shows it.

    Raises:
      ValueError, OSError: there is no run and no such file, or nothing in it to compare.
    """
    notes: list[str] = []
    if storage.is_folder(storage.locate(source)):
        stages, notes = scores.of_run(source)
        if mix is None:
            mix = scores.config_of_run(source).get("reward", {}).get("mix")
    elif os.path.exists(source):
        stages = scores.of_scored_file(source)
    else:
        raise ValueError(f"{source}: no such run directory or scored file.")
    if not stages:
        why = "; ".join(notes) or "no self-edits are recorded there"
        raise ValueError(f"{source}: there is nothing to analyse: {why}.")
    mix = Reward().mix if mix is None else mix
    bootstrap = {"seed": seed, "draws": draws}
    return {
        "source": source,
        "bootstrap": bootstrap,
        "notes": notes,
        "stages": [_stage(stage, mix, bootstrap) for stage in stages],
    }


def rewards_of(stage: Scored, mix: float) -> list[Scores]:
    """Every reward that can be had from a stage's records; cells may hold NaN.

    Args:
      stage: what was recorded.
      mix: what a nat counts in the reward "mix": accuracy + mix * gold log-likelihood.
    """
    found = [
        Scores(name=name, cells=cells, unadapted=_unadapted(stage, name))
        for name, cells in stage.cells.items()
    ]
    if {"accuracy", "gold_log_likelihood"} <= stage.cells.keys():
        beliefs = stage.cells["gold_log_likelihood"]
        pairs = zip(stage.cells["accuracy"], beliefs, strict=True)
        found.append(Scores(name="mix", cells=[a + mix * b for a, b in pairs]))
        if plain := stage.unadapted.get("gold_log_likelihood"):
            gains = [cells - of[None, :, None] for cells, of in zip(beliefs, plain, strict=True)]
            found.append(Scores(name="log_likelihood_gain", cells=gains))
    for name, values in stage.fixed.items():
        cells = [of_context[:, None, None] for of_context in values]
        found.append(Scores(name=name, cells=cells, exact=True))
    lengths = [np.array([[[float(len(text))]] for text in texts]) for texts in stage.texts]
    return [*found, Scores(name="length", cells=lengths, exact=True)]


def _stage(stage: Scored, mix: float, bootstrap: Mapping[str, int]) -> Record:
    found = rewards_of(stage, mix)
    complete, left_out = _complete(found)
    replicates = max(c.shape[2] for reward in found for c in reward.cells)
    questions = [
        max(of) for of in zip(*([c.shape[1] for c in r.cells] for r in found), strict=True)
    ]
    notes = []
    if replicates < 2 and stage.cells:
        notes.append(
            "one replicate: how far other inner-loop seeds would find the same self-edits again "
            "cannot be estimated from this stage (run it with reward.replicates of 2 or more); "
            "the figures for other questions are of the same adapted models"
        )
    if left_out["self_edits"] or left_out["questions"]:
        notes.append(
            f"{left_out['self_edits']} self-edits without a result in every replicate, then "
            f"{left_out['questions']} questions without a graded answer of every other one, are "
            "left out of all figures but the first reliability"
        )
    # Within contexts the gain over the unadapted model is the log-likelihood less a constant.
    distinct = [reward for reward in found if reward.name != "log_likelihood_gain"]
    names = [reward.name for reward in distinct]
    return {
        "stage": stage.name,
        "contexts": len(stage.contexts),
        "self_edits": sum(map(len, stage.texts)),
        "replicates": replicates,
        "questions": sum(questions),
        **stage.counts,
        "without_reward": dict(stage.without_reward),
        "left_out": left_out,
        "cost": dict(stage.cost),
        "notes": notes,
        "rewards": {
            reward.name: _reliabilities(reward, complete[reward.name], bootstrap)
            for reward in found
        },
        "agreement": [
            {"rewards": [a.name, b.name], **_agreement(a, b, complete, bootstrap)}
            for a, b in itertools.combinations(distinct, 2)
        ],
        "best_of_m": [
            {
                "chosen_by": chosen,
                "measured": measured,
                **_gains(complete, chosen, measured, bootstrap),
            }
            for measured in names
            for chosen in names
        ],
    }


def _complete(rewards: Sequence[Scores]) -> tuple[dict[str, list[Array]], dict[str, int]]:
    """The same self-edits and questions of every reward, without any NaN; what that leaves out."""
    kept: dict[str, list[Array]] = {reward.name: [] for reward in rewards}
    edits = questions = 0
    for c in range(len(rewards[0].cells)):
        nowhere = [np.isnan(reward.cells[c]) for reward in rewards]
        there = ~functools.reduce(np.logical_or, nowhere)
        whole = np.all(np.any(there, axis=1), axis=1)
        asked = there[whole].all(axis=(0, 2))
        edits += int((~whole).sum())
        questions += int((~asked).sum()) if whole.any() else 0
        if not (whole.any() and asked.any()):
            continue
        for reward in rewards:
            cells = reward.cells[c][whole]
            kept[reward.name].append(cells if cells.shape[1] == 1 else cells[:, asked])
    return kept, {"self_edits": edits, "questions": questions}


def _reliabilities(reward: Scores, cells: list[Array], bootstrap: Mapping[str, int]) -> Record:
    """The mean of a reward, and every form of its reliability."""
    found: Record = {
        "mean": intervals.mean(
            intervals.mean(intervals.mean(of_edit.flat) for of_edit in of_context)
            for of_context in reward.cells
        ),
        "unadapted": reward.unadapted,
    }
    if reward.exact:
        return found | {"reliability": None, "not_applicable": "no replicates: 1 by construction"}
    means = [_of_replicates(of_context) for of_context in reward.cells]
    replicates = max(of_context.shape[2] for of_context in reward.cells)
    return found | {
        "reliability": {
            "within_contexts": _estimate(reliability.across_seeds(means, **bootstrap)),
            "of_one_replicate": reliability.across_seeds(means, replicates=1, draws=1).value,
            "replicates": replicates,
            **{
                f"other_{form}": _estimate(reliability.apart(cells, form, **bootstrap))
                for form in FORMS
            },
            "pooled_over_contexts": reliability.pooled(means),
        }
    }


def _agreement(
    a: Scores, b: Scores, complete: Mapping[str, list[Array]], bootstrap: Mapping[str, int]
) -> Record:
    found = reliability.agreement(
        complete[a.name], complete[b.name], exact=(a.exact, b.exact), **bootstrap
    )
    return {
        "pearson": _estimate(found.pearson),
        "spearman": _estimate(found.spearman),
        "corrected_for_attenuation": _estimate(found.corrected),
        "same_best": _estimate(found.same_best),
        "same_best_by_chance": found.chance,
    }


def _gains(
    complete: Mapping[str, list[Array]], chosen: str, measured: str, bootstrap: Mapping[str, int]
) -> Record:
    found: Record = {}
    forms: tuple[best_of_m.HeldOut, ...] = ("nothing", *FORMS)
    for form in forms:
        gain = best_of_m.gain(complete[chosen], complete[measured], form, **bootstrap)
        found["in_sample" if form == "nothing" else f"other_{form}"] = (
            None
            if gain.chosen is None
            else {"chosen": gain.chosen, "mean": gain.mean, "gain": _estimate(gain.gain)}
        )
    return found


def _unadapted(stage: Scored, name: str) -> float | None:
    plain = stage.unadapted.get(name)
    return None if plain is None else intervals.mean(intervals.mean(of.flat) for of in plain)


def _of_replicates(cells_MxQxR: Array) -> Array:
    """[M, R]: mean over the questions that have a value; NaN where none has."""
    there = ~np.isnan(cells_MxQxR)
    totals_MxR = np.where(there, cells_MxQxR, 0.0).sum(axis=1)
    counts_MxR = there.sum(axis=1)
    return np.where(counts_MxR > 0, totals_MxR / np.maximum(counts_MxR, 1), np.nan)


def _estimate(estimate: Estimate) -> Record | None:
    return None if estimate.value is None else estimate._asdict()
