"""The stages of a run, each remembered in the ledger batch by batch.

A stage asks the ledger for each of its batches first, so a run that was killed goes on where it
stopped, and what later stages see is always what the ledger holds.
"""

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import numpy as np

from seal_jax.core import batching
from seal_jax.core.constrained import Automaton
from seal_jax.loop import answering, memory, rewards, trials, writing
from seal_jax.loop.run import Run, Unit
from seal_jax.loop.session import Session
from seal_jax.loop.trials import Candidate
from seal_jax.loop.writing import Edit, Prompt
from seal_jax.runs import run_dir, storage
from seal_jax.runs.ledger import Ledger
from seal_jax.settings import Inner, Model, Reward, SettingsError
from seal_jax.tasks.protocol import Context

Record = dict[str, Any]
Item = TypeVar("Item")


def sample(
    run: Run,
    params,
    prompts: Sequence[Prompt],
    *,
    stage: str,
    samples: int,
    draw: str | None = None,
    automaton: Automaton | None = None,
) -> list[list[Edit]]:
    """Samples M texts of each prompt: [C][M]; or takes those of `edits.from_run`.

    Args:
      params: the policy's.
      stage: names the stage in the ledger, and in the keys unless `draw` does.
      draw: stages with the same one sample with the same keys.
      automaton: what the texts are held to, or None.
    """
    settings = run.session.settings.edits
    size = settings.contexts_per_batch
    edits: list[Edit] = []

    def work(batch: Sequence[Prompt]) -> Record:
        if settings.from_run:
            found = _stored_edits(run, batch, stage, samples)
        else:
            written = functools.partial(
                writing.sample,
                params=params,
                draw=draw or stage,
                samples=samples,
                automaton=automaton,
            )
            pieces = memory.in_pieces(
                run,
                batch,
                lambda session, piece: written(session, prompts=piece),
                stage=f"{stage}: sample",
                of=memory.CONTEXTS,
            )
            found = [edit for piece in pieces for edit in piece]
        return {"edits": [edit.record() for edit in found]}

    units = in_units(stage, prompts, size, work)
    with run.stage(f"{stage}: sample", len(prompts) * samples, "text") as progress:
        for record in run.each("edits", units):
            edits += [Edit.from_record(edit) for edit in record["edits"]]
            progress.update(len(record["edits"]))
    lengths = [len(edit.tokens) for edit in edits]
    unfinished = sum(not edit.stopped for edit in edits)
    run.measure(
        stage,
        {
            "tokens of a text": float(np.mean(lengths)),
            "texts cut off": unfinished,
            "empty texts": sum(not edit.text for edit in edits),
        },
    )
    run.say(
        f"{stage}: {len(edits)} texts of {np.mean(lengths):.0f} tokens on average; "
        f"{unfinished} reached the length limit"
    )
    return [edits[i : i + samples] for i in range(0, len(edits), samples)]


def _stored_edits(run: Run, batch: Sequence[Prompt], stage: str, samples: int) -> list[Edit]:
    """The texts that another run sampled in the stage of the same name.

    Raises:
      SettingsError: it has none of them, or another model wrote them.
    """
    workdir = run.session.settings.edits.from_run
    if not storage.is_folder(storage.locate(f"{workdir}/ledger")):
        raise SettingsError(f"edits.from_run={workdir} is not the directory of a run.")
    stored = run_dir.read_config(workdir)["model"]
    writer = Model(path=stored["path"], adapter=stored.get("adapter", "")).name
    if writer != run.session.settings.model.name:
        raise SettingsError(
            f"the self-edits of edits.from_run={workdir} are by model.path={writer!r}, not by "
            f"{run.session.settings.model.name!r}."
        )
    with Ledger(f"{workdir}/ledger", read_only=True) as records:
        segments = [s for s in records.segments("edits") if s.key.rpartition("/")[0] == stage]
    known = {(e["context"], e["index"]): e for s in segments for e in s.record["edits"]}
    wanted = [(prompt.id, m) for prompt in batch for m in range(samples)]
    missing = [key for key in wanted if key not in known]
    if missing:
        context, index = missing[0]
        raise SettingsError(
            f"edits.from_run={workdir} has no text {index} of {context!r} in its stage {stage!r} "
            f"({len(missing)} of {len(wanted)} are missing): the contexts, edits.samples and "
            "evaluation.edits must be those of that run."
        )
    return [Edit.from_record(known[key]) for key in wanted]


