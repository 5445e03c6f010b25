"""Trying self-edits: from texts to arrays, through the compiled programs, and back to records.

Nothing here reads or writes a file. A record is a dict of JSON values, ready for the ledger.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from seal_jax import batching, evaluate, inner, optim, parallel, restem, sampling
from seal_jax.delta import Delta
from seal_jax.programs.session import Session
from seal_jax.randomness import key_for
from seal_jax.tasks.base import Context

Record = dict[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Edit:
    """A sampled self-edit.

    Attributes:
      context: id of its context; index: which of the context's samples it is.
      tokens: as sampled, a stop token included.
      text: the same, decoded.
      stopped: whether it ended by itself rather than at the length limit.
    """

    context: str
    index: int
    tokens: tuple[int, ...]
    text: str
    stopped: bool

    def record(self) -> Record:
        return {**dataclasses.asdict(self), "tokens": list(self.tokens)}

    @classmethod
    def from_record(cls, record: Record) -> "Edit":
        return cls(**{**record, "tokens": tuple(record["tokens"])})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Candidate:
    """A self-edit being tried in one inner loop.

    Attributes:
      context: what it is about.
      index: the self-edit's number among those of its context.
      replicate: number of the inner loop among those of the self-edit; it changes the seed only.
      trimmed: its sequences as token ids, and what was cut off; none if the edit says nothing.
      ask: the context whose questions the mismatched control asks, or None.
    """

    context: Context
    index: int
    replicate: int
    trimmed: batching.Trimmed
    ask: Context | None = None

    @property
    def lengths(self) -> list[int]:
        return [len(sequence) for sequence in self.trimmed.sequences]


def tokenize(session: Session, texts: Sequence[str]) -> batching.Trimmed:
    """Training sequences as token ids, cut to the shapes of the inner program."""
    settings = session.settings.inner
    return batching.trim(
        [session.encode(text) for text in texts],
        max_sequences=settings.max_sequences,
        max_tokens=settings.buckets[-1],
    )


def sample_edits(
    session: Session, params, contexts: Sequence[Context], *, draw: str, samples: int
) -> list[Edit]:
    """Samples self-edits of a batch of contexts (at most edits.contexts_per_batch).

    Args:
      params: the policy's parameters.
      draw: names the round in the keys.
      samples: M.

    Returns:
      M edits of each context, in order.
    """
    settings = session.settings.edits
    prompts_PxT, lengths_P = batching.right_align(
        [session.edit_prompt(context) for context in contexts],
        rows=settings.contexts_per_batch,
        buckets=settings.prompt_buckets,
        what="edits.prompt_buckets",
    )
    seed = session.settings.seed
    rows = [(c.id, m) for c in contexts for m in range(samples)]
    rows += [("", 0)] * (settings.contexts_per_batch * samples - len(rows))
    keys_B = _keys(seed, [("edit", draw, *row) for row in rows])
    out = sampling.generate_jit(
        (session.model, settings.sample_settings(session.stop_ids)),
        params,
        *parallel.shard((prompts_PxT, lengths_P)),
        parallel.shard(keys_B),
        samples_per_prompt=samples,
    )
    tokens_BxN, lengths_B, stopped_B = jax.device_get(
        (out.tokens_BxN, out.lengths_B, out.stopped_B)
    )
    edits = []
    for row, (context, m) in enumerate(rows[: len(contexts) * samples]):
        tokens = tuple(int(token) for token in tokens_BxN[row, : lengths_B[row]])
        edits.append(
            Edit(
                context=context,
                index=m,
                tokens=tokens,
                text=session.decode(tokens),
                stopped=bool(stopped_B[row]),
            )
        )
    return edits


def ask(
    session: Session, params, deltas_K: Delta | None, contexts, width: int
) -> list[list[Record]]:
    """Asks K models the questions of one context each, and grades their answers.

    Args:
      deltas_K: K stacked deltas, or None for the unadapted model.
      contexts: at most K = inner.candidates contexts.
      width: see Session.query_width.

    Returns:
      For each context, a record a question: its id, the answer's text, correct, empty and
      gold_log_likelihood (None where it is not finite).
    """
    settings = session.settings
    prompts = [[session.query(c, q) for q in c.questions] for c in contexts]
    count, per_context = settings.inner.candidates, settings.data.max_questions
    aligned = [
        batching.right_align(
            prompts[k] if k < len(prompts) else [],
            rows=per_context,
            buckets=(width,),
            what="answers.prompt_buckets",
        )
        for k in range(count)
    ]
    out = evaluate.answers_of_candidates(
        (session.model, settings.answers.sample_settings(session.stop_ids)),
        params,
        deltas_K,
        *parallel.shard(batching.stack(aligned)),
        parallel.shard(_keys(settings.seed, [("answer",)] * (count * per_context))).reshape(
            count, per_context
        ),
    )
    tokens_KxQxN, lengths_KxQ = (
        np.asarray(leaf).reshape(count, per_context, *leaf.shape[1:])
        for leaf in jax.device_get((out.tokens_BxN, out.lengths_B))
    )
    beliefs = believe(session, params, deltas_K, contexts, width)
    records = []
    for k, context in enumerate(contexts):
        answers = []
        for q, question in enumerate(context.questions):
            text = session.decode(tokens_KxQxN[k, q, : lengths_KxQ[k, q]])
            verdict = session.task.grade(question, text)
            answers.append(
                {
                    "question": question.id,
                    "text": text,
                    "correct": verdict.correct,
                    "empty": verdict.empty,
                    "gold_log_likelihood": beliefs[k][q],
                }
            )
        records.append(answers)
    return records


def believe(
    session: Session, params, deltas_K: Delta | None, contexts, width: int
) -> list[list[float | None]]:
    """Gold log-likelihoods of the questions of one context for each of K models, in nats."""
    settings = session.settings
    rows = [
        batching.queries(
            [session.query(context, q) for q in context.questions],
            [session.gold(q) for q in context.questions],
            rows=settings.data.max_questions,
            length=width,
            answer_length=settings.answers.max_gold_tokens,
        )
        for context in contexts
    ]
    empty = jax.tree.map(np.zeros_like, rows[0])
    rows += [empty] * (settings.inner.candidates - len(rows))
    lls_KxQ = jax.device_get(
        evaluate.gold_log_likelihoods_of_candidates(
            session.model, params, deltas_K, parallel.shard(batching.stack(rows))
        )
    )
    return [
        [_finite(lls_KxQ[k, q]) for q in range(len(context.questions))]
        for k, context in enumerate(contexts)
    ]


def train_group(
    session: Session, params, group: Sequence[Candidate], *, draw: str
) -> tuple[Delta, inner.InnerResult, batching.Tokens]:
    """Runs the inner loop of a group of candidates of one replicate, at most K of them.

    Args:
      draw: names the round in the keys.

    Returns:
      K stacked deltas (padding candidates' ones change nothing), K results, and the number of real
      and computed tokens.
    """
    settings = session.settings.inner
    seed, count = session.settings.seed, settings.candidates
    rows, length = settings.max_sequences, settings.buckets[-1]
    shares = parallel.shares(count)
    share = count // shares
    shapes = batching.step_shapes(
        settings.buckets, rows=share * settings.batch_size, spread=settings.spread
    )
    lengths = [candidate.lengths for candidate in group] + [[]] * (count - len(group))
    schedules, tokens = zip(
        *(
            batching.make_schedule(
                lengths[first : first + share],
                epochs=settings.epochs,
                batch_size=settings.batch_size,
                key=key_for(seed, "order", draw, group[0].replicate),
                shapes=shapes,
                rows=rows,
            )
            for first in range(0, count, share)
        ),
        strict=True,
    )
    problems = [
        batching.inner_problem(candidate.trimmed.sequences, rows=rows, length=length)
        for candidate in group
    ]
    padding = batching.inner_problem([], rows=rows, length=length)
    problems += [padding] * (count - len(group))
    hparams = [
        inner.InnerHParams(
            learning_rate=np.float32(settings.learning_rate),
            num_steps=np.int32(
                batching.steps_of(
                    int(problem.num_sequences),
                    epochs=settings.epochs,
                    batch_size=settings.batch_size,
                )
            ),
            warmup_steps=np.int32(settings.warmup_steps),
            decay=np.int32(optim.DECAYS.index(settings.decay)),
        )
        for problem in problems
    ]
    names = [("init", draw, c.context.id, c.index, c.replicate) for c in group]
    names += [("init", "padding")] * (count - len(group))
    keys_K = parallel.shard(_keys(seed, names))
    static = (
        session.model,
        inner.InnerSettings(
            shapes=shapes,
            optimizer=settings.optimizer,
            remat=session.settings.model.remat,
        ),
    )
    deltas_K, results_K = parallel.inner_update(
        static,
        params,
        inner.init_candidates(settings.lora.spec(), params, keys_K),
        *parallel.shard((batching.stack(problems), batching.stack(hparams))),
        schedules,
    )
    real = sum(share.real for share in tokens)
    computed = sum(share.computed for share in tokens)
    return deltas_K, results_K, batching.Tokens(real=real, computed=computed)


def try_group(
    session: Session, params, group: Sequence[Candidate], *, draw: str, width: int
) -> Record:
    """Trains a group of candidates and asks each adapted model its context's questions.

    Returns:
      {"trials": a record a candidate, "real_tokens", "computed_tokens"}. A trial without answers
      has a "reason".
    """
    deltas_K, results_K, tokens = train_group(session, params, group, draw=draw)
    results = jax.device_get(results_K)
    answers = ask(session, params, deltas_K, [candidate.context for candidate in group], width)
    mismatched = None
    if all(candidate.ask is not None for candidate in group):
        others = [candidate.ask for candidate in group]
        mismatched = believe(session, params, deltas_K, others, width)
    trials = []
    for k, candidate in enumerate(group):
        losses = results.losses_S[k][results.taken_S[k]]
        finite = bool(results.finite[k]) and all(
            answer["gold_log_likelihood"] is not None for answer in answers[k]
        )
        trial = {
            **describe(candidate),
            "steps": len(losses),
            "first_loss": _finite(losses[0]),
            "last_loss": _finite(losses[-1]),
            "answers": answers[k] if finite else [],
            "reason": None if finite else "the inner update became non-finite",
        }
        if mismatched is not None:
            trial["mismatched"] = mismatched[k] if finite else []
        trials.append(trial)
    return {"trials": trials, "real_tokens": tokens.real, "computed_tokens": tokens.computed}


def describe(candidate: Candidate) -> Record:
    """What identifies a candidate, and what of it was trained on."""
    return {
        "context": candidate.context.id,
        "index": candidate.index,
        "replicate": candidate.replicate,
        "sequences": len(candidate.trimmed.sequences),
        "dropped_sequences": candidate.trimmed.dropped_sequences,
        "dropped_tokens": candidate.trimmed.dropped_tokens,
    }


def train_policy(
    session: Session, params, rows: Sequence[restem.Row], *, stage: str, report=None
) -> tuple[Delta, list[Record]]:
    """The M-step: trains a delta of the policy on kept self-edits.

    Args:
      params: the policy that it starts from.
      rows: kept self-edits; at least one.
      report: called with each step's metrics, one step late.

    Returns:
      The trained delta, and the metrics of each step.
    """
    settings = session.settings.restem.sft
    static = (session.model, settings.m_step_settings(session.settings.model.remat))
    longest = max(len(row.tokens) for row in rows)  # fits: Session.check_lengths saw to it
    length = settings.buckets[batching.bucket_index(longest, settings.buckets)]
    seed = session.settings.seed
    state = parallel.place(
        restem.init(key_for(seed, "policy", stage), params, settings.lora.spec(), static[1])
    )
    update = parallel.m_step(static)
    total = settings.epochs * math.ceil(len(rows) / settings.batch_size)
    metrics = []
    for epoch in range(settings.epochs):
        order = jax.random.permutation(key_for(seed, "epoch", stage, epoch), len(rows))
        for batch in restem.epoch_batches(
            list(rows),
            batch_size=settings.batch_size,
            multiple=parallel.device_count() * settings.microbatch,
            length=length,
            order=np.asarray(order),
        ):
            state, step_metrics = update(params, state, parallel.split(batch), np.int32(total))
            if metrics and report:
                report(metrics[-1])
            metrics.append(step_metrics)
    return state.delta, [
        {name: float(value) for name, value in step.items()} for step in jax.device_get(metrics)
    ]


def _keys(seed: int, names: Sequence[tuple]) -> jax.Array:
    """One key a name, as an array of keys made from host data."""
    unique = {name: jax.random.key_data(key_for(seed, *name)) for name in dict.fromkeys(names)}
    found = jax.device_get(unique)
    return jax.random.wrap_key_data(np.stack([found[name] for name in names]))


def _finite(value) -> float | None:
    return float(value) if math.isfinite(value) else None
