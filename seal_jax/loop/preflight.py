"""Everything that a later stage will ask is built and checked before the first round.

What cannot work is refused here, with what to change: nothing that was computed may end unreadable.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

from seal_jax.judges import teacher
from seal_jax.loop import arms as arms_lib
from seal_jax.loop import contexts as contexts_lib
from seal_jax.loop import rewards
from seal_jax.loop.contexts import Available
from seal_jax.loop.run import Run
from seal_jax.loop.session import Session
from seal_jax.settings import SettingsError, object_reference
from seal_jax.tasks import splits
from seal_jax.tasks.protocol import BaseEdits, Context, Lesson, Request, Teach, View, Write
from seal_jax.tasks.sources import answered


@dataclasses.dataclass(frozen=True)
class Ready:
    """The contexts of a run.

    Attributes:
      rounds: of each round.
      held_out: of the evaluation.
      available: of each split, what can be used and what was left out.
      difference: how the evaluation split differs from the paper's; "" for not at all.
    """

    rounds: list[list[Context]]
    held_out: list[Context]
    available: dict[str, Available]
    difference: str

    def results(self) -> dict[str, Any]:
        """What results.json says of them."""
        return {
            "left_out": {split: of.left_out for split, of in self.available.items()},
            "differs_from_paper_split": self.difference,
        }


def check(run: Run, *, rounds: int, known: Sequence[str]) -> Ready:
    """Checks a run's settings, data and prompts, and says what it is going to do.

    Args:
      rounds: of ReST-EM; 0 for an evaluation alone.
      known: the policies that there will be: "base", and "policy" unless none is trained.

    Raises:
      SettingsError: something cannot work; with what to change.
      TeacherError: the teacher's file lacks texts.
    """
    session = run.session
    settings, task = session.settings, session.task
    held = settings.evaluation
    _check_reward(session)
    arms_lib.check(task, held.arms, held.form)
    planted = settings.reward.kind == "pattern"
    if not arms_lib.rows(task, held.arms, known) or (planted and "policy" not in known):
        raise SettingsError(
            "there is nothing to evaluate without a trained policy: set restem.rounds to train one "
            "or give evaluate --policy_from=RUN, or name another of evaluation.arms (and no "
            "planted reward)."
        )
    if rounds and not task.writes:
        without = arms_lib.without_self_edit(task)
        raise SettingsError(f"{without}: set restem.rounds to 0.")
    views: tuple[View, ...] = ("adapted", "unadapted")
    if "prompt" in held.arms:
        views = (*views, "reading")
    available = {"eval": contexts_lib.available(session, "eval", views)}
    needs_training = rounds or "fixed" in held.arms
    if needs_training:
        available["train"] = contexts_lib.available(session, "train", ("adapted", "unadapted"))
    chosen = contexts_lib.training_rounds(session, available["train"]) if rounds else []
    held_out = contexts_lib.held_out(session, available["eval"])
    _check_named(session, chosen, held_out)
    splits.check_disjoint([c for of in chosen for c in of], held_out)
    if not contexts_lib.asked(session, held_out):
        raise SettingsError(
            f"none of the {len(held_out)} evaluation contexts has a {task.question_word}: give "
            "data with some."
        )
    if rounds and settings.reward.needs_inner_loop:
        _check_asked(session, [context for of in chosen for context in of])
    development = contexts_lib.development(session) if settings.tuning.epochs else []
    for contexts in filter(None, (held_out, development)):
        _check_sources(session, contexts)
    run.say(_plan(session, chosen, held_out))
    if session.merged_golds:
        run.say(
            f"{session.merged_golds} gold answers share a token with the end of their prompt: what "
            "is scored of them begins with that token"
        )
    for split, of in available.items():
        if of.skipped:
            run.say(f"{split}: {len(of.skipped)} left out.{of.explain()}")
    return Ready(chosen, held_out, available, task.difference("eval"))


def training_contexts(session: Session) -> list[Context]:
    """Where fixed lessons are compared: the training contexts of the first round."""
    if "fixed" not in session.settings.evaluation.arms:
        return []
    found = contexts_lib.available(session, "train")
    if session.task.takes_all:
        return found.contexts
    count = session.settings.restem.contexts_per_round
    return splits.choose(
        found.contexts,
        min(count, len(found.contexts)),
        seed=session.settings.seed,
        name="training contexts",
    )


def _check_reward(session: Session) -> None:
    settings, task = session.settings, session.task
    kinds = rewards.kinds(task)
    kind = settings.reward.kind
    if kind not in kinds and not object_reference.is_one(kind):
        raise SettingsError(
            f"reward.kind={kind!r} is none of task={settings.task}: expected one of "
            f"{', '.join(kinds)}, or module:function."
        )
    names = [metric.name for metric in rewards.metrics(task)]
    if settings.tuning.epochs and settings.tuning.metric not in names:
        raise SettingsError(
            f"tuning.metric={settings.tuning.metric!r} is none of task={settings.task}: expected "
            f"one of {', '.join(names)}."
        )
    if settings.tuning.epochs and task.directs:
        raise SettingsError(
            "tuning chooses learning rates and epochs, which the self-edits of this run say "
            "themselves: leave tuning.learning_rates and tuning.epochs empty."
        )


def _check_named(
    session: Session, rounds: Sequence[Sequence[Context]], held_out: Sequence[Context]
) -> None:
    """Refuses settings that name a context for training and for the evaluation."""
    word = session.task.context_word
    shared = {c.id for of in rounds for c in of} & {c.id for c in held_out}
    if session.task.takes_all and shared:
        raise SettingsError(
            f"{word} {min(shared)} is both trained on and evaluated: name other {word}s for one of "
            "the two."
        )


def _check_asked(session: Session, training: Sequence[Context]) -> None:
    """Every training context must be asked something, or its self-edits have no reward."""
    silent = [c.id for c in training if not session.exam(c, "adapted").exam.asked]
    if silent:
        raise SettingsError(
            f"{len(silent)} training contexts have no {session.task.question_word}, such as "
            f"{silent[0]!r}, so that their self-edits would have no reward: take them out of the "
            "data."
        )


def _check_sources(session: Session, contexts: Sequence[Context]) -> None:
    """What the arms' sources will ask for and learn, as far as it is known before the run."""
    settings, task = session.settings, session.task
    arms = arms_lib.table(task)
    names = [name for name in settings.evaluation.arms if arms[name].source]
    for name in names:
        try:
            asking: Any
            if settings.evaluation.form == "corpus":
                asking = task.sources[name].together(contexts, 1, settings.corpus.passage)
            else:
                asking = task.sources[name].lessons(contexts, settings.evaluation.edits)
            learned: list = answered(asking, functools.partial(_dry, session, contexts, name=name))
        except ValueError as error:
            if isinstance(error, SettingsError):
                raise
            raise SettingsError(f"the arm {name!r}: {error}") from None
        _check_positions(session, name, learned)


