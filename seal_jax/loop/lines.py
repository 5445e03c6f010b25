"""Verb: credit lines. Which lines of a run's self-edits taught, and which harmed.

A line is a training sequence of a self-edit that is not the context's own. Its credit is what the
adapted model gains in the gold answers' log-likelihood by it, as parts of the self-edit show that
are tried from the same initial deltas: all but one line, or random halves. It is measured on every
second question; what leaving out the lines that harmed is worth, on the others. Training contexts
only.
"""

import dataclasses
import math
import zlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Unpack

import numpy as np

from seal_jax.loop import attempt, policies
from seal_jax.loop import contexts as contexts_lib
from seal_jax.loop import sample as sampling
from seal_jax.loop.job import How, run_job
from seal_jax.loop.policies import Policy
from seal_jax.loop.results import shown
from seal_jax.loop.run import Run
from seal_jax.loop.session import EncodedLesson, Session
from seal_jax.loop.stage import Stage
from seal_jax.runs import storage
from seal_jax.settings import Grading, Reward, SettingsError
from seal_jax.stats import intervals
from seal_jax.stats.intervals import mean
from seal_jax.tasks.protocol import Context

Record = dict[str, Any]
Scores = Sequence[Sequence[float | None]]  # [R][Q], nats of each question under each initial delta
_CREDITED, _OTHERS = slice(0, None, 2), slice(1, None, 2)  # of the questions
_DRAW = "lines"  # all variants of a self-edit start from the same deltas
_PENALTY = 1.0  # of a squared credit, in squared errors of what a half loses


@dataclasses.dataclass(frozen=True)
class Lined:
    """A self-edit whose lines can be left out.

    Attributes:
      context, index: whose it is, and its number there.
      lesson: all of it.
      lines: the places of its lines among the lesson's sequences.
    """

    context: Context
    index: int
    lesson: EncodedLesson
    lines: tuple[int, ...]

    def without(self, left_out: Collection[int]) -> EncodedLesson:
        """The lesson without some of its sequences."""
        of = self.lesson
        kept = [n for n in range(len(of.sequences)) if n not in left_out]
        return dataclasses.replace(
            of,
            sequences=tuple(of.sequences[n] for n in kept),
            loss_masks=tuple(of.loss_masks[n] for n in kept),
        )

    def part(self, left_out_N: np.ndarray) -> EncodedLesson:
        """The lesson without those of its lines that an array says."""
        return self.without({n for n, lacks in zip(self.lines, left_out_N, strict=True) if lacks})

    def tokens(self, lines: Iterable[int]) -> int:
        """How many tokens some lines have."""
        return sum(len(self.lesson.sequences[n]) for n in lines)


def analyze(
    source: str,
    workdir: str,
    *,
    edits: int = 6,
    deltas: int = 3,
    halves: int = 0,
    **how: Unpack[How],
) -> Record:
    """Credits the lines of a run's first self-edits, in a run directory of its own.

    Args:
      source: the directory of a run with a round of ReST-EM.
      workdir: where records and results go; the same call continues what was interrupted.
      edits: how many self-edits of round 1, one of each context before a second one.
      deltas: initial deltas that everything is the mean of.
      halves: so many random halves are left out, anew for each delta; 0 leaves out each line alone.

    Returns:
      What it wrote to results.json: "lines", a record of each with its credit in nats and the 95 %
      interval over initial deltas; "credit_tokens", what the inner loops for it trained on, the
      whole self-edits' included; "pruned_minus_full" and "pruned_minus_random", the gain of
      leaving out the lines without credit over the whole and over leaving out as many tokens of
      random lines, on the questions that gave no credit, with 95 % intervals over contexts.

    Raises:
      SettingsError: there is no such run, or nothing in it that can be credited; and as `run_job`.
    """
    if not storage.is_folder(storage.locate(f"{source}/ledger")):
        raise SettingsError(f"{source} is not the directory of a run.")
    settings = policies.run_settings(source)
    if not settings.restem.rounds:
        raise SettingsError(f"{source} has no round, and so no self-edits of training contexts.")
    if settings.data.questions != "file":
        raise SettingsError(
            f"the questions of {source} were written for it; lines are credited by those of data."
        )
    settings = dataclasses.replace(
        settings,
        edits=dataclasses.replace(settings.edits, from_run=source),
        reward=Reward(kind="gold_log_likelihood", replicates=1),
        answers=dataclasses.replace(settings.answers, max_new_tokens=1),  # they are not read
        grading=Grading(),  # nobody is asked whether answers are right
    )

    def work(run: Run) -> Record:
        return _credited(run, _chosen(run, edits), deltas, halves)

    given = {"self_edits": edits, "deltas": deltas, "halves": halves}
    return run_job(settings, workdir, work, **how, **given)


