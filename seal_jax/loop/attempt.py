"""Verb: attempt. Candidates are trained, examined and marked; so are models as they are.

What was tried (texts, likelihoods) and how it was marked (verdicts) are separate records: where a
judge fails, no inner loop is done again.
"""

import dataclasses
import functools
from collections.abc import Iterable, Sequence
from typing import Any

import jax

from seal_jax.core import batching
from seal_jax.loop import answering, inner_loop, memory, rewards
from seal_jax.loop import run as run_lib
from seal_jax.loop.policies import Policy
from seal_jax.loop.run import Run, Ungraded
from seal_jax.loop.session import EQUAL_ROOM, Bounds, EncodedLesson, Session
from seal_jax.loop.stage import Stage
from seal_jax.settings import SettingsError
from seal_jax.stats.intervals import mean
from seal_jax.tasks.protocol import Context, Lesson, Refusal, View

Record = dict[str, Any]
# Of a trial; its marks have what became of them.
_SAID = ("texts", "thoughts", "cut_off", "gold_log_likelihoods")
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


def candidates(
    session: Session,
    contexts: Sequence[Context],
    lessons: Sequence[Sequence[Lesson | Refusal]],
    *,
    indices: Sequence[int] | None = None,
    replicates: Sequence[int] | None = None,
    others: Sequence[Context] | None = None,
    learning_rate: float = 0.0,
    epochs: int = 0,
    times: Sequence[Sequence[float]] = (),
) -> list[Candidate]:
    """Candidates of lessons [C][M]; one that cannot be followed becomes a refusal.

    Args:
      indices, replicates: the self-edit and the inner loop of each of a context's lessons; None is
        the lesson's number.
      others: for each context, the one whose gold answers the mismatched control scores.
      learning_rate, epochs: see `Session.lesson`.
      times: [C][M], by what the epochs of each lesson are multiplied, to whole ones; () is 1.
    """
    passes = epochs or session.settings.inner.epochs
    return [
        Candidate(
            context=context,
            index=indices[m] if indices else m,
            replicate=replicates[m] if replicates else m,
            lesson=session.lesson(
                lesson,
                learning_rate=learning_rate,
                epochs=max(round(passes * times[c][m]), 1) if times else epochs,
            ),
            other=others[c] if others else None,
        )
        for c, context in enumerate(contexts)
        for m, lesson in enumerate(lessons[c])
    ]


