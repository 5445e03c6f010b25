"""Everything that a later stage will ask is built and checked before the first round.

What cannot work is refused here, with what to change: nothing that was computed may end unreadable.
"""

import dataclasses
import functools
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from seal_jax.judges import teacher
from seal_jax.loop import arms as arms_lib
from seal_jax.loop import contexts as contexts_lib
from seal_jax.loop import failures, rewards
from seal_jax.loop import questions as questions_lib
from seal_jax.loop.arms import Arm
from seal_jax.loop.contexts import Available
from seal_jax.loop.run import Run
from seal_jax.loop.session import Session
from seal_jax.loop.stage import Stage
from seal_jax.settings import SettingsError, object_reference
from seal_jax.tasks import splits
from seal_jax.tasks.protocol import (
    BaseEdits,
    Context,
    Lesson,
    Request,
    Sequence_,
    Skipped,
    Teach,
    Tell,
    View,
    Write,
)
from seal_jax.tasks.sources import answered
from seal_jax.tasks.texts import is_blank


@dataclasses.dataclass(frozen=True)
class Ready:
    """The contexts of a run.

    Attributes:
      rounds: of each round.
      training: where fixed lessons are compared: those of the first round.
      held_out: of the evaluation.
      available: of each split, what can be used and what was left out.
    """

    rounds: list[list[Context]]
    training: list[Context]
    held_out: list[Context]
    available: dict[str, Available]


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
    planted = settings.reward.kind == "pattern" and "policy" not in known
    rows = arms_lib.rows(task, held.arms, known)
    nothing = (
        "there is nothing to evaluate without a trained policy: set restem.rounds to train one or "
        "give evaluate --policy_from=RUN, or name another of evaluation.arms (and no planted "
        "reward)."
    )
    if planted or not rows:
        raise SettingsError(nothing)
    if rounds and not task.writes:
        without = arms_lib.without_self_edit(task)
        raise SettingsError(f"{without}: set restem.rounds to 0.")
    views: tuple[View, ...] = ("adapted", "unadapted")
    if "prompt" in held.arms:
        views = (*views, "reading")
    available = {"eval": contexts_lib.available(session, "eval", views)}
    chosen: list[list[Context]] = []
    training: list[Context] = []
    if rounds or "fixed" in held.arms:
        available["train"] = contexts_lib.available(session, "train", ("adapted", "unadapted"))
        training = contexts_lib.first_training(session, available["train"].contexts)
    if rounds:
        chosen = contexts_lib.training_rounds(session, available["train"])
    held_out = contexts_lib.held_out(session, available["eval"])
    if task.questioner or settings.reward.kind == rewards.AGREEMENT:
        chosen, training, held_out = _asked(run, chosen, training, held_out, available, views)
    if "policy" not in known and not contexts_lib.measures_arms(session, held_out):
        raise SettingsError(nothing)
    _check_contexts(session, [context for of in chosen for context in of], held_out)
    development = contexts_lib.development(session) if settings.tuning.epochs else []
    for contexts in filter(None, (held_out, development)):
        _check_sources(session, contexts)
    ask_judge(run, (contexts_lib.asked(session, held_out) or held_out)[0])
    if rounds:
        _check_disk(run, rounds * (1 + len(arms_lib.controls(held.arms))))
    run.whole.planned = _stages(session, chosen, held_out, rows)
    run.say(_plan(session, chosen, held_out, rows, len(development)))
    if session.merged_golds:
        run.say(
            f"{session.merged_golds} gold answers share a token with the end of their prompt: what "
            "is scored of them begins with that token"
        )
    for split, of in available.items():
        if of.skipped:
            run.say(f"{split}: {len(of.skipped)} left out.{of.explain()}")
    return Ready(chosen, training, held_out, available)


