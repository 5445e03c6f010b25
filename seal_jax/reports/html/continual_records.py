"""The continual experiment's records as the explorer shows those of a round."""

from typing import Any

from seal_jax.reports.html.run_records import RunRecords

Record = dict[str, Any]


def edits(run: RunRecords, stage: str) -> list[Record]:
    """The self-edits under a cure, numbered by their sequences."""
    return [
        {"context": id, "index": sequence, "text": text}
        for record in run.stages.get(stage, {}).get("edits", [])
        if _named(record)
        for id, sequence, text in zip(
            record["contexts"], record["sequences"], record["texts"], strict=True
        )
    ]


def trials(run: RunRecords, stage: str) -> list[Record]:
    """Each self-edit's update under a cure, and what was answered about its passage right after."""
    of = run.stages.get(stage, {})
    found = []
    # One of each a step, in the order of the steps; the last step may be under way.
    for written, learned, asked in zip(
        *(of.get(kind, []) for kind in ("edits", "learned", "retest")), strict=False
    ):
        for k, update in enumerate(learned["updates"] if _named(written) else ()):
            answers = _whole(asked["rows"][k][written["step"]])
            own = {"context": written["contexts"][k], "index": written["sequences"][k]}
            found.append(update | own | {"replicate": 0, "answers": answers})
    return found


def unadapted(run: RunRecords) -> dict[str, list[Record]]:
    """What the start answers about each passage of which there is a self-edit."""
    groups = run.stages.get("continual start", {}).get("retest", [])
    rows = [row for record in groups for row in record["rows"]]
    return {
        id: _whole(rows[sequence][record["step"]])
        for of in run.stages.values()
        for record in of.get("edits", [])
        if _named(record)
        for id, sequence in zip(record["contexts"], record["sequences"], strict=True)
    }


def _named(record: Record) -> bool:
    """Whether a record says whose its self-edits are; the first versions' records do not."""
    return "contexts" in record


def _whole(answers: list[Record]) -> list[Record]:
    """Answers of which only the likelihood may have been asked for, with a place for the rest."""
    return [{"text": None, "correct": None} | answer for answer in answers]
