"""What analyze looks at: the self-edits of a run's stage or of a scored file, with their scores.

Dims as in `reliability`: C contexts, M self-edits, Q questions, R replicates; arrays of cells are
[M, Q, R], one a context, with NaN where there is no value.
"""

import collections
import dataclasses
import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from seal_jax.loop import arms
from seal_jax.reports import records, run_files, scored
from seal_jax.reports.records import Place, StageRecords
from seal_jax.runs import storage
from seal_jax.runs.ledger import LedgerError
from seal_jax.stats.reliability import Array

Record = dict[str, Any]

NOT_TRIED = "not tried yet"
REFUSED = "the self-edit gives no lesson"
_KEYS = {"accuracy": "correct"}  # what an answer calls its own value of a metric


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scored:
    """The self-edits of one stage of a run, or of a scored file.

    Attributes:
      name: of the stage.
      contexts: names of the contexts.
      texts: for each context, its self-edits.
      cells: by reward with replicates, for each context [M, Q, R]: the task's metrics and
        "gold_log_likelihood"; Q is 1 for a reward of the self-edit as a whole.
      fixed: by reward without replicates, for each context [M].
      unadapted: by reward, for each context the values of the unadapted model: [Q], or a scored
        file's [M] baselines.
      counts: {"answers", "empty_answers", "ungraded_answers"}.
      without_reward: self-edits without any result, by reason.
      cost: tokens and seconds, where they are recorded.
    """

    name: str
    contexts: tuple[str, ...]
    texts: tuple[tuple[str, ...], ...]
    cells: Mapping[str, list[Array]]
    fixed: Mapping[str, list[Array]] = dataclasses.field(default_factory=dict)
    unadapted: Mapping[str, list[Array]] = dataclasses.field(default_factory=dict)
    counts: Mapping[str, int] = dataclasses.field(default_factory=dict)
    without_reward: Mapping[str, int] = dataclasses.field(default_factory=dict)
    cost: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def of_scored_file(path: str | os.PathLike[str]) -> list[Scored]:
    """The one stage of a scored file; rewards are from its verdicts, not from its means.

    Raises:
      ScoredError: the file is not in the form, or holds no verdict.
    """
    entries = [entry for entry in scored.load(path) if entry.completions]
    if not any(c.verdicts for entry in entries for c in entry.completions):
        raise scored.ScoredError(
            f'{path}: no self-edit has verdicts ("correct": [[run, question, verdict], ...]), so '
            "there is nothing to estimate a reliability from."
        )
    cells = []
    for entry in entries:
        tables = [_table(c.verdicts) for c in entry.completions]
        runs = sorted({run for table in tables for _, run in table}, key=str) or [""]
        questions = list(dict.fromkeys(q for table in tables for q, _ in table)) or [""]
        values = [[[of.get((q, run)) for run in runs] for q in questions] for of in tables]
        cells.append(np.array(values, float))
    verdicts = [v.correct for entry in entries for c in entry.completions for v in c.verdicts]
    without = sum(bool(np.isnan(edit).all()) for of_context in cells for edit in of_context)
    return [
        Scored(
            name=pathlib.Path(path).name,
            contexts=tuple(entry.name for entry in entries),
            texts=tuple(tuple(c.text for c in entry.completions) for entry in entries),
            cells={"accuracy": cells},
            unadapted={
                "accuracy": [np.array([c.baseline for c in entry.completions]) for entry in entries]
            },
            counts={"answers": len(verdicts), "ungraded_answers": verdicts.count(None)},
            without_reward={"no verdict of its answers": without} if without else {},
        )
    ]


def of_run(workdir: str | os.PathLike[str]) -> tuple[list[Scored], list[str]]:
    """`of_stages` of a run; its ledger is opened read-only: the run may be in progress."""
    folder = storage.locate(workdir)
    seconds = run_files.read_timing(folder)["seconds"]
    return of_stages(records.read(folder / "ledger"), seconds)


def of_stages(
    stages: Mapping[str, StageRecords], seconds: Mapping[str, float]
) -> tuple[list[Scored], list[str]]:
    """The stages of a run whose contexts have several self-edits each, and notes on the others.

    Args:
      stages: by name; see `records.read`.
      seconds: the times of its stages, where they are known.

    Raises:
      LedgerError: scores that are not one a self-edit.
    """
    found, notes = [], []
    for name, of in stages.items():
        if of.stage.kind == "continual":
            if of.others.get("edits"):
                notes.append(f"{name}: one self-edit at each step, so there is nothing to compare")
            continue
        if of.stage.kind == "curate":
            notes.append(
                "curate tries one lesson on each context and writes no self-edit, so there is "
                "nothing to compare; `report` shows what it found"
            )
            continue
        # What the arms of self-edits are does not depend on the task.
        arm = arms.EDITED.get(of.stage.what) if of.stage.kind == "arm" else None
        edits, plain = records.belonging(of, stages, arm)
        if not edits or not (of.stage.kind == "round" or arm):
            continue
        scored = _stage(of, edits, plain, seconds)
        if max(map(len, scored.texts)) < 2:
            notes.append(f"{name}: one self-edit a context, so there is nothing to compare")
        elif not (scored.cells or scored.fixed):
            notes.append(f"{name}: no self-edit has been tried yet")
        else:
            found.append(scored)
    return found, notes