def _check_disk(run: Run, policies: int) -> None:
    """The disk must have room for the deltas of policies, and for the states of a training."""
    sft, workdir = run.session.settings.restem.sft, run.steps.path.parent
    if run.hosts.rank > 0 or not isinstance(workdir, pathlib.Path):
        return
    leaves = jax.tree.leaves(run.session.delta_shapes(sft.spec()))
    delta = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in leaves)
    left = policies - len(run.ledger.segments("policy"))
    states = sft.keep_checkpoints if sft.checkpoint_steps else 0  # each with two moments
    failures.check_room(
        workdir,
        (left + 3 * states) * delta,
        f"{left} checkpoints of policies and {states} states of a training",
        "restem.sft.lora.rank or restem.sft.keep_checkpoints",
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


def _check_contexts(
    session: Session, training: Sequence[Context], held_out: Sequence[Context]
) -> None:
    """No context may be in both splits, and where an answer counts each must be asked something."""
    task, word = session.task, session.task.context_word
    shared = {c.id for c in training} & {c.id for c in held_out}
    if task.takes_all and shared:
        raise SettingsError(
            f"{word} {min(shared)} is both trained on and evaluated: name other {word}s for one of "
            "the two."
        )
    splits.check_disjoint(training, held_out)
    needed = session.settings.reward.needs_inner_loop
    if needed and not contexts_lib.asked(session, held_out):
        raise SettingsError(
            f"none of the {len(held_out)} evaluation contexts has a {task.question_word}: give "
            "data with some, or have them written (data.questions)."
        )
    silent = [c.id for c in training if not session.task.exam(c, "adapted").asked]
    if silent and needed:
        raise SettingsError(
            f"{len(silent)} training contexts have no {task.question_word}, such as {silent[0]!r}, "
            "so that their self-edits would have no reward: take them out of the data."
        )


def _asked(
    run: Run,
    rounds: list[list[Context]],
    training: list[Context],
    held_out: list[Context],
    available: dict[str, Available],
    views: Sequence[View],
) -> tuple[list[list[Context]], list[Context], list[Context]]:
    """The same contexts with the questions that are written about them; those without any are left
    out, but in rounds that need none.

    Of the reward "agreement" training contexts have questions of their own, which the base model
    answers as it reads.

    Raises:
      SettingsError: none is left of a round or of the evaluation.
    """
    session, settings = run.session, run.session.settings
    own, agrees = session.task.questioner, settings.reward.kind == rewards.AGREEMENT
    if settings.tuning.epochs and own:
        raise SettingsError(
            f"tuning asks about development contexts, and data.questions={own!r} writes questions "
            "about others only: leave tuning.learning_rates and tuning.epochs empty."
        )
    every = {context.id: context for of in (*rounds, training) for context in of}
    sides = {"train": list(every.values()), "eval": held_out}
    writers = {"train": settings.reward.questions if agrees else own, "eval": own}
    if not settings.reward.needs_inner_loop and "fixed" not in settings.evaluation.arms:
        sides.pop("train")
    sides = {split: contexts for split, contexts in sides.items() if contexts and writers[split]}

    def take(split: str, found: Sequence[Context], without: str, views: Sequence[View]) -> None:
        for context in found:
            why = "" if context.questions else without
            why = why or session.unfit(context, views, edits=False)
            if why:
                available[split].skipped.append(Skipped(context.id, why))
            every[context.id] = dataclasses.replace(context, questions=()) if why else context

    for split, contexts in sides.items():
        by = writers[split]
        dry = functools.partial(_dry, session, contexts, name="")
        answered(session.task.ask(contexts, by), dry)
        found = questions_lib.written(run, contexts, split, by)
        reads = agrees and split == "train"
        asked: Sequence[View] = ("adapted", "unadapted", "reading") if reads else views
        take(split, found, f"no question could be read of what the {by} wrote", asked)
        fit = [every[c.id] for c in contexts if every[c.id].questions]
        if reads and fit:
            take(split, questions_lib.read(run, fit), "the reading model answers nothing", asked)

    stronger = "have a stronger model write them (data.questions='teacher')"
    instead = {"train": "set reward.questions='rule'" if agrees else stronger, "eval": stronger}

    def kept(split: str, contexts: Sequence[Context]) -> list[Context]:
        found = [every.get(context.id, context) for context in contexts]
        found = [context for context in found if context.questions or split not in sides]
        if contexts and not found:
            raise SettingsError(
                f"the {writers[split]} wrote no question that could be read about {len(contexts)} "
                f"contexts ({split}): {instead[split]}, or raise edits.max_new_tokens."
            )
        return found

    return [kept("train", of) for of in rounds], kept("train", training), kept("eval", held_out)


def ask_judge(run: Run, context: Context) -> None:
    """Puts one real question to the judges: one that cannot judge is seen before the work.

    The grader is asked about a gold answer, the rubric about a title as a self-edit.

    Raises:
      SettingsError: there is no verdict, and the reward needs one.
      EndpointError: the judge's endpoint cannot complete anything.
    """
    session, reward = run.session, run.session.settings.reward
    if run.hosts.rank > 0:
        return
    if session.rubric is not None:
        [scored] = session.rubric.score([(context, context.title)])
        if scored.score is None:
            raise SettingsError(f"the rubric gave a first self-edit no score: {scored.reason}.")
    exam = session.exam(context, "adapted").exam
    golds = {one.question: one.gold for one in exam.scored if not is_blank(one.gold)}
    first = next((one for one in exam.asked if one.question in golds), None)
    if first is None or reward.kind == "pattern":
        return  # nothing is graded
    [mark] = session.task.mark([(context, exam, {first.id: golds[first.question]})], session.grader)
    found = next((one for one in mark.answers if one["question"] == first.question), {})
    if not found.get("ungraded"):
        return
    what = (
        f"the judge ({session.grader.name}) gave no verdict on a first answer, the gold one to "
        f"{first.question!r}: {found['ungraded']}"
    )
    if rewards.needs_verdicts(reward):
        raise SettingsError(f"{what}. Mend what it needs; nothing has been computed yet.")
    run.say(f"{what}. The reward does not need one, so the run goes on.")


def _check_sources(session: Session, contexts: Sequence[Context]) -> None:
    """What the arms' sources will ask for and learn, as far as it is known before the run."""
    settings, sources = session.settings, session.task.sources
    corpus = settings.evaluation.form == "corpus"
    for name in settings.evaluation.arms:
        if name not in sources:
            continue
        try:
            asking: Any
            if corpus:
                asking = sources[name].together(contexts, 1, settings.corpus.passage)
            else:
                asking = sources[name].lessons(contexts, settings.evaluation.edits)
            learned: list = answered(asking, functools.partial(_dry, session, contexts, name=name))
        except SettingsError:
            raise
        except ValueError as error:
            raise SettingsError(f"the arm {name!r}: {error}") from None
        lessons = [] if corpus else [one for of in learned for one in of]
        taught = [s for one in lessons if isinstance(one, Lesson) for s in one.sequences]
        _check_positions(session, name, learned if corpus else taught)


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
                    f"{f'the arm {name!r}' if name else 'data.questions'} asks for {request.name} "
                    f"with a prompt of {length} tokens ({id}), more than fit ({limit}): add a "
                    "larger bucket to edits.prompt_buckets, lower edits.max_new_tokens"
                    f"{', or leave it out of evaluation.arms' if name else ''}."
                )
        return dict(request.prompts)
    if isinstance(request, Teach) and request.prompts is not None:
        if not settings.teacher.file:
            return dict(request.prompts)
        texts = teacher.read_completions(settings.teacher.file, request.prompts).texts
        return {name: text for name, [text, *_] in texts.items()}
    if isinstance(request, Teach):
        if not settings.teacher.file:
            return [[context.text] for context in contexts]
        prompts = {context.id: task.edit_prompt(context) for context in contexts}
        found = teacher.read_completions(settings.teacher.file, prompts).texts
        return [found[context.id] for context in contexts]
    if isinstance(request, BaseEdits):
        return [[""] for _ in contexts]
    if isinstance(request, Tell):
        return None  # of prompts in the place of texts
    for option in range(len(request.options)):
        request.lesson(contexts[0], option, "")
    return 0


