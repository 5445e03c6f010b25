"""What a run's ledger holds, stage by stage; the run may be in progress, and nothing is changed."""

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

from seal_jax.loop.arms import Arm
from seal_jax.loop.questions import with_questions
from seal_jax.loop.rewards import AGREEMENT, with_likelihoods
from seal_jax.loop.stage import Stage, of_record
from seal_jax.runs.ledger import Ledger, Segment
from seal_jax.tasks.base import Task
from seal_jax.tasks.protocol import Context

Record = dict[str, Any]
Place = tuple[str, int]  # a self-edit's: its context and its number there
_UNMARKED: Record = {"answers": [], "scores": {}}


@dataclasses.dataclass
class StageRecords:
    """The records of one stage.

    Attributes:
      stage: which one.
      edits: of what was sampled: "context", "index", "text", "tokens", "stopped".
      trials: of inner loops, with "answers" and "scores" where they are marked.
      answers: {"answers", "scores"} of a model as it is, by context id.
      planned: how many groups of trials there will be; None where that is not known yet.
      groups: how many are done, and real_tokens and computed_tokens of them.
      others: all records by kind, in the order of the ledger.
    """

    stage: Stage
    edits: list[Record] = dataclasses.field(default_factory=list)
    trials: list[Record] = dataclasses.field(default_factory=list)
    answers: dict[str, Record] = dataclasses.field(default_factory=dict)
    planned: int | None = None
    groups: int = 0
    real_tokens: int = 0
    computed_tokens: int = 0
    others: dict[str, list[Record]] = dataclasses.field(default_factory=dict)

    @property
    def name(self) -> str:
        """The stage's name."""
        return self.stage.name

    @property
    def selected(self) -> dict[Place, tuple[float | None, float]]:
        """The reward and the weight of each self-edit of a round, once they are chosen."""
        return {
            (id, m): pair
            for record in self.others.get("selection", ())
            for id, *rows in zip(
                record["contexts"], record["rewards"], record["weights"], strict=True
            )
            for m, pair in enumerate(zip(*rows, strict=True))
        }

    @property
    def tried(self) -> bool:
        """Whether all of its trials are done."""
        return self.planned is not None and self.groups == self.planned


def read(path: str | os.PathLike[str]) -> dict[str, StageRecords]:
    """The stages of a ledger by name, in the order in which they began.

    In the continual experiment a trial is what was learned of one self-edit under a mitigation,
    numbered by its sequence, with the answers right after it; the answers are those of the start.

    Raises:
      LedgerError: there is none, or it is damaged.
    """
    with Ledger(path, read_only=True) as ledger:
        segments = ledger.segments()
    marks = {s.key: s.record["marks"] for s in segments if s.kind == "marks"}
    found: dict[str, StageRecords] = {}
    for segment in segments:
        stage = of_record(segment.record)
        if stage is None or segment.kind == "marks":
            continue
        of = found.setdefault(stage.name, StageRecords(stage))
        if of.stage.kind == "written":  # a teacher's texts stand with the arm that learns them
            of.stage = stage
        of.others.setdefault(segment.kind, []).append(segment.record)
        _add(of, segment, marks)
    start = found.get(Stage(kind="continual", what="start").name)
    rows = [row for of in (start.others.get("retest", ()) if start else ()) for row in of["rows"]]
    for of in found.values():
        if of.stage.kind == "continual":
            _add_updates(of, rows)
    return found


def belonging(
    of: StageRecords, stages: Mapping[str, StageRecords], arm: Arm | None
) -> tuple[dict[Place, Record], dict[str, Record]]:
    """A stage's self-edits, and the unadapted model's answers by context.

    Args:
      arm: the arm whose inner loops these are: an editor writes once for several arms, and a
        learner answers once. None for a stage that has both itself.
    """
    edits, plain = of.edits, of.answers
    if arm:
        split, none = of.stage.split, StageRecords(of.stage)
        editor = Stage(kind="edits", split=split, what=arm.editor).name
        learner = Stage(kind="unadapted", split=split, what=arm.learner).name
        edits, plain = stages.get(editor, none).edits, stages.get(learner, none).answers
    return {(edit["context"], edit["index"]): edit for edit in edits}, plain


def contexts_of(task: Task, path: str | os.PathLike[str]) -> dict[str, Context]:
    """The contexts of both splits by id, with questions that were written for the run of a ledger,
    and those in which each of them is practised."""
    found = [*task.contexts("train"), *task.contexts("eval")]
    if task.questioner or task.settings.reward.kind == AGREEMENT:
        with Ledger(path, read_only=True) as ledger:
            for segment in ledger.segments("questions"):
                found = [with_questions(context, segment.record) for context in found]
    found += [one for context in found for one in task.practice(context)]
    return {context.id: context for context in found}


def _add(of: StageRecords, segment: Segment, marks: dict[str, list[Record]]) -> None:
    record = segment.record
    if segment.kind in ("trials", "learned"):
        of.real_tokens += record["real_tokens"]
        of.computed_tokens += record["computed_tokens"]
    if segment.kind == "edits":
        of.edits += record.get("edits", [])
    elif segment.kind == "plan":
        of.planned = len(record["groups"])
    elif segment.kind == "answers":
        given = marks.get(f"answers {segment.key}", [_UNMARKED] * len(record["of"]))
        for said, mark in zip(record["of"], given, strict=True):
            of.answers[said["context"]] = with_likelihoods(mark, said["gold_log_likelihoods"])
    elif segment.kind == "trials":
        of.groups += 1
        left = iter(marks.get(f"trials {segment.key}", ()))
        for trial in record["trials"]:
            mark = next(left, _UNMARKED) if trial["reason"] is None else _UNMARKED
            of.trials.append(trial | with_likelihoods(mark, trial["gold_log_likelihoods"]))


def _add_updates(of: StageRecords, start: list[list[Record]]) -> None:
    """Self-edits, trials and answers of a mitigation; its last step may be under way.

    Args:
      start: what the start answers, [sequence][step].
    """
    learned, retests = (iter(of.others.get(kind, [])) for kind in ("learned", "retest"))
    for written in of.others.get("edits", ()):
        step, updates, rows = written["step"], next(learned, {}), next(retests, {})
        for k, (id, s) in enumerate(zip(written["contexts"], written["sequences"], strict=True)):
            own = {"context": id, "index": s}
            of.edits.append({**own, "text": written["texts"][k]})
            if s < len(start):
                of.answers[id] = start[s][step]
            if updates and rows:
                update, said = updates["updates"][k], rows["rows"][k][step]
                of.trials.append({**own, "replicate": 0, **update, **said})
