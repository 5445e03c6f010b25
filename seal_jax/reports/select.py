"""`seal select`: the E-step's choice alone, on a run or on a file of scored self-edits."""

import itertools
import math
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from seal_jax.core import restem
from seal_jax.core.restem import SelectionRule
from seal_jax.loop import policies, rewards
from seal_jax.reports import out_file, records, run_files, scored
from seal_jax.reports.scored import Completion, Entry, ScoredError
from seal_jax.runs import storage
from seal_jax.runtime import terminal
from seal_jax.tasks import registry


def select(path: str, rule: SelectionRule, *, seed: int = 0, out: str = "") -> list[dict[str, Any]]:
    """Picks self-edits of a run or of a scored file, and writes them as lines of JSON.

    What could not be picked is counted on standard error.

    Args:
      path: the run's directory, or the scored file; see `scored`.
      rule: which self-edits are kept.
      seed: for the rule "random".
      out: file for the picks; standard output if empty.

    Returns:
      The picks in the order of the run or the file: {"prompt", "completion"}, and "weight" for the
      rule "weighted".

    Raises:
      ScoredError: the file is not in the form, or nothing in it can be picked; no round of the run
        has rewarded its self-edits.
      OutError: there is a file at `out` that is not empty: it is left as it is.
    """
    is_run = storage.is_folder(storage.locate(path))
    entries = of_run(path) if is_run else scored.load(path)
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


def of_run(workdir: str) -> list[Entry]:
    """The rewarded self-edits of a run's rounds, an entry for each context of each of them.

    An entry's prompt is the text that asks for the self-edit, without the chat template.

    Raises:
      ScoredError: there is no run, no round of it has rewarded its self-edits yet, or its data are
        others now.
    """
    ledger = storage.locate(workdir) / "ledger"
    if not storage.is_folder(ledger):
        raise ScoredError(f"{workdir} is not the directory of a run.")
    settings = policies.run_settings(workdir)
    task = registry.open_task(settings)
    with run_files.as_written(workdir):
        stages = records.read(ledger)
        contexts = records.contexts_of(task, ledger)
    main = task.metrics[0].name
    found: dict[tuple[str, str], list[Completion]] = {}
    for name, of in stages.items():
        selected = of.selected if of.stage.kind == "round" and not of.stage.line else {}
        for edit in of.edits if selected else ():
            id = edit["context"]
            reward, _ = selected[id, edit["index"]]
            plain = of.answers.get(id)
            baseline = rewards.value(plain, settings.reward, main) if plain else None
            completion = Completion(
                text=edit["text"],
                reward=math.nan if reward is None else reward,
                baseline=math.nan if baseline is None else baseline,
                verdicts=(),
                problem="the run gave none" if reward is None else "",
            )
            found.setdefault((name, id), []).append(completion)
    if not found:
        raise ScoredError(f"{workdir}: no round of this run has rewarded its self-edits yet.")
    for _, id in found:
        if id not in contexts:
            raise ScoredError(f"the data that {workdir} names does not hold {id!r} any more.")
    return [
        Entry(f"{name}, {id!r}", task.preface + task.edit_prompt(contexts[id]), tuple(completions))
        for (name, id), completions in found.items()
    ]


def _padded(rows: Sequence[Sequence[float]]) -> np.ndarray:
    """[C, M] of ragged rows, with NaN where a row ends before the longest."""
    columns = list(itertools.zip_longest(*rows, fillvalue=np.nan))
    return np.array(columns, float).T.reshape(len(rows), len(columns))