def _check_positions(session: Session, name: str, sequences: Sequence[Sequence_]) -> None:
    """Refuses training sequences that the model has no positions for."""
    settings, limit = session.settings, session.model.max_positions
    group = "corpus" if settings.evaluation.form == "corpus" else "inner"
    largest = getattr(settings, group).buckets[-1]
    if largest <= limit:
        return
    texts = [text for text in sequences if isinstance(text, str)]
    longest = max((len(session.encode(text)) for text in texts), default=0)
    if longest > limit:
        raise SettingsError(
            f"the arm {name!r} learns a text of {longest} tokens, but the model has {limit} "
            f"positions: end {group}.buckets with {limit} or less, so that texts are cut there."
        )


def _stages(
    session: Session,
    rounds: Sequence[Sequence[Context]],
    held_out: Sequence[Context],
    rows: Mapping[str, Arm],
) -> dict[str, tuple[str, int]]:
    """The stages before a run that take the most time, with their units; see `progress.Whole`.

    As many self-edits are taken to be kept as may be, and a source to give one lesson.
    """
    settings, word = session.settings, session.task.context_word
    held, reward, sft = settings.evaluation, settings.reward, settings.restem.sft
    gradient = settings.restem.gradient()
    found: dict[str, tuple[str, int]] = {}
    for line in ("", *(arms_lib.controls(held.arms) if rounds else ())):
        for number, contexts in enumerate(rounds, start=1):
            stage, count = Stage(kind="round", round=number, line=line), len(contexts)
            if not line or number > 1:
                found[f"{stage}: sample"] = ("prompt", count)
            if reward.needs_inner_loop and not line:
                found[f"{stage}: answers"] = (word, count)
                tried = count * settings.edits.samples * reward.replicates
                found[f"{stage}: adapt"] = ("edit", tried)
            kept = count * settings.restem.most_kept(settings.edits.samples)
            if gradient:
                found[f"{stage}: log-likelihoods"] = ("self-edit", kept * gradient.rows)
            steps = sft.epochs * math.ceil(kept / sft.batch_size)
            found[f"{stage}: M-step"] = ("step", steps)
    asked = len(contexts_lib.asked(session, held_out))
    for name, arm in rows.items() if contexts_lib.measures_arms(session, held_out) else ():
        for policy in arm.editors:
            editor = Stage(kind="edits", split="eval", what=policy)
            found[f"{editor}: sample"] = ("prompt", len(held_out))
        if not arm.learns:
            what = "prompt" if arm.view == "reading" else arm.learner
            found[f"eval {what}: answers"] = (word, asked)
        elif held.form == "corpus":
            found[f"eval {name}: answers"] = (word, asked)
        else:
            found[f"eval {name}: adapt"] = (
                "edit",
                len(held_out) * (held.edits if arm.editor else 1),
            )
    return found


