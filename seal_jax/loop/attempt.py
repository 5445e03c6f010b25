"""Verb: attempt. Candidates are trained, examined and marked; so are models as they are.

What was tried (texts, likelihoods) and how it was marked (verdicts) are separate records: where a
judge fails, no inner loop is done again.
"""

import dataclasses
import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax

from seal_jax.core import batching
from seal_jax.loop import answering, inner_loop, memory, rewards
from seal_jax.loop.policies import Policy
from seal_jax.loop.run import Run, Ungraded
from seal_jax.loop.session import EncodedLesson, Session
from seal_jax.loop.stage import Stage
from seal_jax.settings import SettingsError
from seal_jax.stats.intervals import mean
from seal_jax.tasks.protocol import Context, Lesson, Refusal, View

Record = dict[str, Any]
DIVERGED = "the inner update became non-finite"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Candidate:
    """A lesson being tried in one inner loop.

    Attributes:
      context: what it is about.
      index: the lesson's number among those of its context.
      replicate: number of the inner loop among those of the lesson; it changes the seed only.
      lesson: as tokens; or why there is none.
      other: the context whose gold answers the mismatched control scores, or None.
    """

    context: Context
    index: int
    replicate: int
    lesson: EncodedLesson | Refusal
    other: Context | None = None

    def describe(self) -> Record:
        """What identifies it, and what of it is trained on."""
        named = {"context": self.context.id, "index": self.index, "replicate": self.replicate}
        if isinstance(self.lesson, Refusal):
            return named | {"reason": self.lesson.reason, "invalid": self.lesson.invalid}
        return named | {
            "head": self.lesson.head,
            "sequences": len(self.lesson.sequences),
            "dropped_sequences": self.lesson.dropped_sequences,
            "dropped_tokens": self.lesson.dropped_tokens,
            "trained_tokens": self.lesson.epochs * self.lesson.tokens,
        }


class Tried(NamedTuple):
    """What came of candidates: a record each, and the tokens of their inner loops."""

    records: list[Record]
    tokens: batching.TokenCounts


def candidates(
    session: Session,
    contexts: Sequence[Context],
    lessons: Sequence[Sequence[Lesson | Refusal]],
    *,
    replicates: Sequence[int] | None = None,
    others: Sequence[Context] | None = None,
    learning_rate: float = 0.0,
    epochs: int = 0,
) -> list[Candidate]:
    """Candidates of lessons [C][M].

    Args:
      replicates: the inner loop of each of a context's lessons; None is their number.
      others: for each context, the one whose gold answers the mismatched control scores.
      learning_rate, epochs: see `Session.lesson`.
    """
    return [
        candidate(
            session,
            context,
            lesson,
            index=m,
            replicate=m if replicates is None else replicates[m],
            other=others[c] if others else None,
            learning_rate=learning_rate,
            epochs=epochs,
        )
        for c, context in enumerate(contexts)
        for m, lesson in enumerate(lessons[c])
    ]


def candidate(
    session: Session,
    context: Context,
    lesson: Lesson | Refusal,
    *,
    index: int,
    replicate: int,
    other: Context | None = None,
    learning_rate: float = 0.0,
    epochs: int = 0,
) -> Candidate:
    """A candidate; a lesson that cannot be followed becomes a refusal."""
    make = functools.partial(
        Candidate, context=context, index=index, replicate=replicate, other=other
    )
    if isinstance(lesson, Refusal):
        return make(lesson=lesson)
    encoded = session.lesson(lesson, learning_rate=learning_rate, epochs=epochs)
    if not encoded.sequences:
        reason = "no training sequence fits the largest of inner.buckets"
        return make(lesson=Refusal(reason, invalid=False))
    taken, most = inner_loop.steps(session, encoded), session.bounds.steps
    if most and taken > most:
        reason = f"it takes {taken} steps, more than the {most} that are allowed"
        return make(lesson=Refusal(reason, invalid=False))
    return make(lesson=encoded)


