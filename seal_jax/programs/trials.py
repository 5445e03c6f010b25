"""Trying self-edits: from sequences to trained deltas to graded answers.

Nothing here reads or writes a file. A record is a dict of JSON values, ready for the ledger.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from seal_jax import batching, inner, optim, parallel
from seal_jax.delta import Delta
from seal_jax.programs import answering
from seal_jax.programs.session import Session
from seal_jax.randomness import key_for, keys_for
from seal_jax.settings import Inner
from seal_jax.tasks.base import Context

Record = dict[str, Any]


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
    end = [session.tokenizer.eos_token_id]
    sequences = [session.encode(text) for text in texts]
    return batching.trim(
        [tokens + end * (settings.padding_loss - len(tokens)) for tokens in sequences],
        max_sequences=settings.max_sequences,
        max_tokens=settings.buckets[-1],
    )


def train_group(
    session: Session,
    params,
    group: Sequence[Candidate],
    *,
    draw: str,
    recipe: Inner | None = None,
) -> tuple[Delta, inner.InnerResult, batching.Tokens]:
    """Runs the inner loop of a group of candidates of one replicate, at most K of them.

    Args:
      draw: names the round in the keys.
      recipe: settings.inner, or the same with other epochs (at most `Settings.max_epochs`) and
        learning rate: those run in the same program.

    Returns:
      K stacked deltas (padding candidates' ones change nothing), K results, and the number of real
      and computed tokens.
    """
    settings = recipe or session.settings.inner
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
                max_epochs=session.settings.max_epochs,
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
    # Common random numbers: the self-edits of a context start from one delta in each replicate.
    names = [("init", draw, c.context.id, c.replicate) for c in group]
    names += [("init", "padding")] * (count - len(group))
    keys_K = parallel.shard(keys_for(seed, names))
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
    session: Session,
    params,
    group: Sequence[Candidate],
    *,
    draw: str,
    width: int,
    recipe: Inner | None = None,
) -> Record:
    """Trains a group of candidates and asks each adapted model its context's questions.

    Returns:
      {"trials": a record a candidate, "real_tokens", "computed_tokens"}. A trial without answers
      has a "reason".
    """
    deltas_K, results_K, tokens = train_group(session, params, group, draw=draw, recipe=recipe)
    results = jax.device_get(results_K)
    asked = [candidate.context for candidate in group]
    answers = answering.ask(session, params, deltas_K, asked, width)
    mismatched = None
    if all(candidate.ask is not None for candidate in group):
        others = [candidate.ask for candidate in group]
        mismatched = answering.believe(session, params, deltas_K, others, width)
    trials = []
    for k, candidate in enumerate(group):
        losses = results.losses_S[k][results.taken_S[k]]
        finite = bool(results.finite[k]) and all(
            answer["gold_log_likelihood"] is not None for answer in answers[k]
        )
        trial = {
            **describe(candidate),
            "steps": len(losses),
            "first_loss": answering.finite(losses[0]),
            "last_loss": answering.finite(losses[-1]),
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
