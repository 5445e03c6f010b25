"""The stages of a few-shot run, each remembered in the ledger batch by batch."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from seal_jax.core import batching
from seal_jax.loop import memory, stages
from seal_jax.loop.few_shot import trials
from seal_jax.loop.few_shot.session import FewShotSession
from seal_jax.loop.few_shot.trials import Candidate
from seal_jax.loop.run import Run
from seal_jax.loop.writing import Edit
from seal_jax.settings import FewShot
from seal_jax.tasks.arc.arc import ArcTask
from seal_jax.tasks.arc.recipe import Recipe, RecipeError

Record = dict[str, Any]


def sample(
    run: Run[FewShotSession],
    params,
    tasks: Sequence[ArcTask],
    *,
    stage: str,
    samples: int,
    draw: str | None = None,
) -> list[list[Edit]]:
    """Samples M recipes for each task, [C][M]; see `stages.sample`."""
    session = run.session
    return stages.sample(
        run,
        params,
        session.edit_prompts(tasks),
        stage=stage,
        samples=samples,
        draw=draw,
        automaton=session.automaton,
    )


def read(run: Run[FewShotSession], edits: Sequence[Sequence[Edit]]) -> list[list[Recipe | str]]:
    """The recipes that self-edits say, or why they say none."""

    def one(edit: Edit) -> Recipe | str:
        try:
            return run.session.parse(edit.text)
        except RecipeError as error:
            return f"not a recipe: {error}"

    found = [[one(edit) for edit in of_task] for of_task in edits]
    total = sum(map(len, found))
    invalid = sum(isinstance(recipe, str) for of_task in found for recipe in of_task)
    run.say(f"{total - invalid} of {total} self-edits are valid recipes")
    return found


def answer(
    run: Run[FewShotSession], params: Callable[[], Any], tasks: Sequence[ArcTask], *, stage: str
) -> dict[str, Record]:
    """The unadapted model's attempts by task id: in-context learning from all demonstrations."""
    size = run.session.settings.inner.candidates
    found: dict[str, Record] = {}

    def attempt(session: FewShotSession, piece: Sequence[ArcTask]) -> Record:
        made = trials.attempt(session, params(), None, piece, leave_one_out=False)
        return {task.id: record for task, record in zip(piece, made, strict=True)}

    def work(batch: Sequence[ArcTask]) -> Record:
        pieces = memory.in_pieces(run, batch, attempt, stage=f"{stage}: answers")
        return {id: record for piece in pieces for id, record in piece.items()}

    with run.stage(f"{stage}: answers", len(tasks), "task") as progress:
        for record in run.each("unadapted", stages.in_units(stage, tasks, size, work)):
            found |= record
            progress.update(len(record))
    return found


def try_all(
    run: Run[FewShotSession],
    params,
    candidates: Sequence[Candidate],
    *,
    stage: str,
    draw: str | None = None,
) -> tuple[list[Record], batching.Tokens]:
    """Tries every candidate that can be tried.

    Returns:
      The records in the candidates' order, those without attempts with a "reason", and the tokens
      that were trained on and computed.
    """

    def work(session: FewShotSession, group: Sequence[int]) -> Record:
        members = [candidates[i] for i in group]
        return trials.try_group(session, params, members, draw=draw or stage)

    found, tokens = stages.in_batches(
        run,
        [None if candidate.reason else _cost(candidate) for candidate in candidates],
        [candidate.replicate for candidate in candidates],
        work,
        stage=stage,
        show=lambda tried: {"solved": sum(bool(record.get("solved")) for record in tried)},
    )
    records = [
        found.get(i) or {**candidate.describe(), "reason": candidate.reason}
        for i, candidate in enumerate(candidates)
    ]
    solved = sum(bool(record.get("solved")) for record in records)
    failed = sum(record["reason"] is not None for record in records)
    run.say(
        f"{stage}: {len(found)} inner loops on {tokens.real} tokens "
        f"({tokens.real / max(tokens.computed, 1):.0%} of those computed); {solved} solved their "
        f"task, {failed} without a result"
    )
    return records, tokens


def _cost(candidate: Candidate) -> tuple[int, int]:
    """Steps, and tokens of an epoch."""
    return candidate.steps, sum(len(encoded.tokens) for encoded in candidate.encoded)


def reward(record: Record, settings: FewShot) -> float | None:
    """What a trial is worth; None where it has no attempts."""
    if record["reason"] is not None:
        return None
    if settings.reward == "gold_log_likelihood":
        return float(np.mean(record["gold_log_likelihoods"]))
    return float(record[settings.reward])
