"""What a run was, and what its stages took."""

from seal_jax.reports.records import StageRecords
from seal_jax.reports.run_records import Record, RunRecords

_HIGHLIGHTS = """
task model.path model.adapter model.dtype prompts.edit_format edits.samples edits.temperature
edits.directives restem.rounds restem.contexts_per_round restem.rule restem.update reward.kind
reward.replicates inner.lora.rank inner.learning_rate inner.epochs continual.sequences
continual.passages continual.writer continual.mitigations continual.bounds evaluation.contexts
evaluation.edits data.train_path data.eval_path policy_from seed
""".split()
# Settings that are of one kind of run, and say nothing of another.
_ONLY_ROUNDS = ("restem.", "reward.", "evaluation.", "edits.samples")
_ONLY_PASSAGES = ("prompts.", "data.", "restem.contexts", "evaluation.contexts")


def about(run: RunRecords) -> Record:
    """The settings that matter and all of them, model, grader and versions, and what was left out.

    Returns:
      {"title", "highlights", "settings" (rows), "facts", "left_out" (rows)}.
    """
    # A task with a group of settings says there what it is about: where it is from, and how much.
    own = f"{run.settings.get('task')}."
    named = [key for key in run.settings if key.startswith((f"{own}train", f"{own}eval"))]
    others = (*(_ONLY_PASSAGES if named else ()), *(_ONLY_ROUNDS if run.continual else ()))
    others += () if run.continual else ("continual.",)
    highlights = {
        key: run.settings[key]
        for key in _HIGHLIGHTS
        if run.settings.get(key) not in (None, "", []) and not key.startswith(others)
    }
    for key in named:
        value = run.settings[key]
        highlights[key] = (len(value) or "all") if isinstance(value, list) else value
    facts = {key: run.results.get(key) for key in ("model", "grader")}
    facts |= run.results.get("versions", {})
    found = run.results.get("left_out", {})
    if "split" in run.config:  # what curate takes
        found = {run.config["split"]: found}
    left_out = [(split, *pair) for split, of in found.items() for pair in of.items()]
    settings = [(key, {"code": value}) for key, value in run.settings.items()]
    return {
        "title": "Settings", "highlights": highlights, "settings": settings, "facts": facts,
        "left_out": left_out,
    }  # fmt: skip


def cost(run: RunRecords) -> Record:
    """What each stage recorded, trained on and took.

    Returns:
      {"title", "rows", "notes"}.
    """
    seconds = run.timing.get("seconds", {})
    rows, counts = [], []
    for stage, of in run.stages.items():
        counts.append([len(of.trials), of.real_tokens, of.computed_tokens])
        own = {key: value for key, value in seconds.items() if key.startswith(f"{stage}: ")}
        parts = (f"{key[len(stage) + 2 :]} {_duration(value)}" for key, value in own.items())
        shown = [f"{n:,}" if n else "" for n in counts[-1]]
        time = _duration(sum(own.values())) if own else ""
        rows.append([stage, len(of.edits) or "", _progress(of), *shown, time, ", ".join(parts)])
    notes = ["Tokens are those of the inner loops; computed ones include padding."]
    if rows:
        totals, total = [sum(of) for of in zip(*counts, strict=True)], seconds.get("total")
        shown = [f"{n:,}" for n in totals]
        rows.append(["all", "", "", *shown, _duration(total) if total else "", ""])
    if not seconds:
        notes.append("Times are written when the run is finished.")
    elif run.timing.get("resumed"):
        notes.append("Times are of the last process only: the run was continued.")
    elif rows and totals[0] and total:
        notes.append(f"{totals[0] / total * 3600:,.0f} inner loops an hour, all stages counted.")
    return {"title": "Time and cost", "rows": rows, "notes": notes}


def _progress(of: StageRecords) -> str:
    """Batches done, and of how many where some are missing."""
    if of.planned and of.groups < of.planned:
        return f"{of.groups} of {of.planned}"
    return str(of.groups or "")


def _duration(seconds: float) -> str:
    """A time for people.

    >>> _duration(7.25), _duration(125), _duration(7300)
    ('7.2 s', '2 min 05 s', '2 h 01 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"
