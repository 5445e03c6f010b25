"""`seal_jax select`: the E-step's choice alone, on a file of scored self-edits."""

import itertools
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from seal_jax.core import restem
from seal_jax.core.restem import SelectionRule
from seal_jax.reports import out_file, scored
from seal_jax.reports.scored import ScoredError
from seal_jax.runtime import terminal


def select(path: str, rule: SelectionRule, *, seed: int = 0, out: str = "") -> list[dict[str, Any]]:
    """Picks self-edits of a scored file, and writes them as lines of JSON.

    What could not be picked is counted on standard error.

    Args:
      path: the scored file; see `scored`.
      rule: which self-edits are kept.
      seed: for the rule "random".
      out: file for the picks; standard output if empty.

    Returns:
      The picks in the file's order: {"prompt", "completion"}, and "weight" for the rule "weighted".

    Raises:
      ScoredError: the file is not in the form, or nothing in it can be picked.
      OutError: there is a file at `out` that is not empty: it is left as it is.
    """
    entries = scored.load(path)
    for line in scored.problems(entries):
        terminal.say(line, error=True)
    rewards_CxM = _padded([[c.reward for c in entry.completions] for entry in entries])
    baselines_CxM = _padded([[c.baseline for c in entry.completions] for entry in entries])
    lengths_CxM = _padded([[len(c.text) for c in entry.completions] for entry in entries])
    if np.isnan(rewards_CxM).all():
        raise ScoredError(f"{path}: no self-edit has a reward, so there is nothing to choose by.")
    if out:
        out_file.check(out, lambda content: not content, "not empty")
    without = int((~np.isnan(rewards_CxM) & np.isnan(baselines_CxM)).sum())
    if without and rule.name in ("threshold", "positive_only"):
        terminal.say(
            f"{without} x self-edit not kept: stats.baseline_mean, which the rule {rule.name} "
            "compares with, is missing or not a finite number",
            error=True,
        )
    weights_CxM = restem.select(
        rewards_CxM,
        rule,
        baselines_C=baselines_CxM,
        lengths_CxM=lengths_CxM,
        seed=seed,
        names_C=[entry.name for entry in entries],
    )
    unpicked = [entry.name for c, entry in enumerate(entries) if not weights_CxM[c].any()]
    if unpicked:
        terminal.say(f"{len(unpicked)} x context without a pick (first: {unpicked[0]})", error=True)
    picks: list[dict[str, Any]] = []
    for entry, weights_M in zip(entries, weights_CxM, strict=True):
        for completion, weight in zip(entry.completions, weights_M, strict=False):  # padded
            if weight > 0:
                picks.append({"prompt": entry.prompt, "completion": completion.text})
                if rule.name == "weighted":
                    picks[-1]["weight"] = float(str(weight))  # 0.2, not 0.20000000298
    encoding = "utf-8" if out else sys.stdout.encoding
    lines = [scored.pick_line(pick, encoding) for pick in picks]
    if out:
        out_file.write(out, "".join(f"{line}\n" for line in lines).encode())
    elif lines:
        terminal.say("\n".join(lines))
    kept = f"{len(picks)} self-edits kept of {len(entries)} contexts, by {rule.name}"
    terminal.say(kept, error=True)
    return picks


def _padded(rows: Sequence[Sequence[float]]) -> np.ndarray:
    """[C, M] of ragged rows, with NaN where a row ends before the longest."""
    columns = list(itertools.zip_longest(*rows, fillvalue=np.nan))
    return np.array(columns, float).T.reshape(len(rows), len(columns))
