"""Verb: select. Which self-edits the next policy is trained on, with what weight or advantage."""

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from seal_jax.core import constrained, policy_gradient, restem
from seal_jax.loop.run import Run
from seal_jax.loop.sample import Edit, Prompt
from seal_jax.loop.session import Session
from seal_jax.loop.stage import Stage
from seal_jax.stats.intervals import mean

Record = dict[str, Any]


def select(
    run: Run,
    prompts: Sequence[Prompt],
    edits: Sequence[Sequence[Edit]],
    rewards_CxM: np.ndarray,
    baselines_C: Sequence[float | None] | None,
    rule: restem.SelectionRule | restem.Selector,
    *,
    update: policy_gradient.Update,
    stage: Stage,
    rewarded: bool = True,
    heads: Sequence[Sequence[str]] = (),
) -> tuple[list[list[float]], Record]:
    """Selects self-edits and records it.

    Args:
      prompts: what the self-edits answer, one a context.
      edits: [C][M].
      rewards_CxM: NaN where a self-edit has none.
      baselines_C: rewards of the unadapted model, or None where none is measured.
      rule, update: settings.restem.rule and .update, or of a control; unless the update is "restem"
        the weights are advantages.
      rewarded: whether these are rewards; otherwise they only say what may be kept, and are not
        recorded.
      heads: the directives [C][M] of self-edits that have some, to be recorded beside.

    Returns:
      Weights or advantages [C][M], 0 for what is not kept, and the round in figures.
    """
    known = [0.0] * len(prompts) if baselines_C is None else baselines_C
    lengths_CxM = [[len(edit.text) for edit in of_context] for of_context in edits]
    draw: dict[str, Any] = {
        "seed": zlib.crc32(f"{run.session.settings.seed} select {stage}".encode()),
        "names_C": [prompt.id for prompt in prompts],
    }
    if update == "restem":
        weights_CxM = restem.select(
            rewards_CxM,
            rule,
            baselines_C=np.array(known, float),  # NaN for None
            lengths_CxM=lengths_CxM,
            **draw,
        )
    else:
        known_CxM = rewards_CxM
        if rule == restem.SelectionRule("random"):
            known_CxM = policy_gradient.shuffled(rewards_CxM, **draw)
        elif rule == restem.SelectionRule("longest"):
            known_CxM = np.where(np.isnan(rewards_CxM), np.nan, lengths_CxM)
        weights_CxM = policy_gradient.advantages(known_CxM, update)
    chosen = {
        "contexts": [prompt.id for prompt in prompts],
        "rewards": [
            [float(r) if rewarded and not np.isnan(r) else None for r in row] for row in rewards_CxM
        ],
        "weights": weights_CxM.tolist(),
        **({"heads": heads} if heads else {}),
    }
    selection = run.once("selection", stage.name, lambda: chosen, stage=stage)
    return selection["weights"], _summary(run, selection, baselines_C, stage)


def examples(
    session: Session,
    prompts: Sequence[Prompt],
    edits: Sequence[Sequence[Edit]],
    weights_CxM: Sequence[Sequence[float]],
) -> list[restem.SftExample]:
    """What the M-step is trained on: the self-edits with a weight."""
    automaton = session.automaton
    return [
        restem.SftExample(
            tokens=(*prompt.tokens, *edits[c][m].tokens),
            prompt_length=len(prompt.tokens),
            weight=weight,
            allowed=constrained.allowed_along(automaton, edits[c][m].tokens) if automaton else None,
            scope=automaton.scope if automaton else "whole",
        )
        for c, prompt in enumerate(prompts)
        for m, weight in enumerate(weights_CxM[c])
        if weight != 0
    ]


def _summary(
    run: Run, selection: Record, baselines_C: Sequence[float | None] | None, stage: Stage
) -> Record:
    """A round in figures, also said and measured."""
    pairs = [
        pair
        for of in zip(selection["rewards"], selection["weights"], strict=True)
        for pair in zip(*of, strict=True)
    ]
    chosen = [reward for reward, weight in pairs if weight != 0]
    figures = {
        "mean_reward": mean(reward for reward, _ in pairs),
        "mean_kept_reward": mean(chosen),
        "mean_unadapted": mean(baselines_C) if baselines_C is not None else None,
    }
    run.measure(stage, {name.replace("_", " "): value for name, value in figures.items()})
    missing = sum(reward is None for reward, _ in pairs)
    if figures["mean_kept_reward"] is not None:
        run.say(
            f"{stage}: mean reward {figures['mean_reward']:.3f} of {len(pairs) - missing} "
            f"self-edits, {figures['mean_kept_reward']:.3f} of the {len(chosen)} kept"
        )
    elif missing == len(pairs):
        run.say(f"{stage}: no self-edit has a reward; {len(chosen)} are kept")
    return {
        "contexts": selection["contexts"],
        "self_edits": len(pairs),
        "without_reward": missing,
        "kept": len(chosen),
        **figures,
    }
