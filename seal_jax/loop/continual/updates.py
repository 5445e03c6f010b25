"""A group of sequences under a mitigation: self-edit, update, merge, and ask again, step by step.

The group's K models are the base parameters with K total deltas: every earlier update of a sequence
has its place in it, beside the others.
"""

import dataclasses
import functools
import math
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from seal_jax.core import inner, retention
from seal_jax.core.delta import Delta
from seal_jax.core.randomness import keys_for
from seal_jax.loop import answering, attempt, inner_loop
from seal_jax.loop.continual.mitigations import Mitigation
from seal_jax.loop.run import Run
from seal_jax.loop.session import Bounds, EncodedLesson, Session
from seal_jax.loop.stage import Stage
from seal_jax.runs.checkpoints import CheckpointError
from seal_jax.runtime import interruption
from seal_jax.runtime.progress import Progress
from seal_jax.settings import Continual
from seal_jax.stats.intervals import mean
from seal_jax.tasks.protocol import Context, Lesson, Refusal
from seal_jax.weights import tokenizer

Record = dict[str, Any]
Tokens = Sequence[int]
_SUBJECT = "Write a few sentences about a subject that you know well."


@dataclasses.dataclass(frozen=True, kw_only=True)
class Group:
    """Sequences that are trained together.

    Attributes:
      run: of which it is part.
      params: of the model that all of its sequences start from.
      number: of the group.
      first: number of its first sequence.
      sequences: the passages of each, in order; at most inner.candidates sequences.
      width: see Session.width.
      unrelated: token ids of texts whose loss shows what else is lost.
    """

    run: Run = dataclasses.field(repr=False)
    params: Any = dataclasses.field(repr=False)
    number: int
    first: int
    sequences: list[list[Context]]
    width: int
    unrelated: Sequence[Tokens] = dataclasses.field(repr=False)

    @property
    def steps(self) -> int:
        return len(self.sequences[0])

    @property
    def count(self) -> int:
        """K, of which the last ones may be padding."""
        return self.run.session.settings.inner.candidates

    def at(self, step: int) -> list[Context]:
        """The passage of each sequence at a step."""
        return [sequence[step] for sequence in self.sequences]

    def name(self, sequence: int, step: int) -> tuple:
        """What the draws of a sequence at a step are named after."""
        return (self.first + sequence, step, self.sequences[sequence][step].id)


def nothing(group: Group) -> Delta:
    """K total deltas without an update in them."""
    session = group.run.session
    spec = session.settings.inner.lora.spec()
    keys_K = session.devices.shard(keys_for(0, [("nothing",)] * group.count))
    start_K = inner.init_candidates(spec, group.params, keys_K)
    empty = functools.partial(retention.empty, slots=group.steps)
    return jax.jit(jax.vmap(empty))(start_K)


def run_group(group: Group, mitigation: Mitigation, progress: Progress) -> list[Record]:
    """All steps of a group, each remembered in the ledger.

    Returns:
      For each step {"rows"}: [sequence][passage so far], see `ask`; the last one also has
      "unrelated", a loss of each sequence.
    """
    run, stage = group.run, f"{mitigation.name}/{group.number}"
    line = f"continual-{mitigation.name}-{group.number}"
    done = run.records("retest", [f"{stage}/{step}" for step in range(group.steps)])
    if len(done) == group.steps:
        progress.update(len(group.sequences) * group.steps)
        return done
    checkpoints = run.checkpoints(line)
    records, ungraded = [], len(run.ungraded)
    total_K = nothing(group)
    for step in range(group.steps):
        total_K = _update(group, mitigation, total_K, step, stage, checkpoints)
        retest = functools.partial(_retest, group, total_K, step, f"{stage}/{step}")
        records.append(retested(run, mitigation.name, f"{stage}/{step}", retest, ungraded))
        progress.update(len(group.sequences))
    if len(run.ungraded) == ungraded:
        run.discard_checkpoints(line)
    return records