def answer(
    run: Run,
    params: Callable[[], Any],
    contexts: Sequence[Context],
    *,
    stage: str,
    width: int,
    passage: bool = False,
) -> dict[str, list[Record]]:
    """One model's answers to every context's questions, by context id.

    Args:
      params: makes the model's parameters; only called if answers are missing in the ledger.
      width: see Session.query_width.
      passage: whether each question comes with its passage.
    """
    size = run.session.settings.inner.candidates
    answers: dict[str, list[Record]] = {}
    made = functools.cache(params)

    def ask(session: Session, piece: Sequence[Context]) -> Record:
        found = answering.ask(session, made(), None, piece, width, passage=passage)
        return {context.id: answers for context, answers in zip(piece, found, strict=True)}

    def work(batch: Sequence[Context]) -> Record:
        pieces = memory.in_pieces(run, batch, ask, stage=f"{stage}: answers")
        return {id: record for piece in pieces for id, record in piece.items()}

    units = in_units(stage, contexts, size, work)
    if any(run.ledger.find("unadapted", key) is None for key, _ in units):
        made()  # by all hosts, also by those that answer nothing
    with run.stage(f"{stage}: answers", len(contexts), "context") as progress:
        for record in run.each("unadapted", units):
            answers |= record
            progress.update(len(record))
    return answers


def in_units(
    stage: str, items: Sequence[Item], size: int, work: Callable[[Sequence[Item]], Record]
) -> list[Unit]:
    """Units of work of `size` items each, for `Run.each`.

    >>> [(key, work()) for key, work in in_units("eval", "abc", 2, lambda part: {"is": part})]
    [('eval/0', {'is': 'ab'}), ('eval/1', {'is': 'c'})]
    """
    return [
        (f"{stage}/{number}", functools.partial(work, items[first : first + size]))
        for number, first in enumerate(range(0, len(items), size))
    ]


def score_by_rubric(
    run: Run, contexts: Sequence[Context], edits: Sequence[Sequence[Edit]], *, stage: str
) -> list[list[float]]:
    """The rubric's scores of self-edits [C][M]; NaN where the judge gave none."""
    rubric = run.session.rubric
    assert rubric is not None, "Settings has a judge wherever the reward is the rubric"

    def work() -> Record:
        pairs = [
            (context, edit.text) for context, of in zip(contexts, edits, strict=True) for edit in of
        ]
        found = iter(rubric.score(pairs))
        scored = [[next(found) for _ in of] for of in edits]
        return {
            "scores": [[score for score, _ in of] for of in scored],
            "reasons": [[reason for _, reason in of] for of in scored],
        }

    scores = run.once("rubric", stage, work)["scores"]
    return [[float("nan") if score is None else score for score in of] for of in scores]


def candidates_of(
    session: Session,
    contexts: Sequence[Context],
    sequences: Sequence[Sequence[Sequence[str]]],
    *,
    replicates: int = 1,
    ask: Sequence[Context] | None = None,
) -> list[Candidate]:
    """Candidates of the self-edits' training sequences [C][M][N], each `replicates` times.

    Args:
      ask: for each context, the one whose questions the mismatched control asks.
    """
    return [
        Candidate(
            context=context,
            index=m,
            replicate=replicate,
            trimmed=trials.tokenize(session, texts),
            ask=ask[c] if ask else None,
        )
        for c, context in enumerate(contexts)
        for m, texts in enumerate(sequences[c])
        for replicate in range(replicates)
    ]