def _chosen(run: Run, count: int) -> list[Lined]:
    """The first self-edits of round 1 with several lines, about contexts with several questions."""
    session, settings = run.session, run.session.settings
    available = contexts_lib.available(session, "train", ("adapted", "unadapted"))
    contexts = contexts_lib.training_rounds(session, available)[0]
    edits = sampling.sample(
        run,
        Policy(run, 0),
        sampling.edit_prompts(session, contexts),
        stage=Stage(kind="round", round=1),
        samples=settings.edits.samples,
        automaton=session.automaton,
    )
    every = [
        _lined(session, context, edit)
        for of in zip(*edits, strict=True)
        for context, edit in zip(contexts, of, strict=True)
    ]
    found = [of for of in every if of and len(session.exam(of.context, "adapted").questions) > 1]
    if not found:
        raise SettingsError(
            f"none of the {len(every)} self-edits of round 1 has two lines, about a "
            f"{session.task.context_word} with two questions: nothing can be credited."
        )
    return found[:count]


def _lined(session: Session, context: Context, edit: sampling.Edit) -> Lined | None:
    """A self-edit with its lines; None with fewer than two."""
    lesson = session.lesson(session.task.read(context, edit.text, 0))
    if not isinstance(lesson, EncodedLesson):
        return None
    alone = session.lesson(session.task.context_lesson(context))
    own = alone.sequences if isinstance(alone, EncodedLesson) else ()
    lines = tuple(n for n, tokens in enumerate(lesson.sequences) if tokens not in own)
    return Lined(context, edit.index, lesson, lines) if len(lines) > 1 else None


def _credited(run: Run, every: Sequence[Lined], deltas: int, halves: int) -> Record:
    session, settings = run.session, run.session.settings
    how = {"seed": settings.seed, "draws": settings.evaluation.bootstrap_draws}
    parts = [[_left_out(run, of, halves, r) for r in range(deltas)] for of in every]
    lessons = [
        [
            [of.without(())] * deltas,
            *([of.part(row_N) for row_N in rows] for rows in zip(*of_edit, strict=True)),
        ]
        for of, of_edit in zip(every, parts, strict=True)
    ]
    tried, tokens = _tried(run, every, lessons, "credit")
    lines, harmful = [], []
    for of, of_edit, (full, *without) in zip(every, parts, tried, strict=True):
        gains_RxNxQ = [
            added(left_out_SxN, *scores, penalty=_PENALTY if halves else 0.0)
            for left_out_SxN, *scores in zip(of_edit, full, zip(*without, strict=True), strict=True)
        ]
        credits = [credit(gains_RxQ, **how) for gains_RxQ in zip(*gains_RxNxQ, strict=True)]
        values = [one["difference"] for one in credits]
        left_out = harms(dict(zip(of.lines, values, strict=True)))
        harmful.append(left_out)
        lines += [
            {
                "context": of.context.id,
                "index": of.index,
                "line": session.tokenizer.decode(of.lesson.sequences[n]),
                "tokens": len(of.lesson.sequences[n]),
                "credit": gain["difference"],
                "interval": gain["interval"],
                "kept": n not in left_out,
            }
            for n, gain in zip(of.lines, credits, strict=True)
        ]
    pruned = [n for n, left_out in enumerate(harmful) if left_out]
    lessons = [
        [
            [every[n].without(harmful[n])] * deltas,
            [every[n].without(_as_many(run, every[n], harmful[n], r)) for r in range(deltas)],
        ]
        for n in pruned
    ]
    # What loses no line is the same in all three.
    again = {n: [of[0]] * 2 for n, of in enumerate(tried)}
    if pruned:
        found, _ = _tried(run, [every[n] for n in pruned], lessons, "prune")
        again |= dict(zip(pruned, found, strict=True))
    arms: dict[str, dict[str, list[float | None]]] = {"full": {}, "pruned": {}, "random": {}}
    for n, of in enumerate(every):
        for name, scores in zip(arms, (tried[n][0], *again[n]), strict=True):
            values = [mean(row) for row in zip(*scores, strict=True)][_OTHERS]
            arms[name].setdefault(of.context.id, []).extend(values)
    by_arm = {name: list(of.values()) for name, of in arms.items()}
    results = {
        "lines": lines,
        "self_edits": len(every),
        "pruned": len(pruned),
        "deltas": deltas,
        "halves": halves,
        "credit_tokens": tokens,
        **{
            f"pruned_minus_{name}": intervals.paired(by_arm["pruned"], by_arm[name], **how)
            for name in ("full", "random")
        },
    }
    run.say("\n" + table(results))
    return results


