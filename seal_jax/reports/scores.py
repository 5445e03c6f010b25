"""What analyze looks at: the self-edits of a run's stage or of a scored file, with their scores.

Dims as in `reliability`: C contexts, M self-edits, Q questions, R replicates; arrays of cells are
[M, Q, R], one a context, with NaN where there is no value.
"""

import collections
import dataclasses
import json
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from seal_jax.loop import arm_kinds
from seal_jax.reports import few_shot_trials, scored
from seal_jax.runs import run_dir, storage
from seal_jax.runs.ledger import Ledger, LedgerError, Segment
from seal_jax.stats.reliability import Array

Record = dict[str, Any]

NO_TEXT = "the self-edit holds no text to train on"
NOT_TRIED = "not tried yet"
NO_RECIPE = "the self-edit is no valid recipe, or its recipe was refused"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage:
    """The self-edits of one stage of a run, or of a scored file.

    Attributes:
      name: of the stage.
      contexts: names of the contexts.
      texts: for each context, its self-edits.
      cells: by reward with replicates, for each context [M, Q, R] ("accuracy",
        "gold_log_likelihood"; of a few-shot run "solved", "graded" and "gold_log_likelihood", where
        Q are the tests; Q is 1 for a reward of the self-edit as a whole).
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


def of_scored_file(path: str | os.PathLike[str]) -> list[Stage]:
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
    cells, reasons = [], collections.Counter()
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
        Stage(
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


def of_run(workdir: str | os.PathLike[str]) -> tuple[list[Stage], list[str]]:
    """The stages of a run whose contexts have several self-edits each, and notes on the others.

    The ledger is opened read-only: the run may be in progress.
    """
    folder = storage.locate(workdir)
    ledger = Ledger(folder / "ledger", read_only=True)
    seconds = _seconds(folder / "timing.json")
    by_stage: dict[str, dict[str, list[Segment]]] = {}
    for segment in ledger.segments():
        stage = segment.key.split("/")[0]
        by_stage.setdefault(stage, {}).setdefault(segment.kind, []).append(segment)
    _bring_together(by_stage)
    stages, notes = [], []
    for name, kinds in by_stage.items():
        if "edits" not in kinds:
            continue
        if name.startswith("continual "):
            notes.append(f"{name}: one self-edit at each step, so there is nothing to compare")
            continue
        stage = _stage(name, kinds, seconds)
        if max(map(len, stage.texts)) < 2:
            notes.append(f"{name}: one self-edit a context, so there is nothing to compare")
        elif not (stage.cells or stage.fixed):
            notes.append(f"{name}: no self-edit has been tried yet")
        else:
            stages.append(stage)
    if "curate" in by_stage:
        notes.append(
            "curate tries one recipe on each task and writes no self-edit, so there is nothing to "
            "compare; `report` shows what it found"
        )
    return stages, notes


def _bring_together(by_stage: dict[str, dict[str, list[Segment]]]) -> None:
    """In the evaluation an editor writes once for several arms: gives each arm its self-edits."""
    for arm, kind in arm_kinds.KNOWLEDGE.items():
        own, written = by_stage.get(f"eval {arm}"), by_stage.get(f"eval edits {kind.source}")
        if own and written and "batch" in own:
            own["edits"] = written["edits"]
            plain = by_stage.get(f"eval {kind.learner}", {})
            own.setdefault("unadapted", plain.get("unadapted", []))
    for name in [name for name in by_stage if name.startswith("eval edits ")]:
        del by_stage[name]


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


def _stage(name: str, kinds: Mapping[str, list[Segment]], seconds: Mapping[str, float]) -> Stage:
    """A stage from its segments by kind."""
    edits: dict[str, dict[int, Record]] = {}
    for segment in kinds["edits"]:
        for edit in segment.record["edits"]:
            edits.setdefault(edit["context"], {})[edit["index"]] = edit
    contexts = tuple(edits)
    rows = {c: {m: row for row, m in enumerate(sorted(edits[c]))} for c in contexts}
    trials = [trial for segment in kinds.get("batch", []) for trial in segment.record["trials"]]
    few_shot = any("answers" not in trial for trial in trials)
    if few_shot:
        trials = few_shot_trials.with_answers(trials)
    replicates = 1 + max((trial["replicate"] for trial in trials), default=0)
    answers: dict[str, list[tuple[int, int, Record]]] = {c: [] for c in contexts}
    reasons: dict[tuple[str, int], str] = {}
    for trial in trials:
        place = (trial["context"], trial["index"])
        if place[1] not in rows.get(place[0], {}):
            continue
        if trial["answers"]:
            found = [(rows[place[0]][place[1]], trial["replicate"], a) for a in trial["answers"]]
            answers[place[0]] += found
            reasons[place] = ""
        else:
            reasons.setdefault(place, trial["reason"] or "no answers")
    planned = sum(len(segment.record["groups"]) for segment in kinds.get("plan", []))
    finished = "plan" in kinds and len(kinds.get("batch", [])) == planned
    untried = (NO_RECIPE if few_shot else NO_TEXT) if finished else NOT_TRIED
    without = collections.Counter(reasons.get((c, m), untried) for c in contexts for m in edits[c])
    plain = {c: a for s in kinds.get("unadapted", []) for c, a in s.record.items()}
    if few_shot:
        plain = {c: few_shot_trials.answers(record) for c, record in plain.items()}
    every = [answer for of_context in answers.values() for _, _, answer in of_context]
    cells, unadapted = {}, {}
    for reward, value in (few_shot_trials.VALUES if few_shot else _VALUES).items():
        if not every:
            break
        orders = {c: list(dict.fromkeys(a["question"] for _, _, a in answers[c])) for c in contexts}
        cells[reward] = [
            _cells(answers[c], orders[c], (len(rows[c]), replicates), value) for c in contexts
        ]
        if all(c in plain for c in contexts):
            of_question = {c: {a["question"]: value(a) for a in plain[c]} for c in contexts}
            unadapted[reward] = [
                np.array([of_question[c].get(q, np.nan) for q in orders[c]] or [np.nan])
                for c in contexts
            ]
    if "graded" in cells:  # of the task as a whole, not of each test
        cells["graded"] = [of_context[:, :1] for of_context in cells["graded"]]
    fixed = {}
    selection = kinds.get("selection", [])
    if selection and not trials:
        fixed["reward"] = _floats(selection[0].record["rewards"])
        without = collections.Counter()
    if "rubric" in kinds:
        fixed["rubric"] = _floats([of for s in kinds["rubric"] for of in s.record["scores"]])
    for reward, of_contexts in fixed.items():
        if list(map(len, of_contexts)) != [len(rows[c]) for c in contexts]:
            raise LedgerError(f"{name}: the scores of {reward!r} are not one a self-edit.")
    without.pop("", None)
    return Stage(
        name=name,
        contexts=contexts,
        texts=tuple(tuple(edits[c][m]["text"] for m in sorted(edits[c])) for c in contexts),
        cells=cells,
        fixed=fixed,
        unadapted=unadapted,
        counts={
            "answers": len(every),
            "empty_answers": sum(bool(answer.get("empty")) for answer in every),
            "ungraded_answers": sum(answer["correct"] is None for answer in every),
        }
        if every and not few_shot
        else {},
        without_reward=dict(without),
        cost=_cost(name, kinds, seconds),
    )


def _number(value: Any) -> float:
    return np.nan if value is None else float(value)


_VALUES: Mapping[str, Callable[[Record], float]] = {
    "accuracy": lambda answer: _number(answer["correct"]),
    "gold_log_likelihood": lambda answer: _number(answer["gold_log_likelihood"]),
}


def _cells(answers, questions: list[str], shape: tuple[int, int], value) -> Array:
    """[M, Q, R] of a context's (self-edit, replicate, answer) triples."""
    places = {question: q for q, question in enumerate(questions)}
    array = np.full((shape[0], max(len(questions), 1), shape[1]), np.nan)
    for m, r, answer in answers:
        array[m, places[answer["question"]], r] = value(answer)
    return array


def _floats(rows: Sequence[Sequence[float | None]]) -> list[Array]:
    return [np.array([_number(value) for value in row]) for row in rows]


def _cost(name: str, kinds: Mapping[str, list[Segment]], seconds: Mapping[str, float]) -> Record:
    batches = kinds.get("batch", [])
    cost: Record = {}
    if batches:
        cost["inner_loop_tokens"] = sum(s.record["real_tokens"] for s in batches)
        cost["inner_loop_tokens_computed"] = sum(s.record["computed_tokens"] for s in batches)
    own = {key: value for key, value in seconds.items() if key.startswith(f"{name}: ")}
    if own:
        cost["seconds"] = {key.removeprefix(f"{name}: "): value for key, value in own.items()}
    return cost


def _seconds(path: storage.Location) -> Mapping[str, float]:
    """Stage times of the process that finished the run; none where it is not finished."""
    try:
        found = json.loads(storage.read_bytes(path))["seconds"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return found if isinstance(found, dict) else {}
