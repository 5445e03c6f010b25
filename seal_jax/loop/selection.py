"""The E-step's selection, recorded: which self-edits the next policy is trained on."""

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from seal_jax.core import constrained, restem
from seal_jax.loop.run import Run
from seal_jax.loop.writing import Edit, Prompt

Record = dict[str, Any]


def select(
    run: Run,
    prompts: Sequence[Prompt],
    edits: Sequence[Sequence[Edit]],
    rewards_CxM: np.ndarray,
    baselines_C: Sequence[float] | None,
    rule: restem.SelectionRule | restem.Selector,
    *,
    stage: str,
    automaton: constrained.Automaton | None = None,
) -> tuple[list[restem.Row], np.ndarray]:
    """Selects self-edits and records it.

    Args:
      prompts: what the self-edits answer, one a context.
      edits: [C][M].
      rewards_CxM: NaN where a self-edit has none.
      baselines_C: rewards of the unadapted model, or None.
      stage: names the round in the ledger.
      automaton: what the self-edits were held to, or None.

    Returns:
      Rows for the M-step, and weights [C, M].
    """
    weights_CxM = restem.select(
        rewards_CxM,
        rule,
        baselines_C=np.zeros(len(prompts)) if baselines_C is None else baselines_C,
        lengths_CxM=[[len(edit.text) for edit in of_context] for of_context in edits],
        seed=zlib.crc32(f"{run.session.settings.seed} select {stage}".encode()),
    )
    selection = run.once(
        "selection",
        stage,
        lambda: {
            "contexts": [prompt.id for prompt in prompts],
            "rewards": [[None if np.isnan(r) else float(r) for r in row] for row in rewards_CxM],
            "weights": weights_CxM.tolist(),
        },
    )
    rows = [
        restem.Row(
            tokens=(*prompt.tokens, *edits[c][m].tokens),
            prompt_length=len(prompt.tokens),
            weight=weight,
            allowed=constrained.allowed_along(automaton, edits[c][m].tokens) if automaton else None,
        )
        for c, prompt in enumerate(prompts)
        for m, weight in enumerate(selection["weights"][c])
        if weight > 0
    ]
    return rows, np.array(selection["weights"])


def summarize(
    run: Run,
    contexts: Sequence[str],
    rewards_CxM: np.ndarray,
    weights_CxM: np.ndarray,
    unadapted: float | None,
    *,
    stage: str,
) -> Record:
    """A round in figures, also said and measured.

    Args:
      contexts: ids.
      rewards_CxM, weights_CxM: as selected; see `select`.
      unadapted: the unadapted model's mean reward, where it has one.
    """
    valid, chosen = rewards_CxM[~np.isnan(rewards_CxM)], rewards_CxM[weights_CxM > 0]
    figures = {
        "mean_reward": float(valid.mean()) if valid.size else None,
        "mean_kept_reward": float(chosen.mean()) if chosen.size else None,
        "mean_unadapted": unadapted,
    }
    run.measure(stage, {name.replace("_", " "): value for name, value in figures.items()})
    if valid.size and chosen.size:
        run.say(
            f"{stage}: mean reward {figures['mean_reward']:.3f} of {valid.size} self-edits, "
            f"{figures['mean_kept_reward']:.3f} of the {chosen.size} kept"
        )
    return {
        "contexts": list(contexts),
        "self_edits": rewards_CxM.size,
        "without_reward": int(np.isnan(rewards_CxM).sum()),
        "kept": int(chosen.size),
        **figures,
    }