def retested(
    run: Run, name: str, key: str, work: Callable[[], Record], ungraded: int = 0
) -> Record:
    """What models say of passages after an update, from the ledger or asked now.

    It is not recorded once a judge has failed, so that the same command asks again.

    Args:
      name: of the mitigation or bound.
      ungraded: how many units were ungraded before those of this group.
    """
    found = run.ledger.find("retest", key)
    if found is None:
        interruption.check()
        found = work()
        if len(run.ungraded) == ungraded:
            run.record("retest", key, found, Stage(kind="continual", what=name))
    return found


def _retest(group: Group, total_K: Delta, step: int, key: str) -> Record:
    """What the group's models say of all passages so far."""
    asked = [ask(group, total_K, group.at(seen), f"{key}/{seen}") for seen in range(step + 1)]
    record: Record = {"rows": [[of[k] for of in asked] for k in range(len(group.sequences))]}
    if step + 1 == group.steps:
        record["unrelated"] = unrelated_losses(group, total_K)
    return record


def _update(
    group: Group, mitigation: Mitigation, total_K: Delta, step: int, stage: str, checkpoints
) -> Delta:
    """The total deltas after one more passage, trained now or restored."""
    run, key = group.run, f"{stage}/{step}"
    of = Stage(kind="continual", what=mitigation.name)
    written = run.once(
        "edits", f"continual {key}", lambda: _write(group, mitigation, total_K, step), stage=of
    )
    if run.ledger.find("learned", key) is not None:
        like = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), total_K.tree)
        try:
            restored = checkpoints.restore(step, like)
            return Delta(group.run.session.devices.shard(restored), total_K.spec)
        except CheckpointError as error:
            run.say(f"continual {key}: {error} The update is done again.")
    lessons, reasons = _lessons(group, mitigation, written, step, stage)
    session = run.session
    past_K = mitigation.past(
        total_K,
        [session.edit_prompt(context) for context in group.at(step)],
        [[session.encode(text) for text in texts] for texts in written.get("recalled", [])],
    )
    trained = inner_loop.train(
        session,
        group.params,
        lessons,
        [("init", "continual", *group.name(k, step)) for k in range(len(lessons))],
        order=("continual", step),
        count=group.count,
        bounds=_bounds(session, _added(mitigation)),
        pasts_K=session.devices.shard(past_K),
    )
    finite_K = trained.results_K.finite
    merged_K = mitigation.merged(group.params, total_K, trained.deltas_K, finite_K, step)
    total_K = session.devices.shard(merged_K)  # where a continued run puts it
    results = jax.device_get(trained.results_K)
    checkpoints.save(step, total_K.tree)
    checkpoints.wait()
    learned = {
        "updates": [
            _describe(results, k, *of) for k, of in enumerate(zip(lessons, reasons, strict=True))
        ],
        "real_tokens": trained.tokens.real,
        "computed_tokens": trained.tokens.computed,
    }
    run.once("learned", key, lambda: learned, stage=of)
    return total_K


def _bounds(session: Session, more: int) -> Bounds:
    """What the inner program is made for, with room for so many more sequences."""
    own, size = session.bounds, session.settings.inner.batch_size
    steps = own.steps and own.steps + own.epochs * math.ceil(more / size)
    return Bounds(sequences=own.sequences + more, epochs=own.epochs, steps=steps)


def _added(mitigation: Mitigation) -> int:
    """The most sequences that a mitigation adds to an update."""
    own = mitigation.settings
    replayed = own.replay_sequences if mitigation.has("replay") else 0
    return replayed + (own.rehearsal_texts if mitigation.has("rehearsal") else 0)


def _describe(
    results: inner.InnerResult, k: int, lesson: EncodedLesson, refused: str | None
) -> Record:
    losses = results.losses_S[k][results.taken_S[k]]
    diverged = None if bool(results.finite[k]) else attempt.DIVERGED
    return {
        "head": lesson.head,
        "sequences": len(lesson.sequences),
        "steps": len(losses),
        "first_loss": answering.finite(losses[0]) if len(losses) else None,
        "last_loss": answering.finite(losses[-1]) if len(losses) else None,
        "reason": diverged if lesson.sequences else refused,
    }