def attempt(
    run: Run,
    policy: Policy,
    tried: Sequence[Candidate],
    *,
    stage: Stage,
    width: int,
    draw: str = "",
) -> Tried:
    """Trains every candidate, asks each adapted model its context's exam, and has it marked.

    Candidates are trained group by group; a group is of one replicate and of like cost. The plan of
    groups is a function of the arguments and K, and is recorded first.

    Args:
      policy: the model that is adapted.
      stage: names the units in the ledger, and the draws unless `draw` does.
      width: see `Session.width`.

    Returns:
      The records in the candidates' order: those of `Candidate.describe`, and "steps",
      "first_loss", "last_loss", "reason" (None, or why there are no answers), "answers", "scores",
      and where the candidates have one "mismatched", the other context's gold log-likelihoods.
    """
    session, draw = run.session, draw or stage.name
    main = session.task.metrics[0].name
    groups = _groups(run, tried, stage)
    units = {f"{stage}/{number}": group for number, group in enumerate(groups)}
    earned: list[float | None] = []
    show = functools.partial(_so_far, session.settings.reward.kind, earned)
    with run.stage(f"{stage}: adapt", len(tried), "edit") as progress:
        progress.update(len(tried) - sum(map(len, groups)))
        for key in run.missing("trials", units, progress, show):
            members = [tried[i] for i in units[key]]
            content = (policy.digest, draw, width, session.settings.inner, session.settings.answers)
            content += tuple(_content(session, one) for one in members)
            if run.copied("trials", key, content, stage):
                continue
            while True:
                with memory.room(run, memory.CANDIDATES, stage=f"{stage}: adapt") as count:
                    trials, real, computed = [], 0, 0
                    for first in range(0, len(members), count):
                        piece = members[first : first + count]
                        trained = inner_loop.train(
                            session,
                            policy.params,
                            [one.lesson for one in piece],  # type: ignore[misc]
                            # Common random numbers: the lessons of a context start from one delta
                            # in each replicate.
                            [("init", draw, one.context.id, one.replicate) for one in piece],
                            order=(draw, piece[0].replicate),
                            count=count,
                            bounds=session.bounds,
                        )
                        trials += _examine(
                            session, policy.params, piece, trained, count, width, draw
                        )
                        real += trained.tokens.real
                        computed += trained.tokens.computed
                    break
            done = {"trials": trials, "real_tokens": real, "computed_tokens": computed}
            run.record("trials", key, done, stage, content)
            if run.hosts.alone:  # at once, so that a judge that fails is seen early
                [marks] = _marked(run, {key: units[key]}, [done], tried, stage)
                if session.settings.reward.kind in rewards.kinds(session.task):
                    reward = session.settings.reward
                    earned += [rewards.value(one, reward, main) for one in marks]
    records = run.records("trials", units)
    marked = _marked(run, units, records, tried, stage)
    found: dict[int, Record] = {}
    for group, record, marks in zip(groups, records, marked, strict=True):
        found |= {
            i: _without_texts(trial) | mark
            for i, trial, mark in zip(group, record["trials"], marks, strict=True)
        }
    whole = [found.get(i) or {**one.describe(), "answers": []} for i, one in enumerate(tried)]
    tokens = batching.TokenCounts(
        real=sum(record["real_tokens"] for record in records),
        computed=sum(record["computed_tokens"] for record in records),
    )
    _report(run, stage, whole, tokens)
    return Tried(whole, tokens)