def attempt(
    run: Run,
    policy: Policy,
    tried: Sequence[Candidate],
    *,
    stage: Stage,
    width: int,
    draw: str = "",
    unrelated: Sequence[Sequence[int]] = (),
) -> tuple[list[Record], batching.TokenCounts]:
    """Trains every candidate, asks each adapted model its context's exam, and has it marked.

    Candidates are trained group by group; a group is of one replicate and of like cost. The plan of
    groups is a function of the arguments and K, and is recorded first.

    Args:
      policy: the model that is adapted.
      stage: names the units in the ledger, and the draws unless `draw` does.
      width: see `Session.width`.
      unrelated: token ids of texts whose loss under each adapted model is measured.

    Returns:
      The records in the candidates' order: those of `Candidate.describe`, and "steps",
      "first_loss", "last_loss", "reason" (None, or why there are no answers), "answers", "scores",
      and where the candidates have one "mismatched", the other context's gold log-likelihoods, and
      "unrelated", the loss on those texts in nats a token; and the tokens of their inner loops.
    """
    session, draw = run.session, draw or stage.name
    reward, main = session.settings.reward, session.task.metrics[0].name
    groups = _groups(run, tried, stage)
    units = {f"{stage}/{n}": [tried[i] for i in group] for n, group in enumerate(groups)}
    earned: list[float | None] = []
    bounds = _bounds(session, tried)

    def content(members: Sequence[Candidate]) -> list:
        how: tuple = (policy.digest, draw, width, session.settings.inner, session.settings.answers)
        how = (*how, unrelated) if unrelated else how
        named = [(one.context.id, one.index, one.replicate, one.lesson) for one in members]
        asked = [(one.context, one.other) for one in members]
        return [
            how,
            named,
            [[c and session.exam(c, "adapted") for c in both] for both in asked],
        ]

    def so_far() -> dict[str, float]:
        known = mean(earned)
        return {} if known is None else {"reward": known}

    with run.stage(stage, "adapt", sum(map(len, groups)), "edit") as progress:
        for key in run.missing("trials", units, stage, content, progress, so_far):
            members = units[key]
            while True:
                with memory.room(run, memory.CANDIDATES, stage=f"{stage}: adapt") as count:
                    trials, counted = [], []
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
                            bounds=bounds,
                        )
                        asking = (session, policy.params, piece, trained, count)
                        trials += _examine(*asking, width, draw, unrelated)
                        counted.append(trained.tokens)
                    break
            tokens = inner_loop.total(counted)
            done = {
                "trials": trials,
                "real_tokens": tokens.real,
                "computed_tokens": tokens.computed,
            }
            run.record("trials", key, done, stage, content(members))
            if run.hosts.alone:  # at once, so that a judge that fails is seen early
                marks = _marked(run, key, members, done, stage)
                if reward.kind in rewards.kinds(session.task):
                    pairs = zip(trials, marks, strict=True)
                    earned += [rewards.value({**of, **one}, reward, main) for of, one in pairs]
    records = run.records("trials", units)
    found: dict[int, Record] = {}
    for group, (key, members), record in zip(groups, units.items(), records, strict=True):
        marks = _marked(run, key, members, record, stage)
        for i, trial, of_trial in zip(group, record["trials"], marks, strict=True):
            found[i] = {name: of for name, of in trial.items() if name not in _SAID} | of_trial
    whole = [found.get(i) or {**one.describe(), "answers": []} for i, one in enumerate(tried)]
    tokens = inner_loop.total(
        batching.TokenCounts(of["real_tokens"], of["computed_tokens"]) for of in records
    )
    settle(run, stage, whole)
    _report(run, stage, whole, tokens)
    return whole, tokens


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
    units = run_lib.batches(stage, contexts, size)
    draw = (stage.split or stage.name) if session.settings.answers.temperature else ""

    def follows_from(of: Sequence[Context]) -> tuple:
        ids, exams = [c.id for c in of], [session.exam(c, view) for c in of]
        how = (policy.digest, content, view, width, session.settings.answers, size, ids, exams)
        return (*how, draw) if draw else how

    if any(run.ledger.find("answers", key) is None for key in units):
        params()  # by all hosts, also by those that answer nothing
    with run.stage(stage, "answers", len(contexts), session.task.context_word) as progress:
        for key in run.missing("answers", units, stage, follows_from, progress):
            exams = [session.exam(context, view) for context in units[key]]
            while True:
                with memory.room(run, memory.CANDIDATES, stage=f"{stage}: answers") as count:
                    said = []
                    for first in range(0, len(exams), count):
                        piece = exams[first : first + count]
                        part = units[key][first : first + count]
                        draws = [("answer", draw, context.id, 0) for context in part]
                        said += answering.ask(
                            session, params(), None, piece, count=count, width=width, draws=draws
                        )
                    break
            named = [{"context": c.id, **one} for c, one in zip(units[key], said, strict=True)]
            run.record("answers", key, {"of": named}, stage, follows_from(units[key]))
    found: dict[str, Record] = {}
    for (key, of), record in zip(units.items(), run.records("answers", units), strict=True):
        pairs = list(zip(of, record["of"], strict=True))
        marks = mark(run, f"answers {key}", pairs, stage, view, settled=True)
        found |= {context.id: one for context, one in zip(of, marks, strict=True)}
    settle(run, stage, found.values())
    return found


def mark(
    run: Run,
    key: str,
    said: Sequence[tuple[Context, Record]],
    stage: Stage,
    view: View = "adapted",
    *,
    settled: bool = False,
) -> list[Record]:
    """Marks of what models said, from the ledger or made now: {"answers", "scores"} each.

    What cannot be marked for want of a judge is not recorded: it is asked again the next time.

    Args:
      key: names the unit in the ledger.
      said: contexts, and {"texts", "gold_log_likelihoods"} of each.
      settled: whether `settle` follows, which says what becomes of a unit without any verdict.

    Raises:
      SettingsError: a judge failed whose verdicts the reward needs, or in a run of several hosts.
    """
    session = run.session
    asks = run.ledger.find("marks", key) is None and key not in run.ungraded
    if asks and run.hosts.rank == 0:
        batch = [(context, session.exam(context, view).exam, one["texts"]) for context, one in said]
        content = (
            session.grader.name,
            [(c.id, exam, sorted(texts.items())) for c, exam, texts in batch],
        )
        found = run.known.find("marks", content)
        if found is None:
            marks = session.task.mark(batch, session.grader)
            found = {"marks": [{"answers": of.answers, "scores": of.scores} for of in marks]}
            why = [one.get("ungraded") for of in marks for one in of.answers]
            nothing = bool(why) and all(why) and any(texts for _, _, texts in batch)
            failed = sum(of.retry for of in marks)
            if failed or (nothing and settled and run.hosts.alone):
                reason, kept = next(filter(None, why), ""), None if failed else content
                lost = Ungraded(stage.name, failed or len(marks), reason, found, kept)
                if failed and nothing and run.hosts.alone:
                    check_needless([lost], run, stage)
                run.ungraded[key] = lost
        if key not in run.ungraded:
            run.record("marks", key, {"marks": found["marks"]}, stage, content)
    record = run.gathered("marks", key)
    if record is None and not run.hosts.alone:
        raise SettingsError(
            f"{key}: answers could not be graded for want of a judge. Mend what the judge needs; "
            "the same command on every host continues the run."
        )
    record = record or run.ungraded[key].record
    return [
        rewards.with_likelihoods(of, one["gold_log_likelihoods"])
        for of, (_, one) in zip(record["marks"], said, strict=True)
    ]