def _write(group: Group, mitigation: Mitigation, total_K: Delta, step: int) -> Record:
    """The self-edits of a step, and what else the models write for their mitigation, as texts."""
    session, settings = group.run.session, group.run.session.settings
    own = mitigation.settings
    record = write_edits(group, nothing(group) if own.writer == "start" else total_K, step)
    if mitigation.has("rehearsal"):
        style = settings.edits.prompt_style
        prompt = tokenizer.chat_prompt(session.tokenizer, _SUBJECT, style)
        record["rehearsed"] = _write_own(group, own, total_K, step, "rehearsal", prompt)
    if mitigation.has("distill"):
        prompt = tokenizer.start_of_text(session.tokenizer)
        record["recalled"] = _write_own(group, own, total_K, step, "distill", prompt)
    return record


def _write_own(
    group: Group, own: Continual, total_K: Delta, step: int, draw: str, prompt: Tokens
) -> list[list[str]]:
    """own.rehearsal_texts texts of each of the group's models after a prompt."""
    session = group.run.session
    sample = dataclasses.replace(
        session.settings.edits.sample_settings(session.stop_ids),
        max_new_tokens=own.rehearsal_tokens,
    )
    written = answering.generate(
        session,
        group.params,
        total_K,
        [[prompt] * own.rehearsal_texts for _ in group.sequences],
        count=group.count,
        width=len(prompt),
        draws=[(draw, *group.name(k, step)) for k in range(len(group.sequences))],
        sample=sample,
        at_once=own.rehearsal_texts,
    )
    return [[one.text for one in of] for of in written]


def write_edits(group: Group, total_K: Delta, step: int) -> Record:
    """One self-edit of each sequence's passage at a step, by the group's models: "texts", and for
    readers of the ledger whose they are."""
    session, settings = group.run.session, group.run.session.settings
    prompts = [session.edit_prompt(context) for context in group.at(step)]
    buckets = settings.edits.prompt_buckets
    longest = max(map(len, prompts))
    written = answering.generate(
        session,
        group.params,
        total_K,
        [[prompt] for prompt in prompts],
        count=group.count,
        width=next(bucket for bucket in buckets if bucket >= longest),
        draws=[("continual", *group.name(k, step)) for k in range(len(prompts))],
        sample=settings.edits.sample_settings(session.stop_ids),
        at_once=1,
        automaton=session.automaton,
    )
    record = {
        "step": step,
        "sequences": list(range(group.first, group.first + len(prompts))),
        "contexts": [context.id for context in group.at(step)],
        "texts": [one.text for (one,) in written],
    }
    if any(one.thoughts for (one,) in written):
        record["thoughts"] = [one.thoughts for (one,) in written]
    return record


def lesson(group: Group, k: int, step: int, text: str) -> EncodedLesson | Refusal:
    """What a self-edit about a sequence's passage at a step teaches, or why it teaches nothing."""
    session = group.run.session
    return session.lesson(session.task.read(group.sequences[k][step], text, 0))


def joined(session: Session, lessons: Sequence[EncodedLesson | Refusal]) -> EncodedLesson:
    """One lesson with the sequences of all; it is learned as the first one says."""
    inner_settings = session.settings.inner
    taught = [one for one in lessons if isinstance(one, EncodedLesson)]
    first = EncodedLesson(
        sequences=(),
        loss_masks=(),
        learning_rate=inner_settings.learning_rate,
        epochs=inner_settings.epochs,
    )
    if isinstance(lessons[0], EncodedLesson):
        first = lessons[0]
    return dataclasses.replace(
        first,
        sequences=tuple(s for one in taught for s in one.sequences),
        loss_masks=tuple(m for one in taught for m in one.loss_masks),
    )


