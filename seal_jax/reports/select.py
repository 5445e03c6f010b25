"""`seal_jax select`: the E-step's choice alone, on a file of scored self-edits."""

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from seal_jax.core import restem
from seal_jax.core.restem import SelectionRule
from seal_jax.reports import scored
from seal_jax.reports.scored import Entry, ScoredError


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
      ScoredError: the file is not in the form, nothing in it can be picked, or `out` exists.
    """
    entries = scored.load(path)
    for line in scored.problems(entries):
        print(line, file=sys.stderr)
    rewards_CxM = _padded([[c.reward for c in entry.completions] for entry in entries])
    if np.isnan(rewards_CxM).all():
        raise ScoredError(f"{path}: no self-edit has a reward, so there is nothing to choose by.")
    found = picks(entries, rewards_CxM, rule, seed=seed)
    if out:
        scored.write_picks(out, found)
    else:
        for pick in found:
            print(scored.pick_line(pick, sys.stdout.encoding))
    print(
        f"{len(found)} self-edits kept of {len(entries)} contexts, by {rule.name}", file=sys.stderr
    )
    return found


def picks(
    entries: Sequence[Entry], rewards_CxM: np.ndarray, rule: SelectionRule, *, seed: int
) -> list[dict[str, Any]]:
    """The picks of a rule; see `select`."""
    baselines_CxM = _padded([[c.baseline for c in entry.completions] for entry in entries])
    if rule.name in ("threshold", "positive_only"):
        without = int((~np.isnan(rewards_CxM) & np.isnan(baselines_CxM)).sum())
        if without:
            print(
                f"{without} x self-edit not kept: stats.baseline_mean, which the rule {rule.name} "
                "compares with, is missing or not a finite number",
                file=sys.stderr,
            )
    weights_CxM = restem.select(
        rewards_CxM,
        rule,
        baselines_C=baselines_CxM,
        lengths_CxM=_padded([[len(c.text) for c in entry.completions] for entry in entries]),
        seed=seed,
        names_C=[entry.name for entry in entries],
    )
    unpicked = [entry.name for c, entry in enumerate(entries) if not weights_CxM[c].any()]
    if unpicked:
        print(f"{len(unpicked)} x context without a pick (first: {unpicked[0]})", file=sys.stderr)
    found = []
    for c, entry in enumerate(entries):
        for m, completion in enumerate(entry.completions):
            if weights_CxM[c, m] > 0:
                pick: dict[str, Any] = {"prompt": entry.prompt, "completion": completion.text}
                if rule.name == "weighted":
                    pick["weight"] = float(str(weights_CxM[c, m]))  # 0.2, not 0.20000000298
                found.append(pick)
    return found


def _padded(rows: Sequence[Sequence[float]]) -> np.ndarray:
    """[C, M] of ragged rows, with NaN where a row ends before the longest."""
    padded = np.full((len(rows), max(map(len, rows), default=0)), np.nan)
    for row, values in zip(padded, rows, strict=True):
        row[: len(values)] = values
    return padded
