"""`seal_jax analyze`: what each reward is worth, from a run's ledger or a file of scores.

How far a reward finds the same self-edits again with other seeds and other questions, how far
rewards agree, and what keeping the best would gain on what it was not chosen by. docs/analyze.md
has the formulae.
"""

import contextlib
import dataclasses
import functools
import itertools
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from seal_jax.loop.rewards import AGREEMENT
from seal_jax.reports import run_files, scores
from seal_jax.reports.scores import Scored
from seal_jax.runs import run_dir, storage
from seal_jax.settings import Reward
from seal_jax.stats import best_of_m, intervals, reliability
from seal_jax.stats.diversity import diversity
from seal_jax.stats.intervals import Estimate, mean
from seal_jax.stats.reliability import Array

Record = dict[str, Any]

BOOTSTRAP = {"seed": 0, "draws": 10_000}  # as the command has it, so that reports show the same
FORMS: tuple[reliability.Over, ...] = ("replicates", "questions", "both")


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


def analyze(
    source: str,
    *,
    seed: int = BOOTSTRAP["seed"],
    draws: int = BOOTSTRAP["draws"],
    mix: float | None = None,
) -> Record:
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
      DamagedError: files of the run are damaged.
    """
    notes: list[str] = []
    config: Record = {}
    folder = storage.locate(source)
    if storage.is_folder(folder):
        with run_files.as_written(source):
            stages, notes = scores.of_run(source)
        with contextlib.suppress(run_dir.RunDirError):  # a ledger alone will do
            config = dict(run_dir.flatten(run_dir.read_config(source)))
    elif os.path.exists(source):
        stages = scores.of_scored_file(source)
    else:
        raise ValueError(f"{source}: no such run directory or scored file.")
    if not stages:
        why = "; ".join(notes) or "no self-edits are recorded there"
        raise ValueError(f"{source}: there is nothing to analyse: {why}.")
    if mix is None:
        mix = config.get("reward.mix", Reward().mix)
    bootstrap = {"seed": seed, "draws": draws}
    with run_files.as_written(source):
        kind = config.get("reward.kind", "")
        figures = [of_stage(stage, mix, bootstrap, kind) for stage in stages]
    return {"source": source, "bootstrap": bootstrap, "notes": notes, "stages": figures}


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


def of_stage(stage: Scored, mix: float, bootstrap: Mapping[str, int], kind: str = "") -> Record:
    """Every figure of a stage; see `analyze` and `rewards_of`.

    Args:
      bootstrap: {"seed", "draws"}.
      kind: of the run's reward.
    """
    found = rewards_of(stage, mix)
    complete, left_out = _complete(found)
    replicates = max(c.shape[2] for reward in found for c in reward.cells)
    notes = []
    if kind == AGREEMENT and stage.name.startswith("round"):
        notes.append(
            "the gold answers are those of the reading model, so that accuracy and gold "
            "log-likelihood are agreement with it, and no measures of knowledge"
        )
    if replicates < 2 and stage.cells:
        notes.append(
            "one replicate: how far other inner-loop seeds would find the same self-edits again "
            "cannot be estimated from this stage (run it with reward.replicates of 2 or more); "
            "the figures for other questions are of the same adapted models"
        )
    if any(left_out.values()):
        notes.append(
            f"{left_out['self_edits']} self-edits without a result in every replicate, then "
            f"{left_out['questions']} questions without a graded answer of every other one, are "
            "left out of all figures but the first reliability"
        )
    # Within contexts the gain over the unadapted model is the log-likelihood less a constant.
    distinct = [reward for reward in found if reward.name != "log_likelihood_gain"]
    shapes = zip(*([cells.shape for cells in reward.cells] for reward in found), strict=True)
    return {
        "stage": stage.name,
        "contexts": len(stage.contexts),
        "self_edits": sum(map(len, stage.texts)),
        "replicates": replicates,
        "questions": sum(max(asked for _, asked, _ in of_context) for of_context in shapes),
        **stage.counts,
        "without_reward": dict(stage.without_reward),
        "left_out": left_out,
        "cost": dict(stage.cost),
        "notes": notes,
        "diversity": _diversity(stage.texts, bootstrap),
        "rewards": {
            reward.name: _reliabilities(reward, complete[reward.name], bootstrap)
            for reward in found
        },
        "agreement": [
            {"rewards": [a.name, b.name], **_agreement(a, b, complete, bootstrap)}
            for a, b in itertools.combinations(distinct, 2)
        ],
        "best_of_m": [
            {"chosen_by": chosen.name, "measured": measured.name}
            | _gains(complete[chosen.name], complete[measured.name], bootstrap)
            for measured in distinct
            for chosen in distinct
        ],
    }


def _diversity(texts: Sequence[Sequence[str]], bootstrap: Mapping[str, int]) -> Record | None:
    """Means over contexts of `diversity`; None where no context has two texts."""
    found = np.array([of for own in texts if (of := diversity(own))])
    if not len(found):
        return None

    def estimated(column: int) -> Record | None:
        def of_resamples(chosen: intervals.Places) -> Array:
            return found[:, column][chosen].mean(axis=1)

        return _estimate(intervals.bootstrap(of_resamples, len(found), **bootstrap))

    words = float(found[:, 2].mean())
    return {"words": words, "distinct": estimated(0), "overlap": estimated(1)}


def _complete(rewards: Sequence[Scores]) -> tuple[dict[str, list[Array]], dict[str, int]]:
    """The same self-edits and questions of every reward, without any NaN; what that leaves out."""
    kept: dict[str, list[Array]] = {reward.name: [] for reward in rewards}
    left_out = {"self_edits": 0, "questions": 0}
    for of_context in zip(*(reward.cells for reward in rewards), strict=True):
        there = ~functools.reduce(np.logical_or, map(np.isnan, of_context))
        whole = there.any(axis=1).all(axis=1)
        asked = there[whole].all(axis=(0, 2))
        left_out["self_edits"] += int((~whole).sum())
        left_out["questions"] += int((~asked).sum()) if whole.any() else 0
        if not (whole.any() and asked.any()):
            continue
        for reward, cells in zip(rewards, of_context, strict=True):
            of_whole = cells[whole]
            kept[reward.name].append(of_whole if of_whole.shape[1] == 1 else of_whole[:, asked])
    return kept, left_out


def _reliabilities(reward: Scores, cells: list[Array], bootstrap: Mapping[str, int]) -> Record:
    """The mean of a reward, and every form of its reliability."""
    found: Record = {
        "mean": mean(mean(mean(of_edit.flat) for of_edit in of) for of in reward.cells),
        "unadapted": reward.unadapted,
    }
    if reward.exact:
        return found | {"reliability": None, "not_applicable": "no replicates: 1 by construction"}
    means = [_of_replicates(of_context) for of_context in reward.cells]
    found["reliability"] = {
        "within_contexts": _estimate(reliability.across_seeds(means, **bootstrap)),
        "of_one_replicate": reliability.across_seeds(means, replicates=1, draws=1).value,
        "replicates": max(of_context.shape[2] for of_context in reward.cells),
        "pooled_over_contexts": reliability.pooled(means),
    }
    for form in FORMS:
        apart = reliability.apart(cells, form, **bootstrap)
        found["reliability"][f"other_{form}"] = _estimate(apart)
    return found


def _agreement(
    a: Scores, b: Scores, complete: Mapping[str, list[Array]], bootstrap: Mapping[str, int]
) -> Record:
    found = reliability.agreement(
        complete[a.name], complete[b.name], exact=(a.exact, b.exact), **bootstrap
    )._asdict()
    chance = found.pop("same_best_by_chance")
    return {name: _estimate(of) for name, of in found.items()} | {"same_best_by_chance": chance}


def _gains(choosing: list[Array], measured: list[Array], bootstrap: Mapping[str, int]) -> Record:
    """What the best self-edits gain, by what is held out; None where nothing can be."""
    found: Record = {}
    forms: tuple[best_of_m.HeldOut, ...] = ("nothing", *FORMS)
    for form in forms:
        gain = best_of_m.gain(choosing, measured, form, **bootstrap)
        name = "in_sample" if form == "nothing" else f"other_{form}"
        known = gain.chosen is not None
        found[name] = gain._asdict() | {"gain": _estimate(gain.gain)} if known else None
    return found


def _unadapted(stage: Scored, name: str) -> float | None:
    plain = stage.unadapted.get(name)
    return None if plain is None else mean(mean(of.flat) for of in plain)


def _of_replicates(cells_MxQxR: Array) -> Array:
    """[M, R]: mean over the questions that have a value; NaN where none has."""
    there = ~np.isnan(cells_MxQxR)
    totals_MxR = np.where(there, cells_MxQxR, 0.0).sum(axis=1)
    counts_MxR = there.sum(axis=1)
    return np.where(counts_MxR > 0, totals_MxR / np.maximum(counts_MxR, 1), np.nan)


def _estimate(estimate: Estimate) -> Record | None:
    return None if estimate.value is None else estimate._asdict()
