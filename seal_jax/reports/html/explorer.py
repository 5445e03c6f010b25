"""What the page's explorer shows: contexts, their self-edits by reward, questions and answers.

It is one JSON value, read when something is opened. Long lists of like things are arrays in a fixed
order (`explorer.js` names their places), and grids are texts such as "012/300".
"""

import collections
from typing import Any

from seal_jax.loop import rewards
from seal_jax.loop.arms import Arm
from seal_jax.loop.stage import Stage
from seal_jax.reports import records
from seal_jax.reports.formats import FORMS, form
from seal_jax.reports.records import Place, StageRecords
from seal_jax.reports.run_records import Record, RunRecords
from seal_jax.settings import Reward
from seal_jax.tasks.protocol import Chat, Lesson, Refusal
from seal_jax.tasks.sources import ContextAlone


def data(run: RunRecords) -> Record:
    """The explorer's content.

    Returns:
      {"word" (what a context is called), "whole" (the main metric, where a context as a whole has
      it or not), "stages" (each with the "unit" of its self-edits' rewards), "contexts", "forms"
      (of numbers)}, ready for JSON. A stage names its contexts by their place in "contexts".
    """
    main = run.metrics[0]
    explorer = _Explorer(run)
    stages = [explorer.stage(of) for of in run.stages.values()]
    return {
        "word": run.words["context"],
        "whole": main.name if main.per == "context" and main.share else None,
        "main": main.name,
        "stages": [stage for stage in stages if stage["contexts"]],
        "contexts": [_finished(context) for context in explorer.known.values()],
        "forms": FORMS | {of.name: form(of) for of in run.metrics},
    }


class _Explorer:
    """Makes stages, and meanwhile gathers what they say of contexts.

    Attributes:
      known: contexts by id.
    """

    def __init__(self, run: RunRecords):
        self.known: dict[str, Record] = {}
        self._run = run
        self._metric = run.metrics[0].name
        self._main = "correct" if self._metric == "accuracy" else self._metric
        self._mix = run.settings.get("reward.mix", Reward().mix)
        self._chats = False  # whether lessons are chats, which are not shown

    def stage(self, of: StageRecords) -> Record:
        """A stage with its contexts and their self-edits."""
        run = self._run
        name = _arm_name(run, of.stage)
        arm = run.arms.get(name)
        written, plain = _belonging(run, of, arm)
        selected = of.selected
        unit = _unit(run, bool(selected))
        reward_of = Reward(kind=unit, mix=self._mix)
        trials: dict[Place, list[Record]] = collections.defaultdict(list)
        for trial in of.trials:
            trials[trial["context"], trial["index"]].append(trial)
        ids = [*(id for id, _ in [*written, *trials]), *(() if of.trials else plain)]
        edits: dict[str, list[Record]] = {id: [] for id in ids}
        for id in edits:
            self.known.setdefault(id, _about(run, id))
        for place in sorted({*written, *trials}):
            id, number = place
            edit, tried = written.get(place), trials.get(place, [])
            reward, weight = selected.get(place, (None, 0))
            if not selected:
                reward = rewards.score(tried, reward_of, self._metric)
            sequences, refused = self._lesson(id, edit, arm, untaught=of.tried and not tried)
            edits[id].append(
                {
                    "number": number,
                    "reward": reward,
                    "kept": weight != 0,
                    "text": edit and edit["text"],
                    "cut": not (edit or {}).get("stopped", True),
                    "head": next((trial["head"] for trial in tried if trial.get("head")), ""),
                    "sequences": sequences,
                    "refused": refused,
                    "trials": [self._trial(id, trial) for trial in tried],
                }
            )
        places = list(self.known)
        contexts = [
            {
                "at": places.index(id),
                "edits": sorted(own, key=lambda e: (e["reward"] is None, -(e["reward"] or 0))),
                "base": self._answered(id, plain[id]) if id in plain else None,
            }
            for id, own in edits.items()
        ]
        label = f"evaluation: {run.arm_label(name)}" if arm else of.name
        return {"name": of.name, "label": label, "unit": unit, "contexts": contexts}

    def _lesson(
        self, id: str, edit: Record | None, arm: Arm | None, *, untaught: bool
    ) -> tuple[list[int] | None, str]:
        """Places of the training sequences among the context's, where they are texts and known; and
        why a self-edit teaches nothing, where it was left out for that."""
        task, context = self._run.task, self._run.contexts.get(id)
        source = task.sources.get(arm.source) if arm else None
        if context is None or (self._chats and not untaught):
            return None, ""
        if edit and source:  # a teacher's: directives are a policy's
            lesson = task.read_body(context, edit["text"])
        elif edit:
            lesson = task.read(context, edit["text"], 0)
        elif isinstance(source, ContextAlone):
            lesson = Lesson(sequences=tuple(task.context_sequences(context)))
        else:
            return None, ""
        if isinstance(lesson, Refusal):
            return [], lesson.reason
        self._chats = any(isinstance(one, Chat) for one in lesson.sequences)
        known = self.known[id]["sequences"]
        if self._chats:
            return None, ""
        return [known.setdefault(one, len(known)) for one in lesson.sequences], ""

    def _trial(self, id: str, trial: Record) -> Record:
        """One inner loop."""
        shown = {key: trial.get(key) for key in ("replicate", "reason", "steps", "sequences")}
        shown["losses"] = [trial.get("first_loss"), trial.get("last_loss")]
        shown["left_out"] = [trial.get(f"dropped_{of}", 0) for of in ("sequences", "tokens")]
        whole = [of.name for of in self._run.metrics if of.per == "context"]
        shown["scores"] = {name: trial["scores"].get(name) for name in whole}
        if trial["answers"]:
            shown["answers"] = self._answered(id, trial)
        return shown

    def _answered(self, id: str, marked: Record) -> list[list[Any]]:
        """[question's place, text or attempts, verdict, log-likelihood, and a note if any] each.

        A verdict is null where there is none, and a number where the main metric is; what was said
        is null where only the likelihood was asked for. Notes are of answers that are not graded,
        and of votes.
        """
        places, found = self.known[id]["questions"], []
        for answer in marked["answers"]:
            nats = answer.get("gold_log_likelihood")
            shown = [
                places.setdefault(answer["question"], len(places)),
                _grids(answer["attempts"]) if "attempts" in answer else answer.get("text"),
                answer.get(self._main),
                None if nats is None else round(nats, 3),
            ]
            if answer.get("ungraded"):
                shown.append(answer["ungraded"])
            elif votes := answer.get("votes"):
                shown.append(f"{votes[answer['text']]} of {sum(votes.values())} votes")
            found.append(shown)
        return found