def _tried(
    run: Run,
    every: Sequence[Lined],
    lessons: Sequence[Sequence[Sequence[EncodedLesson]]],
    what: str,
) -> tuple[list[list[Scores]], int]:
    """The scores [R][Q] of each self-edit's variants [V], which are lessons [R]; and tokens."""
    candidates = [
        attempt.Candidate(context=of.context, index=100 * of.index + v, replicate=r, lesson=lesson)
        for of, variants in zip(every, lessons, strict=True)
        for v, variant in enumerate(variants)
        for r, lesson in enumerate(variant)
    ]
    session = run.session
    width = session.width([of.context for of in every])
    stage = Stage(kind="lines", what=what)
    records, tokens = attempt.attempt(
        run, Policy(run, 0), candidates, stage=stage, width=width, draw=_DRAW
    )
    left = iter(records)

    def scores(of: Lined) -> list[float | None]:
        known = [answer["gold_log_likelihood"] for answer in next(left)["answers"]]
        return known or [None] * len(session.exam(of.context, "adapted").questions)

    found: list[list[Scores]] = [
        [[scores(of) for _ in variant] for variant in variants]
        for of, variants in zip(every, lessons, strict=True)
    ]
    return found, tokens.real


def _left_out(run: Run, of: Lined, halves: int, replicate: int) -> np.ndarray:
    """[S, N] which lines each part of a self-edit lacks: one each, or a random half."""
    count = len(of.lines)
    if not halves:
        return np.eye(count, dtype=bool)
    return random_halves(count, halves, _seed(run, of, replicate))


