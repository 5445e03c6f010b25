"""The final evaluation: arms on contexts of other articles, their differences, and the table.

Arms: "base", the unadapted model; "passage", adapted to the passage alone; "edit_before" and
"edit_after", adapted to a self-edit (of the base model, and of the trained policy; each learned by
the model that wrote it). "policy", the trained policy unadapted, is reported with the last one.
"""

import collections
import dataclasses
from collections.abc import Sequence

import numpy as np

from seal_jax.programs import stages, trials
from seal_jax.programs.stages import Policy, Run
from seal_jax.programs.trials import Edit, Record
from seal_jax.tasks.base import Context

LABELS = {
    "base": "base model",
    "passage": "passage only",
    "edit_before": "self-edit before RL",
    "policy": "RL policy, unadapted",
    "edit_after": "self-edit after RL",
}
# All arms draw with the same keys (common random numbers), so that they differ by what they are.
DRAW = "eval"
METRICS = ("accuracy", "gold_log_likelihood")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arm:
    """One arm's answers.

    Attributes:
      name: a key of LABELS.
      answers: for each context, a list of answer records for each edit.
      mismatched: for each context, gold log-likelihoods of its questions under each delta of
        another context (`derangement`); empty where either context has an inner loop that failed.
        An empty list for arms without deltas.
      fallbacks: inner loops that gave nothing; the unadapted model answers for them.
    """

    name: str
    answers: list[list[list[Record]]]
    mismatched: list[list[list[float | None]]]
    fallbacks: int = 0

    def values(self, metric: str) -> list[list[float]]:
        """For each context, each question's mean over edits of "accuracy" (0 or 1) or
        "gold_log_likelihood" (nats)."""
        key = "correct" if metric == "accuracy" else metric
        return [
            [
                float(np.mean([answer[key] for answer in of_question]))
                for of_question in zip(*edits, strict=True)
            ]
            for edits in self.answers
        ]

    def summary(self) -> Record:
        """accuracy, gold_log_likelihood (nats), n_questions, n_answers and empty_answers."""
        answers = [answer for edits in self.answers for edit in edits for answer in edit]
        pooled = {
            metric: float(np.mean([v for of_context in self.values(metric) for v in of_context]))
            for metric in METRICS
        }
        return {
            **pooled,
            "n_questions": sum(len(edits[0]) for edits in self.answers),
            "n_answers": len(answers),
            "empty_answers": sum(answer["empty"] for answer in answers),
            "unadapted_fallbacks": self.fallbacks,
        }


def evaluate_arms(
    run: Run, base: Policy, policy: Policy, contexts: Sequence[Context], *, width: int
) -> tuple[list[Arm], dict[str, list[list[Edit]]]]:
    """Runs the arms that the settings name.

    Returns:
      The arms in the order of LABELS, and the self-edits [C][M] of "edit_before" and "edit_after".
    """
    session, settings = run.session, run.session.settings.evaluation
    arms, edits = [], {}
    others = [contexts[i] for i in derangement(contexts)]
    plain = stages.unadapted(run, base, contexts, stage="eval base", width=width)
    if "base" in settings.arms:
        arms.append(_unadapted_arm("base", contexts, plain))
    if "passage" in settings.arms:
        candidates = [
            stages.Candidate(
                context=context,
                index=0,
                replicate=0,
                trimmed=trials.tokenize(session, session.task.passage_sequences(context)),
                ask=other,
            )
            for context, other in zip(contexts, others, strict=True)
        ]
        records = stages.try_all(
            run, base, candidates, stage="eval passage", width=width, draw=DRAW
        )
        arms.append(_adapted_arm("passage", contexts, records, plain, 1))
    if "edit_before" in settings.arms:
        arm, edits["edit_before"] = _edit_arm(run, "edit_before", base, contexts, plain, width)
        arms.append(arm)
    if "edit_after" in settings.arms:
        plain = stages.unadapted(run, policy, contexts, stage="eval policy", width=width)
        arms.append(_unadapted_arm("policy", contexts, plain))
        arm, edits["edit_after"] = _edit_arm(run, "edit_after", policy, contexts, plain, width)
        arms.append(arm)
    return arms, edits


def sample_held_out(run: Run, policy: Policy, name: str, contexts) -> list[list[Edit]]:
    """Fresh self-edits of evaluation contexts; both policies draw with the same keys."""
    return stages.sample(
        run,
        policy,
        contexts,
        stage=f"eval {name}",
        samples=run.session.settings.evaluation.edits,
        draw=DRAW,
    )


def _edit_arm(run: Run, name: str, policy: Policy, contexts, plain, width: int):
    edits = sample_held_out(run, policy, name, contexts)
    candidates = stages.candidates_of(
        run.session,
        contexts,
        [[edit.text for edit in of_context] for of_context in edits],
        ask=[contexts[i] for i in derangement(contexts)],
    )
    records = stages.try_all(run, policy, candidates, stage=f"eval {name}", width=width, draw=DRAW)
    count = run.session.settings.evaluation.edits
    return _adapted_arm(name, contexts, records, plain, count), edits


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


def _unadapted_arm(name: str, contexts, plain: dict[str, list[Record]]) -> Arm:
    return Arm(name=name, answers=[[plain[c.id]] for c in contexts], mismatched=[])


def _adapted_arm(name, contexts, records: list[Record], plain, count: int) -> Arm:
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
    )
