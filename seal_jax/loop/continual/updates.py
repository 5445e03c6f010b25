"""A group of sequences under a mitigation: self-edit, update, merge, and ask again, step by step.

The group's K models are the base parameters with K total deltas: every earlier update of a sequence
has its place in it, beside the others.
"""

import dataclasses
import functools
import math
import zlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax

from seal_jax.core import inner, retention
from seal_jax.core.delta import Delta
from seal_jax.core.randomness import keys_for
from seal_jax.loop import answering, attempt, inner_loop, rewards
from seal_jax.loop.continual.mitigations import Mitigation
from seal_jax.loop.run import Run
from seal_jax.loop.session import EncodedLesson
from seal_jax.loop.stage import Stage
from seal_jax.runs.checkpoints import CheckpointError, Checkpoints
from seal_jax.runtime import interruption
from seal_jax.runtime.progress import Progress
from seal_jax.tasks.generated import Said
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
      sequences: the passages of each, in order; at most inner.candidates sequences.
      width: see Session.width.
      unrelated: token ids of texts whose loss shows what else is lost.
    """

    run: Run = dataclasses.field(repr=False)
    params: Any = dataclasses.field(repr=False)
    number: int
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

    @property
    def first(self) -> int:
        """Number of its first sequence."""
        return self.number * self.count

    def at(self, step: int) -> list[Context]:
        """The passage of each sequence at a step."""
        return [sequence[step] for sequence in self.sequences]

    def draws(self, kind: str, step: int) -> list[tuple]:
        """What the draws of each sequence at a step are named after."""
        return [(kind, self.first + k, step, context.id) for k, context in enumerate(self.at(step))]


def nothing(group: Group) -> Delta:
    """K total deltas without an update in them."""
    session = group.run.session
    init = functools.partial(inner.init_candidates, session.settings.inner.lora.spec())
    like_K = jax.eval_shape(init, group.params, keys_for(0, [("nothing",)] * group.count))
    return session.devices.shard(retention.empty(like_K, slots=group.steps))


def run_group(group: Group, mitigation: Mitigation, progress: Progress) -> list[Record]:
    """All steps of a group, each remembered in the ledger.

    Returns:
      For each step {"rows"}: [sequence][passage so far], see `asked`; the last one also has
      "unrelated", a loss of each sequence.
    """
    run = group.run
    keys = [f"{mitigation.name}/{group.number}/{step}" for step in range(group.steps)]
    line = f"continual-{mitigation.name}-{group.number}"
    found = run.records("retest", keys)
    if len(found) == group.steps:
        progress.update(len(group.sequences) * group.steps, replayed=True)
        run.discard_checkpoints(line)  # where a run ended just before
        return found
    checkpoints, total_K = run.checkpoints(line), nothing(group)
    written, records = [], []
    for step, key in enumerate(keys):
        write = functools.partial(_write, group, mitigation, total_K, step)
        written.append(run.once("edits", f"continual {key}", write, stage=mitigation.stage))
        total_K = _update(group, mitigation, total_K, written, key, checkpoints)
        retest = functools.partial(_retest, group, total_K, step, key)
        records.append(retested(run, key, retest, mitigation.stage))
        progress.update(len(group.sequences), replayed=step < len(found))
    if len(run.records("retest", keys)) == group.steps:
        run.discard_checkpoints(line)
    return records


def retested(run: Run, key: str, work: Callable[[], Record], stage: Stage) -> Record:
    """What models say of passages after an update, from the ledger or asked now.

    It is not recorded if a judge has failed, so that the same command asks again.
    """
    found = run.ledger.find("retest", key)
    if found is None:
        interruption.check()
        ungraded = len(run.ungraded)
        found = work()
        if len(run.ungraded) == ungraded:
            run.record("retest", key, found, stage)
    return found


def _retest(group: Group, total_K: Delta, step: int, key: str) -> Record:
    """What the group's models say of all passages so far."""
    record = asked(group, key, ((seen, total_K) for seen in range(step + 1)))
    if step + 1 == group.steps:
        record["unrelated"] = unrelated_losses(group, total_K)
    return record