def _lessons(
    group: Group, mitigation: Mitigation, written: Record, step: int, stage: str
) -> tuple[list[EncodedLesson], list[str | None]]:
    """What each sequence learns at a step, and why its self-edit teaches nothing, if so."""
    run, session = group.run, group.run.session
    earlier = []
    for before in range(step):
        record = run.ledger.find("edits", f"continual {stage}/{before}")
        assert record is not None, "steps are done in order"
        earlier.append(record["texts"])
    lessons, reasons = [], []
    for k, text in enumerate(written["texts"]):
        own = lesson(group, k, step, text)
        more = [own]
        if earlier:
            old = joined(
                session, [lesson(group, k, before, of[k]) for before, of in enumerate(earlier)]
            )
            seed = (session.settings.seed, zlib.crc32(b"replay"), group.first + k, step)
            chosen = mitigation.replayed(len(old.sequences), seed=seed)
            more.append(
                dataclasses.replace(
                    old,
                    sequences=tuple(old.sequences[i] for i in chosen),
                    loss_masks=tuple(old.loss_masks[i] for i in chosen),
                )
            )
        if mitigation.has("rehearsal") and written["rehearsed"][k]:
            more.append(session.lesson(Lesson(sequences=tuple(written["rehearsed"][k]))))
        lessons.append(joined(session, more))
        reasons.append(own.reason if isinstance(own, Refusal) else None)
    return lessons, reasons


def ask(group: Group, total_K: Delta | None, contexts: Sequence[Context], key: str) -> list[Record]:
    """What the group's models say of one passage each: {"answers", "scores"}.

    Without continual.answers, answers have the question's id and gold_log_likelihood alone.

    Args:
      key: names the marks in the ledger.
    """
    run, session = group.run, group.run.session
    exams = [session.exam(context, "adapted") for context in contexts]
    how = {"count": group.count, "width": group.width}
    if session.settings.continual.answers:
        said = answering.ask(session, group.params, total_K, exams, **how)
        stage = Stage(kind="continual", what=key)
        return attempt.mark(run, key, list(zip(contexts, said, strict=True)), stage)
    scored = answering.score(session, group.params, total_K, exams, **how)
    return [
        {
            "answers": [
                {"question": question, "gold_log_likelihood": value}
                for question, value in of.items()
            ],
            "scores": {"gold_log_likelihood": None if None in of.values() else mean(of.values())},
        }
        for of in scored
    ]


def unrelated_losses(group: Group, total_K: Delta | None) -> list[float | None]:
    """The mean loss of each of the group's models on the unrelated texts, in nats a token."""
    count, texts = len(group.sequences), group.unrelated
    prompts = [[tokens[:1] for tokens in texts]] * count
    rests = [[tokens[1:] for tokens in texts]] * count
    found = answering.gold_log_likelihoods(
        group.run.session,
        group.params,
        total_K,
        prompts,
        rests,
        count=group.count,
        width=1,
        max_gold_tokens=max(len(tokens) for tokens in texts) - 1,
    )
    tokens = sum(len(rest) for rest in rests[0])
    return [
        None if None in of else -float(np.sum([v for v in of if v is not None])) / tokens
        for of in found
    ]


def learn_at_once(group: Group, steps: Sequence[int], texts: Sequence[Sequence[str]]) -> Delta:
    """K total deltas with one update from the start, on self-edits of these steps together.

    Args:
      texts: the self-edits of each step, [step][sequence], for all steps of the group.
    """
    session, start_K = group.run.session, nothing(group)
    unmitigated = Mitigation("none", session.settings.continual)
    lessons = [
        joined(session, [lesson(group, k, at, texts[at][k]) for at in steps])
        for k in range(len(group.sequences))
    ]
    trained = inner_loop.train(
        session,
        group.params,
        lessons,
        [("init", "continual", *group.name(k, steps[0])) for k in range(len(lessons))],
        order=("continual", steps[0]),
        count=group.count,
        bounds=_bounds(session, session.bounds.sequences * (len(steps) - 1)),
        pasts_K=session.devices.shard(unmitigated.past(start_K, [], [])),
    )
    finite_K = trained.results_K.finite
    return unmitigated.merged(group.params, start_K, trained.deltas_K, finite_K, steps[0])
