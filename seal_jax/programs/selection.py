"""The E-step's selection, recorded: which self-edits the next policy is trained on."""

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from seal_jax import constrained, restem
from seal_jax.programs.stages import Run
from seal_jax.programs.writing import Edit, Prompt

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
