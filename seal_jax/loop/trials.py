"""Trying self-edits: from sequences to trained deltas to graded answers.

Nothing here reads or writes a file. A record is a dict of JSON values, ready for the ledger.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax

from seal_jax.core import batching, inner
from seal_jax.core.delta import Delta
from seal_jax.loop import answering, generation, inner_loop
from seal_jax.loop.session import Session
from seal_jax.settings import Inner
from seal_jax.tasks.protocol import Context

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
    settings = session.settings.inner
    if recipe is not None:
        settings = dataclasses.replace(
            settings, epochs=recipe.epochs, learning_rate=recipe.learning_rate
        )
    return inner_loop.train(
        session,
        params,
        [
            inner_loop.Lesson(
                sequences=candidate.trimmed.sequences,
                learning_rate=settings.learning_rate,
                epochs=settings.epochs,
                # Common random numbers: the self-edits of a context start from one delta in each
                # replicate.
                init=("init", draw, candidate.context.id, candidate.replicate),
            )
            for candidate in group
        ],
        order=(draw, group[0].replicate),
        settings=settings,
        max_epochs=session.settings.max_epochs,
    )


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
            "first_loss": generation.finite(losses[0]),
            "last_loss": generation.finite(losses[-1]),
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