def answer(
    run: Run,
    policy: Policy,
    contexts: Sequence[Context],
    *,
    stage: Stage,
    width: int,
    view: View = "unadapted",
    made: Any = None,
    content: Any = None,
) -> dict[str, Record]:
    """What one model answers as it is: {"answers", "scores"} by context id.

    Args:
      view: how it is asked.
      made: makes the model's parameters where they are not the policy's; only called if answers are
        missing in the ledger.
      content: what they follow from, beside the policy.
    """
    session, size = run.session, run.session.settings.inner.candidates
    params = functools.cache(made) if made else lambda: policy.params
    draw = (stage.split or stage.name) if session.settings.answers.temperature else ""
    units = {
        f"{stage}/{number}": contexts[first : first + size]
        for number, first in enumerate(range(0, len(contexts), size))
    }
    if any(run.ledger.find("answers", key) is None for key in units):
        params()  # by all hosts, also by those that answer nothing
    with run.stage(f"{stage}: answers", len(contexts), session.task.context_word) as progress:
        for key in run.missing("answers", units, progress):
            exams = [session.exam(context, view) for context in units[key]]
            ids = [context.id for context in units[key]]
            of: tuple = (policy.digest, content, view, width, session.settings.answers, size)
            of += (ids, exams, *[draw] * bool(draw))
            if run.copied("answers", key, of, stage):
                continue
            while True:
                with memory.room(run, memory.CANDIDATES, stage=f"{stage}: answers") as count:
                    said = []
                    for first in range(0, len(exams), count):
                        piece = exams[first : first + count]
                        draws = [("answer", draw, id, 0) for id in ids[first : first + count]]
                        said += answering.ask(
                            session, params(), None, piece, count=count, width=width, draws=draws
                        )
                    break
            named = [{"context": c.id, **one} for c, one in zip(units[key], said, strict=True)]
            run.record("answers", key, {"of": named}, stage, of)
    found: dict[str, Record] = {}
    records = run.records("answers", units)
    for (key, of_unit), record in zip(units.items(), records, strict=True):
        pairs = list(zip(of_unit, record["of"], strict=True))
        marks = mark(run, f"answers {key}", pairs, stage, view)
        found |= {context.id: one for context, one in zip(of_unit, marks, strict=True)}
    return found


def mark(
    run: Run,
    key: str,
    said: Sequence[tuple[Context, Record]],
    stage: Stage,
    view: View = "adapted",
) -> list[Record]:
    """Marks of what models said, from the ledger or made now: {"answers", "scores"} each.

    What cannot be marked for want of a judge is not recorded: it is asked again the next time.

    Args:
      key: names the unit in the ledger.
      said: contexts, and {"texts", "gold_log_likelihoods"} of each.

    Raises:
      SettingsError: a judge failed in a run of several hosts.
    """
    session = run.session
    record = run.ledger.find("marks", key)
    if record is None and key in run.ungraded:
        record = run.ungraded[key].record
    elif record is None and run.hosts.rank == 0:
        batch = [(context, session.exam(context, view).exam, one["texts"]) for context, one in said]
        content = (
            session.grader.name,
            [(c.id, exam, sorted(texts.items())) for c, exam, texts in batch],
        )
        found = run.known.find("marks", content)
        if found is None:
            marks = session.task.mark(batch, session.grader)
            found = {"marks": [{"answers": of.answers, "scores": of.scores} for of in marks]}
            retry = sum(of.retry for of in marks)
            if retry:
                run.ungraded[key] = Ungraded(stage.name, retry, found)
                record = found
        if record is None:
            run.record("marks", key, {"marks": found["marks"]}, stage, content)
    if record is None or not run.hosts.alone:
        record = _marks_of(run, key)
    return [
        rewards.with_likelihoods(of, one["gold_log_likelihoods"])
        for of, (_, one) in zip(record["marks"], said, strict=True)
    ]


def _marks_of(run: Run, key: str) -> Record:
    """The record that host 0 has made.

    Raises:
      SettingsError: it made none.
    """
    run.hosts.beat()
    run.ledger.sync()
    record = run.ledger.find("marks", key)
    if record is None:
        raise SettingsError(
            f"{key}: answers could not be graded for want of a judge. Mend what the judge needs; "
            "the same command on every host continues the run."
        )
    return record


def _groups(run: Run, tried: Sequence[Candidate], stage: Stage) -> list[list[int]]:
    """The recorded plan: numbers of the candidates of each group."""
    size = memory.CANDIDATES.size(run)
    groups: list[list[int]] = []
    for replicate in sorted({one.replicate for one in tried}):
        costs = [
            (i, (inner_loop.steps(run.session, one.lesson), one.lesson.tokens))
            for i, one in enumerate(tried)
            if isinstance(one.lesson, EncodedLesson) and one.replicate == replicate
        ]
        planned = batching.groups_of_like_cost([cost for _, cost in costs], size=size)
        groups += [[costs[j][0] for j in group] for group in planned]
    plan = {"candidates_per_batch": size, "groups": groups}
    return run.once("plan", stage.name, lambda: plan, stage=stage)["groups"]


def _content(session: Session, one: Candidate) -> tuple:
    """What the outcome of a candidate follows from."""
    other = one.other and session.exam(one.other, "adapted")
    exam = session.exam(one.context, "adapted")
    return (one.context.id, one.index, one.replicate, one.lesson, exam, other)


