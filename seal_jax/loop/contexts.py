"""Which contexts a run uses: fresh ones for each round, and those held out."""

import dataclasses
import zlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from seal_jax.loop.session import Session
from seal_jax.settings import SettingsError
from seal_jax.tasks import splits
from seal_jax.tasks.protocol import Context, Skipped, Split, View


class Available(NamedTuple):
    """The contexts of a split that a run can use, and what was left out, and why."""

    contexts: list[Context]
    skipped: list[Skipped]

    @property
    def left_out(self) -> dict[str, int]:
        """How many things were left out, by reason."""
        return splits.count_reasons(self.skipped)

    def explain(self) -> str:
        """What was left out, for an error; "" if nothing was."""
        first = {part.reason: part.where for part in reversed(self.skipped)}
        reasons = "; ".join(
            f"{count}, such as {first[reason]}: {reason}" for reason, count in self.left_out.items()
        )
        return f" Left out: {reasons}." if reasons else ""


def available(session: Session, split: Split, views: Sequence[View] = ("adapted",)) -> Available:
    """The contexts of a split with their first data.max_questions questions.

    Contexts whose prompts are too long for the run are left out, with the reason.
    """
    found = first_questions(session, session.task.contexts(split))
    reasons = [session.unfit(context, views) for context in found]
    too_long = [Skipped(c.id, why) for c, why in zip(found, reasons, strict=True) if why]
    return Available(
        [context for context, why in zip(found, reasons, strict=True) if not why],
        [*session.task.skipped(split), *too_long],
    )


def training_rounds(session: Session, training: Available) -> list[list[Context]]:
    """Each round's training contexts, chosen by the seed; rounds share none.

    A task whose settings name the contexts has all of them in every round.

    Raises:
      SettingsError: there are too few.
    """
    settings = session.settings.restem
    count, rounds = settings.contexts_per_round, settings.rounds
    found = training.contexts
    if session.task.takes_all:
        return [_all_named(session, training, "train on")] * rounds
    if count * rounds > len(found):
        raise SettingsError(
            f"{rounds} rounds of {count} fresh contexts need {count * rounds} training contexts, "
            f"but there are {len(found)}: lower restem.contexts_per_round or restem.rounds, or "
            f"{_more(session, 'train_path')}.{training.explain()}"
        )
    return splits.rounds(found, count=count, rounds=rounds, seed=session.settings.seed)


def first_training(session: Session, found: list[Context]) -> list[Context]:
    """The contexts of the first round, or as many of them as there are."""
    if session.task.takes_all:
        return found
    count = min(session.settings.restem.contexts_per_round, len(found))
    return splits.choose(found, count, seed=session.settings.seed, name="training contexts")


def held_out(session: Session, evaluation: Available) -> list[Context]:
    """The evaluation contexts, in file order: the same for every seed of the run.

    Raises:
      SettingsError: there are too few.
    """
    found, settings = evaluation.contexts, session.settings.evaluation
    if session.task.takes_all:
        return _all_named(session, evaluation, "evaluate")
    left = max(len(found) - settings.skip, 0)
    wanted = settings.contexts or left
    if wanted > left:
        after = f" after the {settings.skip} of evaluation.skip" if settings.skip else ""
        raise SettingsError(
            f"evaluation.contexts is {wanted}, but there are {left} evaluation contexts{after}: "
            f"lower it, or {_more(session, 'eval_path')}.{evaluation.explain()}"
        )
    if wanted < 2:
        raise SettingsError(
            "an interval needs at least 2 evaluation contexts: raise evaluation.contexts, or "
            f"{_more(session, 'eval_path')}.{evaluation.explain()}"
        )
    count = settings.skip + wanted
    chosen = splits.choose(found, count, seed=settings.seed, name="evaluation contexts")
    drawn = {context.id for context in chosen[settings.skip :]}
    kept = [context for context in found if context.id in drawn]
    return _some_questions(kept, settings.questions, settings.seed)


def development(session: Session) -> list[Context]:
    """The contexts that settings are tuned on.

    Raises:
      SettingsError: there are too few.
    """
    fitting = [
        context
        for context in first_questions(session, session.task.development())
        if not session.unfit(context)
    ]
    wanted = session.settings.tuning.contexts or max(len(fitting), 1)
    if len(fitting) < wanted:
        raise SettingsError(
            f"tuning.contexts is {wanted}, but there are {len(fitting)} development contexts: "
            "lower it, or leave tuning.learning_rates and tuning.epochs empty."
        )
    return splits.choose(fitting, wanted, seed=None, name="development contexts")


def first_questions(session: Session, contexts: Sequence[Context]) -> list[Context]:
    """Contexts with their first data.max_questions questions; 0 is all of them."""
    count = session.settings.data.max_questions
    if not count:
        return list(contexts)
    return [dataclasses.replace(c, questions=c.questions[:count]) for c in contexts]


def asked(session: Session, contexts: Sequence[Context]) -> list[Context]:
    """The contexts of which anything is asked."""
    return [context for context in contexts if session.task.exam(context, "adapted").asked]


def measures_arms(session: Session, held_out: Sequence[Context]) -> bool:
    """Whether held-out contexts compare arms by answers, rather than self-edits by the reward.

    They do not where the reward is planted, or needs no questions and nothing is asked.
    """
    reward = session.settings.reward
    if reward.kind == "pattern":
        return False
    return reward.needs_inner_loop or bool(asked(session, held_out))


def _all_named(session: Session, available: Available, what: str) -> list[Context]:
    """The contexts that the settings name.

    Raises:
      SettingsError: there are none.
    """
    if not available.contexts:
        raise SettingsError(
            f"no {session.task.context_word} to {what} fits this run: name others, or raise the "
            f"limits.{available.explain()}"
        )
    return available.contexts


def _more(session: Session, key: str) -> str:
    """What gives a run more contexts."""
    task = session.settings.task
    key = "edits" if session.settings.data.edits and key == "eval_path" else key
    return f"give a larger data.{key}" if task == "knowledge" else f"add contexts to task={task}"


def _some_questions(contexts: list[Context], count: int, seed: int) -> list[Context]:
    """The contexts with so many questions in all, chosen by the seed; 0 is all of them."""
    places = [(c, q) for c, context in enumerate(contexts) for q in context.questions]
    if not 0 < count < len(places):
        return contexts
    generator = np.random.default_rng([seed, zlib.crc32(b"evaluation questions")])
    kept = {places[i] for i in generator.permutation(len(places))[:count]}
    return [
        dataclasses.replace(
            context, questions=tuple(q for q in context.questions if (c, q) in kept)
        )
        for c, context in enumerate(contexts)
    ]