def _update(
    group: Group,
    mitigation: Mitigation,
    total_K: Delta,
    written: Sequence[Record],
    key: str,
    checkpoints: Checkpoints,
) -> Delta:
    """The total deltas after the last of the steps that are written, trained now or restored."""
    run, session, step = group.run, group.run.session, len(written) - 1
    if run.ledger.find("learned", key) is not None:
        try:
            restored = checkpoints.restore(step, jax.eval_shape(lambda: total_K.tree))
            return Delta(session.devices.shard(restored), total_K.spec)
        except CheckpointError as error:
            run.say(f"continual {key}: {error} The update is done again.")
    lessons, reasons = _lessons(group, mitigation, written)
    texts_K = written[step].get("recalled", [])
    recalled = [[session.encode(text) for text in texts] for texts in texts_K]
    total_K, trained = _learn(
        group, mitigation, total_K, lessons, step, more=mitigation.added, recalled=recalled
    )
    checkpoints.save(step, total_K.tree)
    checkpoints.wait()
    results = jax.device_get(trained.results_K)
    learned = {
        "updates": [
            _describe(results, k, *of) for k, of in enumerate(zip(lessons, reasons, strict=True))
        ],
        "real_tokens": trained.tokens.real,
        "computed_tokens": trained.tokens.computed,
    }
    run.once("learned", key, lambda: learned, stage=mitigation.stage)
    return total_K


def _learn(
    group: Group,
    mitigation: Mitigation,
    total_K: Delta,
    lessons: Sequence[EncodedLesson],
    step: int,
    *,
    more: int,
    recalled: Sequence[Sequence[Tokens]] = (),
) -> tuple[Delta, inner_loop.Trained]:
    """The total deltas with an update in the slot of a step, and what was trained for it.

    Args:
      more: sequences that a lesson may have beyond those of a self-edit.
      recalled: see `Mitigation.past`.
    """
    session = group.run.session
    own, size = session.bounds, session.settings.inner.batch_size
    steps = own.steps and own.steps + own.epochs * math.ceil(more / size)
    prompts = [session.edit_prompt(context) for context in group.at(step)]
    trained = inner_loop.train(
        session,
        group.params,
        lessons,
        [("init", *draw) for draw in group.draws("continual", step)],
        order=("continual", step),
        count=group.count,
        bounds=own._replace(sequences=own.sequences + more, steps=steps),
        pasts_K=session.devices.shard(mitigation.past(total_K, prompts, recalled)),
    )
    finite_K = trained.results_K.finite
    merged_K = mitigation.merged(group.params, total_K, trained.deltas_K, finite_K, step)
    return session.devices.shard(merged_K), trained  # where a continued run puts them


def learn_at_once(group: Group, steps: Sequence[int], texts: Sequence[Sequence[str]]) -> Delta:
    """K total deltas with one update from the start, on self-edits of these steps together.

    Args:
      texts: the self-edits of each step, [step][sequence], for all steps of the group.
    """
    session = group.run.session
    lessons = []
    for k in range(len(group.sequences)):
        own = [_lesson(group, k, step, texts[step][k])[0] for step in steps]
        lessons.append(_with(own[0], _pairs(*own)))
    unmitigated = Mitigation("none", session.settings.continual)
    more = session.bounds.sequences * (len(steps) - 1)
    return _learn(group, unmitigated, nothing(group), lessons, steps[0], more=more)[0]


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
    session, own = group.run.session, mitigation.settings
    record = write_edits(group, nothing(group) if own.writer == "start" else total_K, step)
    answer = dataclasses.replace(
        session.settings.edits.sample_settings(session.stop_ids),
        max_new_tokens=own.rehearsal_tokens,
    )

    def texts(draw: str, prompt: Tokens) -> list[list[str]]:
        prompts = [[prompt] * own.rehearsal_texts] * len(group.sequences)
        width = len(prompt)
        said = _generate(group, total_K, step, prompts, draw, width=width, sample=answer)
        return [[one.text for one in of] for of in said]

    if mitigation.has("rehearsal"):
        style = session.settings.edits.prompt_style
        record["rehearsed"] = texts("rehearsal", session.prompt(_SUBJECT, style))
    if mitigation.has("distill"):
        record["recalled"] = texts("distill", tokenizer.start_of_text(session.tokenizer))
    return record


