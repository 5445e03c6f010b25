"""Which contexts a run uses: fresh ones for each round, and those held out."""

import dataclasses
import zlib
from collections.abc import Sequence

import numpy as np

from seal_jax.programs.session import Session, make_task
from seal_jax.settings import SettingsError
from seal_jax.tasks.base import Context, Split
from seal_jax.tasks.knowledge import splits


def training_rounds(session: Session) -> list[list[Context]]:
    """Each round's training contexts, chosen by the seed; rounds share none.

    Raises:
      SettingsError: there are too few.
    """
    settings = session.settings
    count, rounds = settings.restem.contexts_per_round, settings.restem.rounds
    available = _limited(session, "train")
    if count * rounds > len(available):
        raise SettingsError(
            f"{rounds} rounds of {count} fresh contexts need {count * rounds} training contexts, "
            f"but there are {len(available)}: lower restem.contexts_per_round or restem.rounds, or "
            "give a larger data.train_path."
        )
    generator = np.random.default_rng([settings.seed, zlib.crc32(b"training contexts")])
    order = generator.permutation(len(available))
    return [[available[i] for i in order[r * count : (r + 1) * count]] for r in range(rounds)]


def held_out(session: Session) -> list[Context]:
    """The evaluation contexts: a fixed choice over the whole file, the same for every seed.

    Raises:
      SettingsError: there are too few.
    """
    available = _limited(session, "eval")
    wanted = session.settings.evaluation.contexts or len(available)
    if wanted > len(available):
        raise SettingsError(
            f"evaluation.contexts is {wanted}, but there are {len(available)} evaluation contexts: "
            "lower it, or give a larger data.eval_path."
        )
    if wanted < 2:
        raise SettingsError(
            "an interval needs at least 2 evaluation contexts: raise evaluation.contexts, or give "
            "a larger data.eval_path."
        )
    order = np.random.default_rng(zlib.crc32(b"evaluation contexts")).permutation(len(available))
    chosen = [available[i] for i in sorted(order[:wanted])]
    return _some_questions(chosen, session.settings.evaluation.questions)


def _some_questions(contexts: list[Context], count: int) -> list[Context]:
    """The contexts with a fixed choice of so many questions in all; 0 is all of them."""
    places = [(c, q) for c, context in enumerate(contexts) for q in range(len(context.questions))]
    if not 0 < count < len(places):
        return contexts
    order = np.random.default_rng(zlib.crc32(b"evaluation questions")).permutation(len(places))
    kept = {places[i] for i in order[:count]}
    return [
        dataclasses.replace(
            context,
            questions=tuple(q for k, q in enumerate(context.questions) if (c, k) in kept),
        )
        for c, context in enumerate(contexts)
    ]


def development(session: Session) -> list[Context]:
    """The contexts that settings are tuned on: of the articles that the evaluation leaves out.

    Raises:
      DataError: there are too few.
    """
    settings = session.settings
    half = make_task(settings, dataclasses.replace(settings.data, eval_part="development"))
    available = _first_questions(half.contexts("eval"), settings.data.max_questions)
    return splits.choose(
        available, settings.tuning.contexts, seed=None, name="development contexts"
    )


def _limited(session: Session, split: Split) -> list[Context]:
    """The contexts of a split with their first data.max_questions questions."""
    return _first_questions(session.task.contexts(split), session.settings.data.max_questions)


def _first_questions(contexts: Sequence[Context], count: int) -> list[Context]:
    """Contexts with their first questions; 0 is all of them."""
    return [
        dataclasses.replace(context, questions=context.questions[: count or None])
        for context in contexts
    ]
