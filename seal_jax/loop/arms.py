"""The final evaluation: arms on contexts of other articles.

An arm is a model (the learner), what it is adapted to (the source), and its answers. The source of
a self-edit arm is the editor that wrote it, so that better self-edits and a better learner can be
told apart: "edit_after" is SEAL, "edit_after_base" its self-edits learned by the base model.
"""

import collections
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from seal_jax.loop import arm_kinds, corpus, stages, tuning
from seal_jax.loop.policies import Policy
from seal_jax.loop.run import Run
from seal_jax.loop.session import Session
from seal_jax.loop.sources import Sources
from seal_jax.loop.writing import Edit
from seal_jax.settings import SettingsError
from seal_jax.tasks.protocol import Context

Record = dict[str, Any]
KINDS = arm_kinds.KNOWLEDGE


Control = Literal["random", "longest"]  # M-steps that know no reward; also selection rules
CONTROLS: tuple[Control, ...] = ("random", "longest")
POLICIES = ("base", "policy", *CONTROLS)
# All arms draw with the same keys (common random numbers), so that they differ by what they are.
DRAW = "eval"
METRICS = ("accuracy", "gold_log_likelihood")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arm:
    """One arm's answers.

    Attributes:
      name: a key of KINDS.
      answers: for each context, a list of answer records for each edit.
      mismatched: for each context, gold log-likelihoods of its questions under each delta of
        another context (`derangement`); empty where either context has an inner loop that failed.
        An empty list for arms without a delta a context.
      fallbacks: inner loops that gave nothing; the unadapted model answers for them.
      recipe: its learning rate and epochs, and how many tokens it trained on; empty for arms that
        train nothing.
    """

    name: str
    answers: list[list[list[Record]]]
    mismatched: list[list[list[float | None]]] = dataclasses.field(default_factory=list)
    fallbacks: int = 0
    recipe: Record = dataclasses.field(default_factory=dict)

    def values(self, metric: str) -> list[list[float | None]]:
        """For each context, each question's mean over edits of "accuracy" (0 or 1) or
        "gold_log_likelihood" (nats); None where no answer has a value (ungraded)."""
        key = "correct" if metric == "accuracy" else metric
        return [
            [
                _mean([answer[key] for answer in of_question])
                for of_question in zip(*edits, strict=True)
            ]
            for edits in self.answers
        ]

    def summary(self) -> Record:
        """accuracy, gold_log_likelihood (nats), and counts of answers."""
        answers = [answer for edits in self.answers for edit in edits for answer in edit]
        pooled = {
            metric: _mean([v for of_context in self.values(metric) for v in of_context])
            for metric in METRICS
        }
        return {
            **pooled,
            "n_questions": sum(len(edits[0]) for edits in self.answers),
            "n_answers": len(answers),
            "empty_answers": sum(answer["empty"] for answer in answers),
            "ungraded_answers": sum(answer["correct"] is None for answer in answers),
            "unadapted_fallbacks": self.fallbacks,
            **self.recipe,
        }


def controls(names: Sequence[str]) -> list[Control]:
    """The control policies that arms of these names need."""
    needed = {policy for name in names for policy in KINDS[name][1:]}
    return [control for control in CONTROLS if control in needed]


def rows(names: Sequence[str], known: Sequence[str]) -> list[str]:
    """The arms that can be run with the policies that are known, in the order of KINDS.

    Each learner but the base brings its unadapted row.
    """
    unknown = set(POLICIES) - set(known)
    chosen = {name for name in names if not unknown & set(KINDS[name][1:])}
    learners = {KINDS[name].learner for name in chosen} - {"base"}
    return [
        name
        for name, kind in KINDS.items()
        if name in chosen or (not kind.source and kind.learner in learners)
    ]


def check_format(session: Session, rounds: int) -> None:
    """Refuses to train or evaluate on self-edits where the edit format has none.

    Raises:
      SettingsError: names what to leave out.
    """
    if session.task.writes:
        return
    names = session.settings.evaluation.arms
    asking = [n for n in names if KINDS[n].source in (*POLICIES, "passage_steps", "teacher")]
    if rounds or asking:
        what = "set restem.rounds to 0" if rounds else f"leave {', '.join(asking)} out of"
        where = "" if rounds else " evaluation.arms"
        settings = session.settings
        without = f"prompts.edit_format={settings.prompts.edit_format!r}"
        if settings.task != "knowledge":
            without = f"task={settings.task}"
        raise SettingsError(f"{without} has no self-edit: {what}{where}.")