def try_all(
    run: Run,
    params,
    candidates: Sequence[Candidate],
    *,
    stage: str,
    width: int,
    draw: str | None = None,
    recipe: Inner | None = None,
) -> tuple[list[Record], batching.Tokens]:
    """Tries every candidate.

    Args:
      params: of the model that is adapted.
      recipe: see `trials.train_group`.

    Returns:
      The records in the candidates' order, and the tokens that were trained on and computed.
    """

    def work(session: Session, group: Sequence[int]) -> Record:
        members = [candidates[i] for i in group]
        return trials.try_group(
            session, params, members, draw=draw or stage, width=width, recipe=recipe
        )

    found, tokens = in_batches(
        run,
        [(len(c.lengths), sum(c.lengths)) if c.lengths else None for c in candidates],
        [candidate.replicate for candidate in candidates],
        work,
        stage=stage,
        show=functools.partial(_reward_so_far, run.session.settings.reward),
    )
    records: list[Record] = [
        found.get(i)
        or {
            **trials.describe(c),
            "answers": [],
            "reason": "the self-edit holds no text to train on",
        }
        for i, c in enumerate(candidates)
    ]
    run.measure(
        stage,
        {
            "trained tokens": tokens.real,
            "real share of tokens": tokens.real / max(tokens.computed, 1),
            "trials without a result": sum(record["reason"] is not None for record in records),
            "last loss": _mean([record.get("last_loss") for record in records]),
            "empty answers": sum(a["empty"] for record in records for a in record["answers"]),
        },
    )
    run.say(
        f"{stage}: {len(found)} inner loops on {tokens.real} tokens "
        f"({tokens.real / max(tokens.computed, 1):.0%} of those computed); "
        f"{sum(record['reason'] is not None for record in records)} without a result"
    )
    cut = sum(r["dropped_tokens"] + r["dropped_sequences"] > 0 for r in records)
    if cut:
        run.say(
            f"{stage}: {cut} self-edits were cut to inner.max_sequences and the largest of "
            "inner.buckets"
        )
    return records, tokens


def _reward_so_far(reward: Reward, tried: Iterable[Record]) -> dict[str, float]:
    """The mean reward of the adapted models so far; functions of one's own are not asked twice."""
    if not reward.needs_inner_loop or reward.function():
        return {}
    found = _mean(rewards.value(record["answers"], reward) for record in tried)
    return {} if found is None else {"reward": found}


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def in_batches(
    run: Run,
    costs: Sequence[tuple[int, ...] | None],
    replicates: Sequence[int],
    work: Callable[[Any, Sequence[int]], Record],
    *,
    stage: str,
    show: Callable[[Iterable[Record]], dict[str, float]] = lambda tried: {},
) -> tuple[dict[int, Record], batching.Tokens]:
    """Tries candidates group by group; a group is of one replicate and of like cost.

    The plan of groups is a function of the arguments and K, and is recorded first. Where the device
    has too little memory for a group, it is tried in pieces; its record says so.

    Args:
      costs: of each candidate, see `batching.plan`; None for those that cannot be tried.
      replicates: of each candidate.
      work: tries the candidates of these numbers in a session that holds so many; returns
        {"trials": a record for each, "real_tokens", "computed_tokens"}.
      show: figures of what was tried so far, for who is watching.

    Returns:
      The records of those that were tried by their number, and the tokens that were trained on and
      computed.
    """
    size = memory.candidates(run)
    groups: list[list[int]] = []
    for replicate in sorted(set(replicates)):
        costed = [(i, cost) for i, cost in enumerate(costs) if cost and replicates[i] == replicate]
        planned = batching.plan([cost for _, cost in costed], size=size)
        groups += [[costed[j][0] for j in group] for group in planned]
    plan = run.once("plan", stage, lambda: {"candidates_per_batch": size, "groups": groups})

    def tried(group: list[int]) -> Record:
        pieces = memory.in_pieces(run, group, work, stage=f"{stage}: adapt")
        whole: Record = {
            "trials": [trial for piece in pieces for trial in piece["trials"]],
            "real_tokens": sum(piece["real_tokens"] for piece in pieces),
            "computed_tokens": sum(piece["computed_tokens"] for piece in pieces),
        }
        fitting = memory.candidates(run)
        if fitting != plan["candidates_per_batch"]:
            whole |= {"candidates_per_batch": fitting, "split": "out of memory"}
        return whole

    records: dict[int, Record] = {}
    real = computed = 0
    with run.stage(f"{stage}: adapt", len(costs), "edit") as progress:
        progress.update(sum(cost is None for cost in costs))
        units = [
            (f"{stage}/{number}", functools.partial(tried, group))
            for number, group in enumerate(plan["groups"])
        ]
        for group, batch in zip(plan["groups"], run.each("batch", units), strict=True):
            records |= dict(zip(group, batch["trials"], strict=True))
            real += batch["real_tokens"]
            computed += batch["computed_tokens"]
            progress.update(len(group), **show(records.values()))
    return records, batching.Tokens(real=real, computed=computed)