def _table(verdicts: Sequence[scored.Verdict]) -> dict[tuple[str, Any], bool | None]:
    """(question, run) -> verdict; a question that a run asks twice counts as two."""
    table: dict[tuple[str, Any], bool | None] = {}
    seen: collections.Counter = collections.Counter()
    for run, question, correct in verdicts:
        asked = seen[question, run]
        seen[question, run] += 1
        table[f"{question}\n{asked}" if asked else question, run] = correct
    return table


def _stage(
    of: StageRecords,
    edits: Mapping[Place, Record],
    plain: Mapping[str, Record],
    seconds: Mapping[str, float],
) -> Scored:
    """A stage's self-edits with their scores."""
    numbers: dict[str, list[int]] = {}  # of the self-edits of each context
    for context, m in edits:
        numbers[context] = sorted([*numbers.get(context, []), m])
    trials = _replicated(of.trials)
    columns = {r: i for i, r in enumerate(sorted({trial["replicate"] for trial in trials}))}
    tried: dict[Place, list[Record]] = {place: [] for place in edits}
    reasons: dict[Place, str] = {}
    for trial in trials:
        place = (trial["context"], trial["index"])
        if trial["answers"] and place in edits:
            tried[place].append(trial)
        elif not trial["answers"]:
            reasons.setdefault(place, trial["reason"] or "no answers")
    untried = REFUSED if of.tried else NOT_TRIED
    without = collections.Counter(
        reasons.get(place, untried) for place, own in tried.items() if not own
    )
    every = [trial for own in tried.values() for trial in own]
    cells: dict[str, list[Array]] = {}
    unadapted: dict[str, list[Array]] = {}
    for metric in every[0]["scores"] if every else ():
        for context, of_context in numbers.items():
            units = _units(metric, [trial for m in of_context for trial in tried[context, m]])
            array = np.full((len(of_context), len(units), len(columns)), np.nan)
            for row, m in enumerate(of_context):
                for trial in tried[context, m]:
                    array[row, :, columns[trial["replicate"]]] = _values(metric, trial, units)
            cells.setdefault(metric, []).append(array)
            if numbers.keys() <= plain.keys():
                values = np.array(_values(metric, plain[context], units), float)
                unadapted.setdefault(metric, []).append(values)
    fixed: dict[str, Sequence[Sequence[float | None]]] = {}
    if not trials and "selection" in of.others:
        fixed["reward"] = of.others["selection"][0]["rewards"]
        without.clear()
    if "rubric" in of.others:
        fixed["rubric"] = [row for record in of.others["rubric"] for row in record["scores"]]
    for reward, rows in fixed.items():
        if list(map(len, rows)) != list(map(len, numbers.values())):
            raise LedgerError(f"{of.name}: the scores of {reward!r} are not one a self-edit.")
    answers = [answer for trial in every for answer in trial["answers"]]
    counts = {
        "answers": len(answers),
        "empty_answers": sum(bool(answer.get("empty")) for answer in answers),
        "ungraded_answers": sum(answer.get("ungraded") is not None for answer in answers),
    }
    return Scored(
        name=of.name,
        contexts=tuple(numbers),
        texts=tuple(tuple(edits[c, m]["text"] for m in own) for c, own in numbers.items()),
        cells=cells,
        fixed={name: [np.array(row, float) for row in rows] for name, rows in fixed.items()},
        unadapted=unadapted,
        counts=counts if answers else {},
        without_reward=dict(without),
        cost=_cost(of, seconds),
    )


def _replicated(trials: Sequence[Record]) -> list[Record]:
    """Trials of which every self-edit was tried once, each under a seed of its own, have one
    replicate: such seeds are no replicates of one another."""
    once = len({(trial["context"], trial["index"]) for trial in trials}) == len(trials)
    return [trial | {"replicate": 0} for trial in trials] if once else list(trials)


def _units(metric: str, trials: Iterable[Record]) -> list[str]:
    """The questions that have a value of a metric each; [""] where the context alone has one."""
    key = _KEYS.get(metric, metric)
    answers = [answer for trial in trials for answer in trial["answers"]]
    return list(dict.fromkeys(answer["question"] for answer in answers if key in answer)) or [""]


def _values(metric: str, marked: Record, units: Sequence[str]) -> list[float | None]:
    """A mark's value of each unit."""
    if units == [""]:
        return [marked["scores"].get(metric)]
    key = _KEYS.get(metric, metric)
    found = {answer["question"]: answer.get(key) for answer in reversed(marked["answers"])}
    return [found.get(unit) for unit in units]


def _cost(of: StageRecords, seconds: Mapping[str, float]) -> Record:
    cost: Record = {}
    if of.groups:
        cost["inner_loop_tokens"] = of.real_tokens
        cost["inner_loop_tokens_computed"] = of.computed_tokens
    own = {key: value for key, value in seconds.items() if key.startswith(f"{of.name}: ")}
    if own:
        cost["seconds"] = {key.removeprefix(f"{of.name}: "): value for key, value in own.items()}
    return cost