def settle(run: Run, stage: Stage, marked: Iterable[Record]) -> None:
    """Ends the marking of a stage: what of it had no verdict is recorded, if the judge gave others.

    If it gave none, it is asked again the next time, whatever it replied.

    Args:
      marked: all records of the stage, with their answers.

    Raises:
      SettingsError: there is no verdict at all, and the reward needs them.
    """
    lost = {key: of for key, of in run.ungraded.items() if of.stage == stage.name}
    if any(one.get("ungraded") is None for of in marked for one in of["answers"]):
        for key, of in lost.items():
            if of.content is not None:
                run.record("marks", key, of.record, stage, of.content)
                del run.ungraded[key]
    else:
        check_needless(list(lost.values()), run, stage)


def check_needless(lost: Sequence[Ungraded], run: Run, stage: Stage) -> None:
    """Refuses to go on without verdicts that the reward needs.

    Raises:
      SettingsError: there are some.
    """
    if lost and rewards.needs_verdicts(run.session.settings.reward):
        raise SettingsError(
            f"{stage}: {sum(of.exams for of in lost)} exams could not be graded for want of a "
            f"judge ({lost[0].reason}), and the reward needs them. Mend what the judge needs; the "
            "same command continues the run, without an inner loop done twice."
        )


def _groups(run: Run, tried: Sequence[Candidate], stage: Stage) -> list[list[int]]:
    """The recorded plan: numbers of the candidates of each group."""
    size = memory.CANDIDATES.size(run)
    groups: list[list[int]] = []
    for replicate in sorted({one.replicate for one in tried}):
        costs = {
            i: (run.session.steps(one.lesson), one.lesson.tokens)
            for i, one in enumerate(tried)
            if isinstance(one.lesson, EncodedLesson) and one.replicate == replicate
        }
        planned = batching.groups_of_like_cost(list(costs.values()), size=size)
        groups += [[list(costs)[j] for j in group] for group in planned]
    plan = {"candidates_per_batch": size, "groups": groups}
    return run.once("plan", stage.name, lambda: plan, stage=stage)["groups"]


def _bounds(session: Session, tried: Sequence[Candidate]) -> Bounds:
    """The session's, with room for lessons of more epochs: in large steps, to compile less."""
    bounds, lessons = session.bounds, [one.lesson for one in tried]
    most = max((of.epochs for of in lessons if isinstance(of, EncodedLesson)), default=1)
    while bounds.epochs < most:
        bounds = bounds._replace(epochs=EQUAL_ROOM * bounds.epochs)
    return bounds


def _examine(
    session: Session,
    params,
    piece: Sequence[Candidate],
    trained: inner_loop.Trained,
    count: int,
    width: int,
    draw: str,
    unrelated: Sequence[Sequence[int]],
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
    known: list[dict[str, float | None]] = []
    if others:
        known = answering.score(session, params, trained.deltas_K, others, count=count, width=width)
    losses_K: list[float | None] = []
    if unrelated:
        losses_K = answering.text_losses(
            session, params, trained.deltas_K, unrelated, models=len(piece), count=count
        )
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
            **(said[k] if finite else {"texts": {}, "gold_log_likelihoods": {}}),
            "reason": None if finite else DIVERGED,
        }
        if others:
            asked = others[k].questions if finite else []
            trial["mismatched"] = [known[k].get(question) for question in asked]
        if unrelated:
            trial["unrelated"] = losses_K[k] if finite else None
        trials.append(trial)
    return trials


def _marked(
    run: Run, key: str, members: Sequence[Candidate], record: Record, stage: Stage
) -> list[Record]:
    """The marks of a unit's trials; those without a result have no answers."""
    trials = record["trials"]
    pairs = zip(members, trials, strict=True)
    said = [(one.context, trial) for one, trial in pairs if trial["reason"] is None]
    marks = iter(mark(run, f"trials {key}", said, stage, settled=True) if said else ())
    return [next(marks) if trial["reason"] is None else {"answers": []} for trial in trials]


def _report(
    run: Run, stage: Stage, records: Sequence[Record], tokens: batching.TokenCounts
) -> None:
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
    dropped = ("dropped_tokens", "dropped_sequences")
    if cut := sum(any(record.get(name) for name in dropped) for record in records):
        run.say(
            f"{stage}: {cut} lessons were cut to inner.max_sequences and the largest of "
            "inner.buckets"
        )