def _dry(session: Session, contexts: Sequence[Context], request: Request, name: str) -> Any:
    """A request of a source answered as if every text that it asks for were its own prompt."""
    settings, task = session.settings, session.task
    if isinstance(request, Write):
        for id, turn in request.prompts.items():
            length = len(session.prompt(turn, settings.edits.prompt_style))
            limit = min(
                settings.edits.prompt_buckets[-1],
                session.model.max_positions - settings.edits.max_new_tokens,
            )
            if length > limit:
                raise SettingsError(
                    f"the arm {name!r} asks for {request.name} with a prompt of {length} tokens "
                    f"({id}), more than fit ({limit}): add a larger bucket to "
                    "edits.prompt_buckets, lower edits.max_new_tokens, or leave it out of "
                    "evaluation.arms."
                )
        return dict(request.prompts)
    if isinstance(request, Teach):
        if not settings.teacher.file:
            return [[context.text] for context in contexts]
        prompts = {context.id: task.edit_prompt(context) for context in contexts}
        found = teacher.read_completions(settings.teacher.file, prompts).texts
        return [found[context.id] for context in contexts]
    if isinstance(request, BaseEdits):
        return [[""] for _ in contexts]
    for option in range(len(request.options)):
        request.lesson(contexts[0], option, "")
    return 0


def _check_positions(session: Session, name: str, learned: Sequence[Any]) -> None:
    """Refuses training sequences that the model has no positions for."""
    corpus = session.settings.evaluation.form == "corpus"
    buckets = session.settings.corpus.buckets if corpus else session.settings.inner.buckets
    key = "corpus.buckets" if corpus else "inner.buckets"
    limit = session.model.max_positions
    if buckets[-1] <= limit:
        return
    lessons = [one for of in learned for one in (of if isinstance(of, list) else [of])]
    texts = [
        text
        for one in lessons
        for text in (one.sequences if isinstance(one, Lesson) else (one,))
        if isinstance(text, str)
    ]
    longest = max((len(session.encode(text)) for text in texts), default=0)
    if min(longest, buckets[-1]) > limit:
        raise SettingsError(
            f"the arm {name!r} learns a text of {longest} tokens, but the model has {limit} "
            f"positions: end {key} with {limit} or less, so that texts are cut there."
        )


def _plan(
    session: Session, rounds: Sequence[Sequence[Context]], held_out: Sequence[Context]
) -> str:
    """What the run will do, in a few lines, with about how many tokens its inner loops train on."""
    settings, task = session.settings, session.task
    held, tuning, reward = settings.evaluation, settings.tuning, settings.reward
    longest = settings.edits.max_new_tokens
    each = f" x {reward.replicates} inner loops" if reward.needs_inner_loop else ""
    arms = arms_lib.table(task)
    learning = [arms[name] for name in held.arms if arms[name].learns]
    lines = [
        f"plan: {len(rounds)} rounds of {len(rounds[0]) if rounds else 0} "
        f"{task.context_word}s x {settings.edits.samples} self-edits{each}, then {len(held_out)} "
        f"evaluation {task.context_word}s in {len(held.arms)} arms"
    ]
    if reward.kind != "pattern" and held.form == "single" and not task.directs:

        def tokens(contexts: Sequence[Context], edits: int, edit_tokens: int) -> int:
            own = sum(
                len(session.encode(text))
                for c in contexts
                for text in task.context_sequences(c)
                if isinstance(text, str)
            )
            return settings.inner.epochs * edits * (own + edit_tokens * len(contexts))

        loops = settings.edits.samples * reward.replicates * reward.needs_inner_loop
        total = sum(tokens(contexts, loops, longest) for contexts in rounds)
        for arm in learning:
            alone = arm.source == "passage"
            total += tokens(held_out, 1 if alone else held.edits, 0 if alone else longest)
        lines.append(
            f"plan: about {total:,} inner-loop tokens, if every self-edit is {longest} tokens long"
        )
    if tuning.epochs:
        lines.append(
            f"plan: before that {len(learning)} arms try {len(tuning.learning_rates)} learning "
            f"rates x {len(tuning.epochs)} epochs on {tuning.contexts} development contexts"
        )
    return "\n".join(lines)
