"""What analyze looks at: the self-edits of a run's stage or of a scored file, with their scores.

Dims as in `reliability`: C contexts, M self-edits, Q questions, R replicates; arrays of cells are
[M, Q, R], one a context, with NaN where there is no value.
"""

import collections
import dataclasses
import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from seal_jax.loop import arms
from seal_jax.loop.stage import Stage
from seal_jax.reports import records, scored
from seal_jax.reports.records import StageRecords
from seal_jax.runs import run_dir, storage
from seal_jax.runs.ledger import LedgerError
from seal_jax.stats.reliability import Array

Record = dict[str, Any]

NOT_TRIED = "not tried yet"
REFUSED = "the self-edit gives no lesson"
# What the arms of self-edits are does not depend on the task.
ARMS = {name: arm for name, arm in arms.EDITED.items() if arm.editor}


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
    cells, reasons = [], collections.Counter[str]()
    verdicts = ungraded = 0
    for entry in entries:
        runs = sorted({v.run for c in entry.completions for v in c.verdicts}, key=str)
        tables = [_table(c.verdicts) for c in entry.completions]
        questions = list(dict.fromkeys(q for table in tables for q, _ in table))
        shape = (len(tables), max(len(questions), 1), max(len(runs), 1))
        array = np.full(shape, np.nan)
        for m, table in enumerate(tables):
            for (question, run), correct in table.items():
                verdicts += 1
                ungraded += correct is None
                if correct is not None:
                    array[m, questions.index(question), runs.index(run)] = correct
            if np.isnan(array[m]).all():
                reasons["no verdict of its answers"] += 1
        cells.append(array)
    return [
        Scored(
            name=pathlib.Path(path).name,
            contexts=tuple(entry.name for entry in entries),
            texts=tuple(tuple(c.text for c in entry.completions) for entry in entries),
            cells={"accuracy": cells},
            unadapted={
                "accuracy": [np.array([c.baseline for c in entry.completions]) for entry in entries]
            },
            counts={"answers": verdicts, "ungraded_answers": ungraded},
            without_reward=dict(reasons),
        )
    ]


def of_run(workdir: str | os.PathLike[str]) -> tuple[list[Scored], list[str]]:
    """The stages of a run whose contexts have several self-edits each, and notes on the others.

    The ledger is opened read-only: the run may be in progress.
    """
    folder = storage.locate(workdir)
    stages = records.read(folder / "ledger")
    seconds = _seconds(folder / "timing.json")
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
        edits, plain = _belonging(of, stages)
        if not edits:
            continue
        scored = _stage(of, edits, plain, seconds)
        if max(map(len, scored.texts)) < 2:
            notes.append(f"{name}: one self-edit a context, so there is nothing to compare")
        elif not (scored.cells or scored.fixed):
            notes.append(f"{name}: no self-edit has been tried yet")
        else:
            found.append(scored)
    return found, notes


def _belonging(
    of: StageRecords, stages: Mapping[str, StageRecords]
) -> tuple[list[Record], Mapping[str, Record]]:
    """A stage's self-edits and unadapted answers: an editor writes once for several arms."""
    if of.stage.kind == "round":
        return of.edits, of.answers
    if of.stage.kind != "arm" or (arm := ARMS.get(of.stage.what)) is None:
        return [], {}
    written = stages.get(Stage(kind="edits", split=of.stage.split, what=arm.editor).name)
    plain = stages.get(Stage(kind="unadapted", split=of.stage.split, what=arm.learner).name)
    return written.edits if written else [], plain.answers if plain else {}


def config_of_run(workdir: str | os.PathLike[str]) -> Mapping[str, Any]:
    """The run's settings; empty where the directory has only a ledger."""
    try:
        return run_dir.read_config(workdir)
    except run_dir.RunDirError:
        return {}


def _table(verdicts: Sequence[scored.Verdict]) -> dict[tuple[str, Any], bool | None]:
    """(question, run) -> verdict; a question that a run asks twice counts as two."""
    table: dict[tuple[str, Any], bool | None] = {}
    seen: collections.Counter = collections.Counter()
    for verdict in verdicts:
        asked = seen[verdict.question, verdict.run]
        seen[verdict.question, verdict.run] += 1
        name = f"{verdict.question}\n{asked}" if asked else verdict.question
        table[name, verdict.run] = verdict.correct
    return table


