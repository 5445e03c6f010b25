"""What the page's explorer shows: contexts, their self-edits by reward, questions and answers.

It is one JSON value, read when something is opened. Long lists of like things are arrays in a fixed
order (`explorer.js` names their places), and grids are texts such as "012/300".
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from seal_jax.loop import rewards
from seal_jax.reports.html import continual_records
from seal_jax.reports.html.arm_names import kinds
from seal_jax.reports.html.run_records import RunRecords, is_continual
from seal_jax.reports.html.texts import Texts
from seal_jax.settings import Reward

Record = dict[str, Any]


def data(run: RunRecords, texts: Texts) -> Record:
    """The explorer's content.

    Returns:
      {"few_shot", "unit" (of what self-edits are sorted by), "stages", "contexts", "note"}, ready
      for JSON. A stage names its contexts by their place in "contexts".
    """
    known: dict[str, Record] = {}
    stages = []
    for name in run.stages:
        shown = _stage(run, texts, name, known)
        if shown["contexts"]:
            stages.append(shown)
    places = {id: place for place, id in enumerate(known)}
    for stage in stages:
        for context in stage["contexts"]:
            context["at"] = places[context.pop("id")]
    return {
        "few_shot": run.few_shot,
        "stages": stages,
        "contexts": [_finished(context) for context in known.values()],
        "note": texts.note,
    }


def _stage(run: RunRecords, texts: Texts, name: str, known: dict[str, Record]) -> Record:
    written, plain, source = _belonging(run, name)
    scores, weights = _selection(run, name)
    trials: dict[str, dict[int, list[Record]]] = {}
    for trial in _trials(run, name):
        trials.setdefault(trial["context"], {}).setdefault(trial["index"], []).append(trial)
    own = [] if source or is_continual(name) else plain
    ids = dict.fromkeys([*written, *trials, *own])
    contexts = []
    for id in ids:
        about = known.setdefault(id, _about(run, texts, id))
        numbers = sorted({*written.get(id, {}), *trials.get(id, {})})
        edits = []
        for number in numbers:
            tried = trials.get(id, {}).get(number, [])
            edit = written.get(id, {}).get(number)
            reward = scores.get(id, {}).get(number) if scores else _reward(run, tried)
            edits.append(
                {
                    "number": number,
                    "reward": reward,
                    "kept": weights.get(id, {}).get(number, 0) > 0,
                    "text": edit["text"] if edit else None,
                    "cut": edit is not None and not edit.get("stopped", True),
                    "sequences": _sequences(run, texts, about, id, edit, source),
                    "trials": [_trial(run, about, trial) for trial in tried],
                }
            )
        edits.sort(key=lambda edit: (edit["reward"] is None, -(edit["reward"] or 0)))
        base = plain.get(id)
        contexts.append({"id": id, "edits": edits, "base": base and _answered(run, about, base)})
    arm = kinds(run).get(name.removeprefix("eval "))
    return {
        "name": name,
        "label": f"evaluation: {arm.label}" if arm else name,
        "unit": _unit(run, bool(scores)),
        "contexts": contexts,
    }


def _belonging(run: RunRecords, name: str) -> tuple[dict, Record, str]:
    """A stage's self-edits by context and number, unadapted answers, and an arm's source."""
    plain, source, of = run.merged(name, "unadapted"), "", name
    if is_continual(name):
        plain = continual_records.unadapted(run)
    arm = kinds(run).get(name.removeprefix("eval "))
    if arm and name.startswith("eval ") and run.trials(name):
        source = arm.source
        plain = run.merged(f"eval {arm.learner}", "unadapted")
        of = f"eval edits {source}"
    elif name.startswith("eval edits "):
        return {}, {}, ""  # shown with the arms that learn from them
    found: dict[str, dict[int, Record]] = {}
    for edit in _edits(run, of):
        found.setdefault(edit["context"], {})[edit["index"]] = edit
    if source == "teacher":
        for record in run.stages.get("eval", {}).get("teacher", []):
            for id, written in record["texts"].items():
                found[id] = {m: {"text": text} for m, text in enumerate(written)}
    return found, plain, source


def _edits(run: RunRecords, stage: str) -> list[Record]:
    """A stage's self-edits."""
    if is_continual(stage):
        return continual_records.edits(run, stage)
    records = run.stages.get(stage, {}).get("edits", [])
    return [edit for record in records for edit in record["edits"]]


def _trials(run: RunRecords, stage: str) -> list[Record]:
    """A stage's inner loops."""
    return continual_records.trials(run, stage) if is_continual(stage) else run.trials(stage)


