"""Which contexts a run uses: fresh ones for each round, and those held out."""

import dataclasses
import zlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from seal_jax.loop.session import Session, make_task
from seal_jax.settings import SettingsError
from seal_jax.tasks.knowledge import splits, squad
from seal_jax.tasks.protocol import Context, Split


class Available(NamedTuple):
    """The contexts of a split that a run can use, and how many things were left out, and why."""

    contexts: list[Context]
    left_out: dict[str, int]

    def explain(self) -> str:
        """What was left out, for an error; "" if nothing was."""
        reasons = "; ".join(f"{count}: {reason}" for reason, count in self.left_out.items())
        return f" Left out: {reasons}." if reasons else ""


def available(session: Session, split: Split) -> Available:
    """The contexts of a split with their first data.max_questions questions.

    Contexts whose prompt is too long for the run are left out.
    """
    reasons = squad.count_reasons(session.task.skipped(split))
    fitting = []
    for context in session.task.contexts(split):
        reason = session.unfit(context)
        if reason:
            reasons[reason] = reasons.get(reason, 0) + 1
        else:
            fitting.append(context)
    return Available(_first_questions(fitting, session.settings.data.max_questions), reasons)


def training_rounds(session: Session, training: Available) -> list[list[Context]]:
    """Each round's training contexts, chosen by the seed; rounds share none.

    Raises:
      SettingsError: there are too few.
    """
    settings = session.settings.restem
    count, rounds = settings.contexts_per_round, settings.rounds
    if count * rounds > len(training.contexts):
        raise SettingsError(
            f"{rounds} rounds of {count} fresh contexts need {count * rounds} training contexts, "
            f"but there are {len(training.contexts)}: lower restem.contexts_per_round or "
            f"restem.rounds, or {_more(session, 'train_path')}.{training.explain()}"
        )
    return splits.rounds(training.contexts, count=count, rounds=rounds, seed=session.settings.seed)


def held_out(session: Session, evaluation: Available) -> list[Context]:
    """The evaluation contexts, in file order: the same for every seed of the run.

    Raises:
      SettingsError: there are too few.
    """
    found = evaluation.contexts
    wanted = session.settings.evaluation.contexts or len(found)
    if wanted > len(found):
        raise SettingsError(
            f"evaluation.contexts is {wanted}, but there are {len(found)} evaluation contexts: "
            f"lower it, or {_more(session, 'eval_path')}.{evaluation.explain()}"
        )
    if wanted < 2:
        raise SettingsError(
            "an interval needs at least 2 evaluation contexts: raise evaluation.contexts, or "
            f"{_more(session, 'eval_path')}.{evaluation.explain()}"
        )
    seed = session.settings.evaluation.seed
    drawn = {c.id for c in splits.choose(found, wanted, seed=seed, name="evaluation contexts")}
    chosen = [context for context in found if context.id in drawn]
    return _some_questions(chosen, session.settings.evaluation.questions, seed)


def _more(session: Session, key: str) -> str:
    """What gives a run more contexts."""
    task = session.settings.task
    return f"give a larger data.{key}" if task == "knowledge" else f"add contexts to task={task}"


def _some_questions(contexts: list[Context], count: int, seed: int) -> list[Context]:
    """The contexts with so many questions in all, chosen by the seed; 0 is all of them."""
    places = [(c, q) for c, context in enumerate(contexts) for q in range(len(context.questions))]
    if not 0 < count < len(places):
        return contexts
    generator = np.random.default_rng([seed, zlib.crc32(b"evaluation questions")])
    order = generator.permutation(len(places))
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
    fitting = [context for context in half.contexts("eval") if not session.unfit(context)]
    return splits.choose(
        _first_questions(fitting, settings.data.max_questions),
        settings.tuning.contexts,
        seed=None,
        name="development contexts",
    )


def _first_questions(contexts: Sequence[Context], count: int) -> list[Context]:
    """Contexts with their first questions; 0 is all of them."""
    return [
        dataclasses.replace(context, questions=context.questions[: count or None])
        for context in contexts
    ]
