"""One group of sequences under one cure: self-edit, update, merge, and ask again, step by step.

The group's K models are the base parameters with K total deltas: every earlier update of a sequence
has its place in it, beside the others.
"""

import dataclasses
import functools
import zlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from seal_jax.core import inner, retention
from seal_jax.core.delta import Delta
from seal_jax.core.randomness import keys_for
from seal_jax.loop import answering, generation, inner_loop, trials
from seal_jax.loop.continual.cures import Cure
from seal_jax.loop.run import Run
from seal_jax.loop.session import Session
from seal_jax.runs.checkpoints import CheckpointError
from seal_jax.runtime.progress import Progress
from seal_jax.settings import Continual, Inner
from seal_jax.tasks.protocol import Context
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
      width: see Session.query_width.
      unrelated: token ids of texts whose loss shows what else is lost.
    """

    run: Run[Session] = dataclasses.field(repr=False)
    params: Any = dataclasses.field(repr=False)
    number: int
    first: int
    sequences: list[list[Context]]
    width: int
    unrelated: Sequence[Tokens] = dataclasses.field(repr=False)

    @property
    def steps(self) -> int:
        return len(self.sequences[0])

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
    keys_K = session.devices.shard(keys_for(0, [("nothing",)] * session.settings.inner.candidates))
    start_K = inner.init_candidates(spec, group.params, keys_K)
    empty = functools.partial(retention.empty, slots=group.steps)
    return jax.jit(jax.vmap(empty))(start_K)


def run_group(group: Group, cure: Cure, progress: Progress) -> list[Record]:
    """All steps of a group, each remembered in the ledger.

    Returns:
      For each step {"rows"}: [sequence][passage so far], see `ask`; the last one also has
      "unrelated", a loss of each sequence.
    """
    run, stage = group.run, f"{cure.name}/{group.number}"
    line = f"continual-{cure.name}-{group.number}"
    done = [run.ledger.find("retest", f"{stage}/{step}") for step in range(group.steps)]
    if None not in done:
        progress.update(len(group.sequences) * group.steps)
        return done
    checkpoints = run.checkpoints(line)
    records = []
    total_K = nothing(group)
    for step in range(group.steps):
        total_K = _update(group, cure, total_K, step, stage, checkpoints)
        retest = functools.partial(_retest, group, total_K, step)
        records.append(run.once("retest", f"{stage}/{step}", retest))
        progress.update(len(group.sequences))
    run.discard_checkpoints(line)
    return records


def _retest(group: Group, total_K: Delta, step: int) -> Record:
    """What the group's models say of all passages so far."""
    asked = [ask(group, total_K, group.at(seen)) for seen in range(step + 1)]
    record: Record = {"rows": [[of[k] for of in asked] for k in range(len(group.sequences))]}
    if step + 1 == group.steps:
        record["unrelated"] = unrelated_losses(group, total_K)
    return record


def _update(group: Group, cure: Cure, total_K: Delta, step: int, stage: str, checkpoints) -> Delta:
    """The total deltas after one more passage, trained now or restored."""
    run, key = group.run, f"{stage}/{step}"
    written = run.once("edits", f"continual {key}", lambda: _write(group, cure, total_K, step))
    if run.ledger.find("learned", key) is not None:
        like = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), total_K.tree)
        try:
            restored = checkpoints.restore(step, like)
            return Delta(group.run.session.devices.shard(restored), total_K.spec)
        except CheckpointError as error:
            run.say(f"continual {key}: {error} The update is done again.")
    lessons = _lessons(group, cure, written, step, stage)
    session = run.session
    past_K = cure.past(
        total_K,
        [session.edit_prompt(context) for context in group.at(step)],
        [[session.encode(text) for text in texts] for texts in written.get("recalled", [])],
    )
    deltas_K, results_K, tokens = inner_loop.train(
        session,
        group.params,
        lessons,
        order=("continual", step),
        settings=_recipe(session, cure),
        max_epochs=session.settings.max_epochs,
        pasts_K=session.devices.shard(past_K),
    )
    merged_K = cure.merged(group.params, total_K, deltas_K, results_K.finite, step)
    total_K = session.devices.shard(merged_K)  # where a continued run puts it
    results = jax.device_get(results_K)
    checkpoints.save(step, total_K.tree)
    checkpoints.wait()
    run.once(
        "learned",
        key,
        lambda: {
            "updates": [
                _describe(results, k, lesson.sequences) for k, lesson in enumerate(lessons)
            ],
            "real_tokens": tokens.real,
            "computed_tokens": tokens.computed,
        },
    )
    return total_K


def _recipe(session: Session, cure: Cure) -> Inner:
    """The inner loop's settings, with room for what the cure adds."""
    settings, own = session.settings.inner, cure.settings
    room = settings.max_sequences
    room += own.replay_sequences if cure.has("replay") else 0
    room += own.rehearsal_texts if cure.has("rehearsal") else 0
    return dataclasses.replace(settings, max_sequences=room)


def _describe(results: inner.InnerResult, k: int, sequences: Sequence[Tokens]) -> Record:
    losses = results.losses_S[k][results.taken_S[k]]
    return {
        "sequences": len(sequences),
        "steps": len(losses),
        "first_loss": generation.finite(losses[0]) if len(losses) else None,
        "last_loss": generation.finite(losses[-1]) if len(losses) else None,
        "reason": (
            "the self-edit holds no text to train on"
            if not sequences
            else None
            if bool(results.finite[k])
            else "the inner update became non-finite"
        ),
    }