def evaluate_arms(
    run: Run, policies: Mapping[str, Policy], contexts: Sequence[Context], *, width: int
) -> tuple[list[Arm], dict[str, list[list[Edit]]]]:
    """Runs the arms that the settings name.

    Args:
      policies: "base", and those of POLICIES that there are.
      width: see Session.query_width.

    Returns:
      The arms in the order of KINDS, and the self-edits [C][M] of each editor.
    """
    settings = run.session.settings.evaluation
    sources = Sources(run, policies, contexts, "eval")
    recipes = tuning.Recipes(run, policies)
    asked = [context for context in contexts if context.questions]
    arms = []
    for name in rows(settings.arms, list(policies)):
        kind = KINDS[name]
        learner = policies[kind.learner]

        def plain(learner=learner, kind=kind) -> dict[str, list[Record]]:
            reads = kind.source == "prompt"
            return stages.answer(
                run,
                lambda: learner.params,
                asked,
                stage="eval prompt" if reads else f"eval {kind.learner}",
                width=run.session.query_width(asked, passage=True) if reads else width,
                passage=reads,
            )

        if kind.source in ("", "prompt"):
            found = plain()
            arms.append(Arm(name=name, answers=[[found[c.id]] for c in asked]))
        elif settings.form == "corpus":
            recipe = recipes.corpus(name, kind)
            found, trained = corpus.learn_and_answer(
                run, learner, sources, kind.source, recipe, stage=f"eval {name}", width=width
            )
            arms.append(Arm(name=name, answers=[[found[c.id]] for c in asked], recipe=trained))
        else:
            recipe = recipes.inner(name, kind)
            arms.append(_adapted(run, name, learner, sources, recipe, plain, width))
    return arms, sources.written


def _adapted(run: Run, name: str, learner: Policy, sources: Sources, recipe, plain, width) -> Arm:
    """An arm with a delta for each context and self-edit."""
    contexts = sources.contexts
    sequences = sources.sequences(KINDS[name].source)
    candidates = stages.candidates_of(
        run.session, contexts, sequences, ask=[contexts[i] for i in derangement(contexts)]
    )
    records, tokens = stages.try_all(
        run,
        learner.params,
        candidates,
        stage=f"eval {name}",
        width=width,
        draw=DRAW,
        recipe=recipe,
    )
    failed = any(not record["answers"] for record in records)
    return of_records(
        name,
        contexts,
        records,
        plain() if failed else {},
        count=len(sequences[0]),
        recipe={
            "learning_rate": recipe.learning_rate,
            "epochs": recipe.epochs,
            "trained_tokens": tokens.real,
            "computed_tokens": tokens.computed,
        },
    )


def of_records(
    name: str,
    contexts: Sequence[Context],
    records: Sequence[Record],
    plain: Mapping[str, list[Record]],
    *,
    count: int,
    recipe: Record | None = None,
) -> Arm:
    """An adapted arm from its trials' records, `count` for each context.

    Args:
      plain: the unadapted model's answers, which stand in for trials without any.
    """
    by_context = [records[i : i + count] for i in range(0, len(records), count)]
    answers = [
        [record["answers"] or plain[context.id] for record in of_context]
        for context, of_context in zip(contexts, by_context, strict=True)
    ]
    whole = [all(record["answers"] for record in of_context) for of_context in by_context]
    mismatched: list[list[list[float | None]]] = [[] for _ in contexts]
    for i, other in enumerate(derangement(contexts)):
        if whole[i] and whole[other]:
            mismatched[other] = [record["mismatched"] for record in by_context[i]]
    return Arm(
        name=name,
        answers=answers,
        mismatched=mismatched,
        fallbacks=sum(not record["answers"] for record in records),
        recipe=recipe or {},
    )


def derangement(contexts: Sequence[Context]) -> list[int]:
    """For each context i, the other one whose questions the delta of i is asked.

    The pairing is fixed by the contexts alone, leaves none in its place, and pairs no two contexts
    of one article unless an article has more than half of them.
    """
    count = len(contexts)
    order = sorted(range(count), key=lambda i: (contexts[i].title, i))
    largest = max(collections.Counter(context.title for context in contexts).values())
    shift = largest % count or 1
    return [
        pair for _, pair in sorted((order[k], order[(k + shift) % count]) for k in range(count))
    ]


def _mean(values: Sequence[float | bool | None]) -> float | None:
    """The mean of the values that there are."""
    known = [float(value) for value in values if value is not None]
    return float(np.mean(known)) if known else None