def _selection(run: RunRecords, name: str) -> tuple[dict, dict]:
    """Rewards and weights of a round, by context and number."""
    scores: dict[str, dict[int, float | None]] = {}
    weights: dict[str, dict[int, float]] = {}
    for record in run.stages[name].get("selection", []):
        for id, of_reward, of_weight in zip(
            record["contexts"], record["rewards"], record["weights"], strict=True
        ):
            scores[id] = dict(enumerate(of_reward))
            weights[id] = dict(enumerate(of_weight))
    return scores, weights


def _unit(run: RunRecords, selected: bool) -> str:
    if run.continual:
        return "gold_log_likelihood"
    kind = run.setting("few_shot.reward" if run.few_shot else "reward.kind", "gold_log_likelihood")
    if selected or run.few_shot or kind in ("accuracy", "gold_log_likelihood", "mix"):
        return str(kind)
    return "gold_log_likelihood"


def _reward(run: RunRecords, trials: Sequence[Record]) -> float | None:
    """What a self-edit is worth by the run's reward, where no selection has recorded it."""
    unit = _unit(run, False)
    tried = [trial for trial in trials if trial["reason"] is None]
    if run.few_shot:
        found = [
            float(np.mean(trial["gold_log_likelihoods"]))
            if unit == "gold_log_likelihood"
            else float(trial[unit])
            for trial in tried
        ]
        return float(np.mean(found)) if found else None
    mix = run.setting("reward.mix", Reward().mix)
    score = rewards.score(tried, Reward(kind=unit, mix=mix))
    return None if np.isnan(score) else score


def _about(run: RunRecords, texts: Texts, id: str) -> Record:
    """A context as far as it is known; questions are added as answers name them."""
    if run.few_shot:
        task = texts.tasks.get(id)
        about: Record = {"id": id, "title": f"task {id}"}
        if task:
            about["demonstrations"] = [
                [_grid(p.input), _grid(p.output)] for p in task.demonstrations
            ]
            about["tests"] = [[_grid(p.input), _grid(p.output)] for p in task.tests]
        return about
    context = texts.contexts.get(id)
    title = run.results.get("contexts", {}).get(id, {}).get("title")
    about = {"id": id, "title": context.title if context else title or id}
    about |= {"text": context.text if context else None, "questions": {}, "sequences": {}}
    about["asked"] = {q.id: [q.text, q.answer] for q in context.questions} if context else {}
    return about


def _finished(about: Record) -> Record:
    """Without what was only needed to make it."""
    if "asked" in about:
        asked = about.pop("asked")
        about["questions"] = [asked.get(id, [id, None]) for id in about["questions"]]
        about["sequences"] = list(about["sequences"])
    return about


def _sequences(
    run: RunRecords, texts: Texts, about: Record, id: str, edit: Record | None, source: str
) -> list[int] | None:
    """Places of the training sequences among the context's; None where they are not known."""
    if run.few_shot:
        return None
    if edit is not None:
        found = texts.sequences(id, edit["text"])
    elif source in ("passage", "passage_steps"):
        found = texts.passage(id)
    else:
        return None
    if id not in texts.contexts:
        return None
    return [about["sequences"].setdefault(one, len(about["sequences"])) for one in found]


def _trial(run: RunRecords, about: Record, trial: Record) -> Record:
    """One inner loop."""
    shown = {
        key: trial[key]
        for key in ("replicate", "reason", "steps", "recipe", "examples", "unreadable")
        if trial.get(key) is not None
    }
    losses = [trial.get("first_loss"), trial.get("last_loss")]
    shown["losses"] = losses
    left_out = [trial.get("dropped_sequences", 0), trial.get("dropped_tokens", 0)]
    if any(left_out):
        shown["left_out"] = left_out
    answered = trial if run.few_shot else trial["answers"]
    if trial["reason"] is None:
        shown["answers"] = _answered(run, about, answered)
    return shown


def _answered(run: RunRecords, about: Record, found: Any) -> Any:
    """Knowledge: [question's place, text, verdict, log-likelihood] each; few-shot: the attempts."""
    if run.few_shot:
        return {
            "attempts": [[_grid(grid) for grid in of] for of in found["attempts"]],
            "solved": found["solved_tests"],
            "likelihoods": [_rounded(value) for value in found["gold_log_likelihoods"]],
            "graded": _rounded(found["graded"]),
        }
    places = about["questions"]
    return [
        [
            places.setdefault(answer["question"], len(places)),
            answer["text"],
            answer["correct"],
            _rounded(answer["gold_log_likelihood"]),
            *([answer["ungraded"]] if answer.get("ungraded") else []),
        ]
        for answer in found
    ]


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def _grid(grid: Any) -> str | None:
    """Rows of digits, "/" between them."""
    return None if grid is None else "/".join("".join(map(str, row)) for row in np.asarray(grid))