def _stage(
    of: StageRecords,
    written: Sequence[Record],
    plain: Mapping[str, Record],
    seconds: Mapping[str, float],
) -> Scored:
    """A stage's self-edits with their scores."""
    edits: dict[str, dict[int, Record]] = {}
    for edit in written:
        edits.setdefault(edit["context"], {})[edit["index"]] = edit
    contexts = tuple(edits)
    rows = {c: {m: row for row, m in enumerate(sorted(edits[c]))} for c in contexts}
    trials = _replicated(of.trials)
    replicates = 1 + max((trial["replicate"] for trial in trials), default=0)
    tried: dict[str, list[tuple[int, int, Record]]] = {c: [] for c in contexts}
    reasons: dict[tuple[str, int], str] = {}
    for trial in trials:
        place = (trial["context"], trial["index"])
        if place[1] not in rows.get(place[0], {}):
            continue
        if trial["answers"]:
            tried[place[0]].append((rows[place[0]][place[1]], trial["replicate"], trial))
            reasons[place] = ""
        else:
            reasons.setdefault(place, trial["reason"] or "no answers")
    untried = REFUSED if of.tried else NOT_TRIED
    without = collections.Counter(reasons.get((c, m), untried) for c in contexts for m in edits[c])
    every = [trial for of_context in tried.values() for _, _, trial in of_context]
    cells, unadapted = {}, {}
    for metric in every[0]["scores"] if every else ():
        units = {c: _units(metric, [trial for _, _, trial in tried[c]]) for c in contexts}
        cells[metric] = [
            _cells(metric, tried[c], units[c], (len(rows[c]), replicates)) for c in contexts
        ]
        if all(c in plain for c in contexts):
            unadapted[metric] = [
                np.array([_value(metric, plain[c], unit) for unit in units[c]]) for c in contexts
            ]
    fixed = {}
    selection = of.others.get("selection", [])
    if selection and not trials:
        fixed["reward"] = _floats(selection[0]["rewards"])
        without = collections.Counter()
    if "rubric" in of.others:
        fixed["rubric"] = _floats([row for r in of.others["rubric"] for row in r["scores"]])
    for reward, of_contexts in fixed.items():
        if list(map(len, of_contexts)) != [len(rows[c]) for c in contexts]:
            raise LedgerError(f"{of.name}: the scores of {reward!r} are not one a self-edit.")
    without.pop("", None)
    answers = [answer for trial in every for answer in trial["answers"]]
    counts = {
        "answers": len(answers),
        "empty_answers": sum(bool(answer.get("empty")) for answer in answers),
        "ungraded_answers": sum(answer.get("ungraded") is not None for answer in answers),
    }
    return Scored(
        name=of.name,
        contexts=contexts,
        texts=tuple(tuple(edits[c][m]["text"] for m in sorted(edits[c])) for c in contexts),
        cells=cells,
        fixed=fixed,
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


def _units(metric: str, trials: Sequence[Record]) -> list[str]:
    """The questions that have a value of a metric each; [""] where the context alone has one."""
    names = dict.fromkeys(
        answer["question"]
        for trial in trials
        for answer in trial["answers"]
        if _KEYS.get(metric, metric) in answer
    )
    return list(names) or [""]


def _value(metric: str, marked: Record, unit: str) -> float:
    if not unit:
        return _number(marked["scores"].get(metric))
    key = _KEYS.get(metric, metric)
    return next((_number(a.get(key)) for a in marked["answers"] if a["question"] == unit), np.nan)


def _cells(
    metric: str,
    tried: Sequence[tuple[int, int, Record]],
    units: Sequence[str],
    shape: tuple[int, int],
) -> Array:
    """[M, Q, R] of a context's (self-edit, replicate, trial) triples."""
    array = np.full((shape[0], len(units), shape[1]), np.nan)
    for m, r, trial in tried:
        array[m, :, r] = [_value(metric, trial, unit) for unit in units]
    return array


_KEYS = {"accuracy": "correct"}  # what an answer calls its own value of a metric


def _number(value: Any) -> float:
    return np.nan if value is None else float(value)


def _floats(rows: Sequence[Sequence[float | None]]) -> list[Array]:
    return [np.array([_number(value) for value in row]) for row in rows]


def _cost(of: StageRecords, seconds: Mapping[str, float]) -> Record:
    cost: Record = {}
    if of.groups:
        cost["inner_loop_tokens"] = of.real_tokens
        cost["inner_loop_tokens_computed"] = of.computed_tokens
    own = {key: value for key, value in seconds.items() if key.startswith(f"{of.name}: ")}
    if own:
        cost["seconds"] = {key.removeprefix(f"{of.name}: "): value for key, value in own.items()}
    return cost


def _seconds(path: storage.Location) -> Mapping[str, float]:
    """Stage times of the process that finished the run; none where it is not finished."""
    try:
        found = json.loads(storage.read_bytes(path))["seconds"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return found if isinstance(found, dict) else {}