def _arm_name(run: RunRecords, stage: Stage) -> str:
    """The arm whose answers a stage has; "" for none."""
    if stage.kind not in ("arm", "unadapted") or stage.split != "eval":
        return ""
    return stage.what if stage.what in run.arms else f"policy_{stage.what}"


def _belonging(
    run: RunRecords, of: StageRecords, arm: Arm | None
) -> tuple[dict[Place, Record], dict[str, Record]]:
    """A stage's self-edits, a teacher's among them, and unadapted answers by context."""
    if of.stage.kind == "edits" and of.stage.split == "eval":
        return {}, {}  # shown with the arms that learn from them
    written, plain = records.belonging(of, run.stages, arm if of.trials else None)
    for record in of.others.get("teacher", ()):
        for id, texts in record["texts"].items():
            written |= {(id, m): {"text": text} for m, text in enumerate(texts)}
    return written, plain


def _unit(run: RunRecords, selected: bool) -> str:
    """What the rewards of a stage are."""
    kind = str(run.settings.get("reward.kind", "gold_log_likelihood"))
    known = selected or kind in (*(of.name for of in run.metrics), "mix")
    return kind if known and not run.continual else "gold_log_likelihood"


def _about(run: RunRecords, id: str) -> Record:
    """A context as far as it is known; questions are added as answers name them.

    Of what its task shows, "tests" stand with the questions, in their order, and a context that has
    them is shown by pictures alone.
    """
    context = run.contexts.get(id)
    shown = _grids(dict(run.task.show(context))) if context else {}
    tests = shown.pop("tests", None)
    read = run.settings.get("reward.kind") == rewards.AGREEMENT and context
    by = " (said the reading model)" if read and id not in run.results.get("contexts", {}) else ""
    title = context.title if context else run.results.get("contexts", {}).get(id, {}).get("title")
    return {
        "id": id,
        "title": f"{run.words['context']} {id}" if title in (None, id) else title,
        "text": context.text if context and not tests else None,
        "shown": shown,
        "tests": tests,
        "questions": {},
        "sequences": {},
        "asked": {q.id: [q.text, (q.answer and q.answer + by) or None] for q in context.questions}
        if context
        else {},
    }


def _finished(about: Record) -> Record:
    """Without what was only needed to make it."""
    asked = about.pop("asked")
    about["questions"] = [asked.get(id, [id, None]) for id in about["questions"]]
    about["sequences"] = list(about["sequences"])
    return about


def _grids(value: Any) -> Any:
    """JSON values with each grid as rows of digits, "/" between them."""
    if isinstance(value, dict):
        return {key: _grids(one) for key, one in value.items()}
    if not isinstance(value, list):
        return value
    rows = [row for row in value if isinstance(row, list) and row]
    cells = [cell for row in rows for cell in row]
    if cells and len(rows) == len(value) and all(type(c) is int and 0 <= c <= 9 for c in cells):
        return "/".join("".join(map(str, row)) for row in value)
    return [_grids(one) for one in value]