def _examine(
    session: Session,
    params,
    piece: Sequence[Candidate],
    trained: inner_loop.Trained,
    count: int,
    width: int,
    draw: str,
) -> list[Record]:
    """Asks each adapted model its context's exam: the records of its trials, without marks."""
    results = jax.device_get(trained.results_K)
    exams = [session.exam(one.context, "adapted") for one in piece]
    # Common random numbers, as for the initial deltas: a context's lessons differ in what they say.
    draws = [("answer", draw, one.context.id, one.replicate) for one in piece]
    said = answering.ask(
        session, params, trained.deltas_K, exams, count=count, width=width, draws=draws
    )
    others = [session.exam(one.other, "adapted") for one in piece if one.other]
    mismatched = None
    if len(others) == len(piece):
        found = answering.score(session, params, trained.deltas_K, others, count=count, width=width)
        mismatched = [
            [of.get(question) for question in exam.questions]
            for of, exam in zip(found, others, strict=True)
        ]
    trials = []
    for k, one in enumerate(piece):
        losses = results.losses_S[k][results.taken_S[k]]
        likelihoods = said[k]["gold_log_likelihoods"]
        finite = bool(results.finite[k]) and None not in likelihoods.values()
        trial = {
            **one.describe(),
            "steps": len(losses),
            "first_loss": answering.finite(losses[0]),
            "last_loss": answering.finite(losses[-1]),
            "texts": said[k]["texts"] if finite else {},
            "gold_log_likelihoods": likelihoods if finite else {},
            "reason": None if finite else DIVERGED,
        }
        if mismatched is not None:
            trial["mismatched"] = mismatched[k] if finite else []
        trials.append(trial)
    return trials


def _marked(
    run: Run,
    units: Mapping[str, Sequence[int]],
    records: Sequence[Record],
    tried: Sequence[Candidate],
    stage: Stage,
) -> list[list[Record]]:
    """The marks of every unit's trials; those without a result have no answers."""
    found = []
    for (key, group), record in zip(units.items(), records, strict=True):
        pairs = zip(group, record["trials"], strict=True)
        said = [(tried[i].context, trial) for i, trial in pairs if trial["reason"] is None]
        marks = iter(mark(run, f"trials {key}", said, stage) if said else ())
        found.append(
            [
                next(marks) if trial["reason"] is None else {"answers": []}
                for trial in record["trials"]
            ]
        )
    return found


def _so_far(kind: str, earned: Sequence[float | None]) -> dict[str, float]:
    """The mean reward so far, for who is watching."""
    known = mean(earned)
    return {} if known is None or kind in rewards.READ_OFF else {"reward": known}


def _without_texts(trial: Record) -> Record:
    return {
        key: value for key, value in trial.items() if key not in ("texts", "gold_log_likelihoods")
    }


def _report(run: Run, stage: Stage, records: Sequence[Record], tokens) -> None:
    failed = sum(record["reason"] is not None for record in records)
    share = tokens.real / max(tokens.computed, 1)
    answers = [one for record in records for one in record["answers"]]
    run.measure(
        stage,
        {
            "trained tokens": tokens.real,
            "real share of tokens": share,
            "trials without a result": failed,
            "last loss": mean(record.get("last_loss") for record in records),
            "empty answers": sum(bool(one.get("empty")) for one in answers),
        },
    )
    main = run.session.task.metrics[0]
    score = mean(record["scores"].get(main.name) for record in records if "scores" in record)
    run.say(
        f"{stage}: {sum('steps' in record for record in records)} inner loops on {tokens.real} "
        f"tokens ({share:.0%} of those computed); {failed} without a result"
        + ("" if score is None else f"; {main.label} {rewards.shown(score, main)}")
    )
    cut = sum(
        record.get("dropped_tokens", 0) + record.get("dropped_sequences", 0) > 0
        for record in records
    )
    if cut:
        run.say(
            f"{stage}: {cut} lessons were cut to inner.max_sequences and the largest of "
            "inner.buckets"
        )


def whole(records: Iterable[Record]) -> list[Record]:
    """The records that have a result."""
    return [record for record in records if record["reason"] is None]