def _write(group: Group, cure: Cure, total_K: Delta, step: int) -> Record:
    """The self-edits of a step, and what else the models write for their cure, as texts."""
    session, settings = group.run.session, group.run.session.settings
    own = cure.settings
    record = write_edits(group, nothing(group) if own.writer == "start" else total_K, step)
    if cure.has("rehearsal"):
        style = settings.edits.prompt_style
        prompt = tokenizer.chat_prompt(session.tokenizer, _SUBJECT, style)
        record["rehearsed"] = _write_own(group, own, total_K, step, "rehearsal", prompt)
    if cure.has("distill"):
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
    return generation.write(
        session,
        group.params,
        total_K,
        [[prompt] * own.rehearsal_texts for _ in group.sequences],
        width=len(prompt),
        draws=[(draw, *group.name(k, step)) for k in range(len(group.sequences))],
        sample=sample,
        at_once=own.rehearsal_texts,
    )


def write_edits(group: Group, total_K: Delta, step: int) -> Record:
    """One self-edit of each sequence's passage at a step, by the group's models: "texts", and for
    readers of the ledger whose they are."""
    session, settings = group.run.session, group.run.session.settings
    prompts = [session.edit_prompt(context) for context in group.at(step)]
    buckets = settings.edits.prompt_buckets
    longest = max(map(len, prompts))
    written = generation.write(
        session,
        group.params,
        total_K,
        [[prompt] for prompt in prompts],
        width=next(bucket for bucket in buckets if bucket >= longest),
        draws=[("continual", *group.name(k, step)) for k in range(len(prompts))],
        sample=settings.edits.sample_settings(session.stop_ids),
        at_once=1,
    )
    return {
        "step": step,
        "sequences": list(range(group.first, group.first + len(prompts))),
        "contexts": [context.id for context in group.at(step)],
        "texts": [text for (text,) in written],
    }


def lesson(
    group: Group, k: int, steps: Sequence[int], sequences: Sequence[Tokens]
) -> inner_loop.Lesson:
    """What one sequence learns at once, of one step or of several."""
    settings = group.run.session.settings.inner
    return inner_loop.Lesson(
        sequences=sequences,
        learning_rate=settings.learning_rate,
        epochs=settings.epochs,
        init=("init", "continual", *group.name(k, steps[0])),
    )


def tokens_of(group: Group, k: int, step: int, text: str) -> tuple[Tokens, ...]:
    """The training sequences of a self-edit about a sequence's passage at a step."""
    session = group.run.session
    said = session.task.sequences(group.sequences[k][step], text)
    return trials.tokenize(session, said).sequences


def _lessons(group: Group, cure: Cure, written: Record, step: int, stage: str):
    """What each sequence learns at a step."""
    run, session = group.run, group.run.session
    earlier = []
    for before in range(step):
        record = run.ledger.find("edits", f"continual {stage}/{before}")
        assert record is not None, "steps are done in order"
        earlier.append(record["texts"])
    lessons = []
    for k, text in enumerate(written["texts"]):
        old = [
            sequence
            for before, texts in enumerate(earlier)
            for sequence in tokens_of(group, k, before, texts[k])
        ]
        seed = (session.settings.seed, zlib.crc32(b"replay"), group.first + k, step)
        sequences = [*tokens_of(group, k, step, text), *cure.replayed(old, seed=seed)]
        if cure.has("rehearsal"):
            sequences += trials.tokenize(session, written["rehearsed"][k]).sequences
        lessons.append(lesson(group, k, [step], sequences))
    return lessons


def ask(group: Group, total_K: Delta | None, contexts: Sequence[Context]) -> list[list[Record]]:
    """What the group's models say of one passage each: a record a question.

    Without continual.answers, a record has the question's id and gold_log_likelihood alone.
    """
    session = group.run.session
    if session.settings.continual.answers:
        return answering.ask(session, group.params, total_K, contexts, group.width)
    believed = answering.believe(session, group.params, total_K, contexts, group.width)
    return [
        [
            {"question": question.id, "gold_log_likelihood": value}
            for question, value in zip(context.questions, of, strict=True)
        ]
        for context, of in zip(contexts, believed, strict=True)
    ]


def unrelated_losses(group: Group, total_K: Delta | None) -> list[float | None]:
    """The mean loss of each of the group's models on the unrelated texts, in nats a token."""
    count, texts = len(group.sequences), group.unrelated
    prompts = [[tokens[:1] for tokens in texts]] * count
    rests = [[tokens[1:] for tokens in texts]] * count
    found = generation.likelihoods(
        group.run.session,
        group.params,
        total_K,
        prompts,
        rests,
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
    uncured = Cure("none", session.settings.continual)
    lessons = [
        lesson(
            group,
            k,
            steps,
            [sequence for s in steps for sequence in tokens_of(group, k, s, texts[s][k])],
        )
        for k in range(len(group.sequences))
    ]
    settings = session.settings.inner
    deltas_K, results_K, _ = inner_loop.train(
        session,
        group.params,
        lessons,
        order=("continual", steps[0]),
        settings=dataclasses.replace(settings, max_sequences=settings.max_sequences * len(steps)),
        max_epochs=session.settings.max_epochs,
        pasts_K=session.devices.shard(uncured.past(start_K, [], [])),
    )
    return uncured.merged(group.params, start_K, deltas_K, results_K.finite, steps[0])