def write_edits(group: Group, total_K: Delta, step: int) -> Record:
    """One self-edit of each sequence's passage at a step, by the group's models: "texts", and for
    readers of the ledger whose they are."""
    session, edits = group.run.session, group.run.session.settings.edits
    prompts = [session.edit_prompt(context) for context in group.at(step)]
    longest = max(map(len, prompts))
    written = _generate(
        group,
        total_K,
        step,
        [[prompt] for prompt in prompts],
        "continual",
        width=next(bucket for bucket in edits.prompt_buckets if bucket >= longest),
        sample=edits.sample_settings(session.stop_ids),
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


def _generate(
    group: Group,
    total_K: Delta,
    step: int,
    prompts: Sequence[Sequence[Tokens]],
    draw: str,
    **how: Any,
) -> list[list[Said]]:
    """What the group's models write after prompts [sequence][prompt]; see `answering.generate`."""
    return answering.generate(
        group.run.session,
        group.params,
        total_K,
        prompts,
        count=group.count,
        draws=[
            [(*name, 0, n) for n in range(len(of))]  # the 0 as in the draws of earlier versions
            for name, of in zip(group.draws(draw, step), prompts, strict=True)
        ],
        at_once=len(prompts[0]),
        **how,
    )


def _lesson(group: Group, k: int, step: int, text: str) -> tuple[EncodedLesson, str | None]:
    """What a self-edit about a sequence's passage at a step teaches; or nothing, and why."""
    session, context = group.run.session, group.sequences[k][step]
    taught = session.lesson(session.task.read(context, text, 0))
    if isinstance(taught, Refusal):
        own = session.settings.inner
        how: Any = {"learning_rate": own.learning_rate, "epochs": own.epochs}
        return EncodedLesson(sequences=(), loss_masks=(), **how), taught.reason
    return taught, None


def _pairs(*lessons: EncodedLesson) -> list[tuple]:
    """Their sequences, with the loss mask of each."""
    return [pair for one in lessons for pair in zip(one.sequences, one.loss_masks, strict=True)]


def _with(lesson: EncodedLesson, pairs: Sequence[tuple]) -> EncodedLesson:
    """These sequences, learned as a lesson says."""
    sequences, loss_masks = zip(*pairs, strict=True) if pairs else ((), ())
    return dataclasses.replace(lesson, sequences=sequences, loss_masks=loss_masks)


def _lessons(
    group: Group, mitigation: Mitigation, written: Sequence[Record]
) -> tuple[list[EncodedLesson], list[str | None]]:
    """What each sequence learns at the last step, and why its self-edit teaches nothing, if so."""
    session, step = group.run.session, len(written) - 1
    lessons, reasons = [], []
    for k in range(len(group.sequences)):
        read = [_lesson(group, k, at, of["texts"][k]) for at, of in enumerate(written)]
        *old, own = [lesson for lesson, _ in read]
        seed = (session.settings.seed, zlib.crc32(b"replay"), group.first + k, step)
        pairs = _pairs(own) + mitigation.replayed(_pairs(*old), seed=seed)
        if mitigation.has("rehearsal"):
            rehearsed = Lesson(sequences=tuple(written[step]["rehearsed"][k]))
            recalled = session.lesson(rehearsed)
            pairs += _pairs(recalled) if isinstance(recalled, EncodedLesson) else []
        lessons.append(_with(own, pairs))
        reasons.append(read[step][1])
    return lessons, reasons


def asked(group: Group, key: str, models: Iterable[tuple[int, Delta | None]]) -> Record:
    """What the group's models say of the passages at some steps: {"rows": [sequence][step]}.

    Each is {"answers", "scores"}; without continual.answers, answers have the question's id and
    gold_log_likelihood alone.

    Args:
      key: names the marks in the ledger, together with the step.
      models: steps, and K total deltas for each; None is the model that the sequences start from.
    """
    said = [_ask(group, total_K, step, f"{key}/{step}") for step, total_K in models]
    return {"rows": [list(of_sequence) for of_sequence in zip(*said, strict=True)]}


def _ask(group: Group, total_K: Delta | None, step: int, key: str) -> list[Record]:
    """The marks of each of the group's models on its passage of a step."""
    run, session, contexts = group.run, group.run.session, group.at(step)
    exams = [session.exam(context, "adapted") for context in contexts]
    how: Any = {"count": group.count, "width": group.width}
    if session.settings.continual.answers:
        draws = group.draws("answer", step)
        said = answering.ask(session, group.params, total_K, exams, draws=draws, **how)
        stage = Stage(kind="continual", what=key)
        return attempt.mark(run, key, list(zip(contexts, said, strict=True)), stage)
    return [
        rewards.with_likelihoods({"answers": [{"question": id} for id in of], "scores": {}}, of)
        for of in answering.score(session, group.params, total_K, exams, **how)
    ]


def unrelated_losses(group: Group, total_K: Delta | None) -> list[float | None]:
    """The mean loss of each of the group's models on the unrelated texts, in nats a token.

    None where one is not finite, or where no text has a second token.
    """
    return answering.text_losses(
        group.run.session,
        group.params,
        total_K,
        group.unrelated,
        models=len(group.sequences),
        count=group.count,
    )