def random_halves(lines: int, count: int, seed: Sequence[int]) -> np.ndarray:
    """[S, N] which lines are in each of S different halves: `count`, or as many as there are."""
    random = np.random.default_rng(list(seed))
    found: set[tuple[bool, ...]] = set()
    while len(found) < min(count, math.comb(lines, lines // 2)):
        found.add(tuple((random.permutation(lines) < lines // 2).tolist()))
    return np.array(sorted(found))


def added(
    left_out_SxN: np.ndarray, full_Q: Sequence[float | None], parts_SxQ: Scores, *, penalty: float
) -> np.ndarray:
    """What each line adds to each score, where lines add up; under one initial delta.

    Ridge regression of what S parts lose on which of N lines they lack (datamodels: Ilyas et al.,
    2022). Where each part lacks one line and the penalty is 0, it is what that part loses.

    Args:
      left_out_SxN: which lines each part lacks.
      full_Q, parts_SxQ: nats of each question, with the whole self-edit and with its parts.
      penalty: of a squared credit, in squared errors.

    Returns:
      [N, Q]; NaN where no part with a score lacks the line.

    >>> added(np.eye(2, dtype=bool), [-1.0], [[-4.0], [-0.5]], penalty=0.0)
    array([[ 3. ],
           [-0.5]])
    """
    lost_SxQ = np.array(full_Q, float) - np.array(parts_SxQ, float)  # None is NaN
    found_NxQ = np.full((left_out_SxN.shape[1], lost_SxQ.shape[1]), np.nan)
    for q, lost_S in enumerate(lost_SxQ.T):
        known_S = ~np.isnan(lost_S)
        lacked_SxN = left_out_SxN[known_S].astype(float)
        normal_NxN = lacked_SxN.T @ lacked_SxN + penalty * np.eye(len(found_NxQ))
        adds_N = np.linalg.pinv(normal_NxN) @ lacked_SxN.T @ lost_S[known_S]
        found_NxQ[:, q] = np.where(lacked_SxN.any(axis=0), adds_N, np.nan)
    return found_NxQ


def credit(gains_RxQ: Sequence[np.ndarray], *, seed: int, draws: int) -> Record:
    """What a line adds on every second question: the mean, its interval over initial deltas.

    >>> credit([np.array([2.0, 9.0, -1.0])], seed=0, draws=100)
    {'difference': 0.5, 'interval': None}
    """
    credited = [gains_Q[_CREDITED].tolist() for gains_Q in gains_RxQ]
    return intervals.paired(credited, [[0.0] * len(of) for of in credited], seed=seed, draws=draws)


def harms(credits: Mapping[int, float | None]) -> set[int]:
    """The lines without credit; the best of them stays where no line has any.

    >>> sorted(harms({0: -0.5, 1: 0.25, 2: 0.0})), harms({0: -0.5, 1: -0.25})
    ([0, 2], {0})
    """
    known = {n: value for n, value in credits.items() if value is not None}
    left_out = {n for n, value in known.items() if value <= 0}
    if not left_out or len(left_out) < len(credits):
        return left_out
    return left_out - {max(known, key=known.__getitem__)}


def as_many(lengths: Mapping[int, int], tokens: int, seed: Sequence[int]) -> set[int]:
    """Random lines of about as many tokens, but never all of them.

    Lines are taken in random order, each if that brings their sum nearer to `tokens`.

    Args:
      lengths: of each line.
      seed: what they follow from.
    """
    taken: set[int] = set()
    left = tokens
    for n in np.random.default_rng(list(seed)).permutation(list(lengths)).tolist():
        if len(taken) + 1 < len(lengths) and abs(left - lengths[n]) < abs(left):
            taken.add(n)
            left -= lengths[n]
    return taken


def _as_many(run: Run, of: Lined, left_out: Collection[int], replicate: int) -> set[int]:
    lengths = {n: len(of.lesson.sequences[n]) for n in of.lines}
    return as_many(lengths, of.tokens(left_out), _seed(run, of, replicate))


def _seed(run: Run, of: Lined, replicate: int) -> list[int]:
    """What is drawn of a self-edit follows from it."""
    return [run.session.settings.seed, zlib.crc32(of.context.id.encode()), of.index, replicate]


def table(found: Record) -> str:
    """The lines of each self-edit with their credit, and what leaving some out is worth."""
    rows = []
    for line in found["lines"]:
        gain = shown({"difference": line["credit"], "interval": line["interval"]})
        text = " ".join(line["line"].split())
        rows.append(
            f"{line['context'][:24]:<25}{line['index']:>3}  {gain:<28}{line['tokens']:>5}  "
            f"{'' if line['kept'] else 'out':<4}  {text[:60]}"
        )
    by = "each line left out alone"
    if found["halves"]:
        by = f"ridge regression on {found['halves']} random halves for each"
    head = f"{'context':<25}{'no.':>3}  {'credit, nats an answer':<28}{'tokens':>5}  {'':<4} line"
    return "\n".join(
        [
            head,
            *rows,
            "",
            f"Credit by every second question, mean of {found['deltas']} initial deltas, {by}; "
            f"{found['credit_tokens']} tokens trained on. "
            f"{found['pruned']} of {found['self_edits']} self-edits have lines without credit. "
            "On the other questions, nats an answer:",
            f"  without those lines, less the whole: {shown(found['pruned_minus_full'])}",
            "  without those lines, less without random ones of as many tokens: "
            f"{shown(found['pruned_minus_random'])}",
        ]
    )