def _plan(
    session: Session,
    rounds: Sequence[Sequence[Context]],
    held_out: Sequence[Context],
    rows: Mapping[str, Arm],
    development: int,
) -> str:
    """What the run will do, in a few lines, with about how many tokens its inner loops train on."""
    settings, task, word = session.settings, session.task, session.task.context_word
    held, tuning, reward = settings.evaluation, settings.tuning, settings.reward
    longest = settings.edits.max_new_tokens
    loops = reward.replicates * reward.needs_inner_loop
    measured = contexts_lib.measures_arms(session, held_out)
    learning = [arm for arm in rows.values() if arm.learns and measured]
    training = (
        f"{len(rounds)} rounds of {len(rounds[0])} {word}s x {settings.edits.samples} self-edits"
        f"{f' x {loops} inner loops' if loops else ''}, then "
        if rounds
        else ""
    )
    lines = [
        f"plan: {training}{len(held_out)} evaluation {word}s in "
        + (f"{len(rows)} arms" if measured else "no arms: the reward of self-edits alone")
    ]
    known = held.form == "single" and not (task.directs or settings.data.edits)
    if reward.kind != "pattern" and known:
        parts = [(of, settings.edits.samples * loops, longest) for of in rounds]
        parts += [
            (held_out, 1, 0) if arm.source == "passage" else (held_out, held.edits, longest)
            for arm in learning
        ]
        total = 0
        for contexts, edits, length in parts:
            own = [s for c in contexts for s in task.context_sequences(c) if isinstance(s, str)]
            each = sum(len(session.encode(text)) for text in own) + length * len(contexts)
            total += settings.inner.epochs * edits * each
        lines += [
            f"plan: about {total:,} inner-loop tokens, if every self-edit is {longest} tokens long"
        ] * bool(total)
    if tuning.epochs:
        lines.append(
            f"plan: before that {len(learning)} arms try {len(tuning.learning_rates)} learning "
            f"rates x {len(tuning.epochs)} epochs on {development} development contexts"
        )
    return "\n".join(lines)
