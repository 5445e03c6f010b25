"""The final evaluation: arms on contexts of other articles, their differences, and the table.

Arms: "base", the unadapted model; "passage", adapted to the passage alone; "edit_before" and
"edit_after", adapted to a self-edit (of the base model, and of the trained policy; each learned by
the model that wrote it). "policy", the trained policy unadapted, is reported with the last one.
"""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from seal_jax import statistics
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
      mismatched: for each context i, gold log-likelihoods of its questions under the delta of the
        context before it; empty where the arm has no delta or an inner loop failed.
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
            for context, other in zip(contexts, _next(contexts), strict=True)
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
        ask=_next(contexts),
    )
    records = stages.try_all(run, policy, candidates, stage=f"eval {name}", width=width, draw=DRAW)
    count = run.session.settings.evaluation.edits
    return _adapted_arm(name, contexts, records, plain, count), edits


def _next(contexts: Sequence[Context]) -> list[Context] | None:
    """The fixed derangement of the mismatched control: context i is paired with context i + 1."""
    return [*contexts[1:], contexts[0]] if len(contexts) > 1 else [None] * len(contexts)


def _unadapted_arm(name: str, contexts, plain: dict[str, list[Record]]) -> Arm:
    return Arm(name=name, answers=[[plain[c.id]] for c in contexts], mismatched=[])


def _adapted_arm(name, contexts, records: list[Record], plain, count: int) -> Arm:
    by_context = [records[i : i + count] for i in range(0, len(records), count)]
    answers = [
        [record["answers"] or plain[context.id] for record in of_context]
        for context, of_context in zip(contexts, by_context, strict=True)
    ]
    asked_of_next = [[record.get("mismatched", []) for record in of] for of in by_context]
    return Arm(
        name=name,
        answers=answers,
        mismatched=[asked_of_next[i - 1] for i in range(len(contexts))],
        fallbacks=sum(not record["answers"] for record in records),
    )


def pairs(arms: Sequence[Arm], *, seed: int, draws: int) -> list[Record]:
    """Paired differences (second minus first) of every pair of arms, with 95 % intervals."""
    found = []
    for first, second in itertools.combinations(arms, 2):
        for metric in METRICS:
            interval = statistics.paired_cluster_bootstrap(
                second.values(metric), first.values(metric), seed=seed, draws=draws
            )
            found.append(
                {
                    "names": [second.name, first.name],
                    "metric": metric,
                    **_interval(interval),
                }
            )
    return found


def matched_minus_mismatched(arm: Arm, *, seed: int, draws: int) -> Record | None:
    """How much better a context's questions are known by its own delta than by another's.

    The gain of matched over mismatched gold log-likelihood is knowledge of the context rather than
    of the form of an answer. Contexts without both are left out and counted.
    """
    matched, mismatched, left_out = [], [], 0
    for own, other in zip(arm.answers, arm.mismatched, strict=True):
        usable = all(other) and not any(None in edit for edit in other)
        if not usable:
            left_out += 1
            continue
        own_lls = [[answer["gold_log_likelihood"] for answer in edit] for edit in own]
        matched.append([float(np.mean(values)) for values in zip(*own_lls, strict=True)])
        mismatched.append([float(np.mean(values)) for values in zip(*other, strict=True)])
    if len(matched) < 2:
        return None
    interval = statistics.paired_cluster_bootstrap(matched, mismatched, seed=seed, draws=draws)
    return {**_interval(interval), "n_contexts": len(matched), "contexts_left_out": left_out}


def edit_rewards(
    before: list[list[float]], after: list[list[float]], *, seed: int, draws: int
) -> Record:
    """Mean reward of fresh held-out self-edits [C][M] before and after RL, and the difference."""
    interval = statistics.paired_cluster_bootstrap(after, before, seed=seed, draws=draws)
    means = [float(np.mean([np.mean(of) for of in rewards])) for rewards in (before, after)]
    return {"before": means[0], "after": means[1], **_interval(interval)}


def _interval(interval) -> Record:
    return {
        "difference": interval.difference,
        "interval": [interval.low, interval.high],
    }


def evaluate_policies(
    run: Run, base: Policy, policy: Policy, contexts: Sequence[Context], *, width: int
) -> dict[str, Any]:
    """Evaluates on held-out contexts, reports to the terminal, and returns the results."""
    settings = run.session.settings
    draws = {"seed": settings.seed, "draws": settings.evaluation.bootstrap_draws}
    if settings.reward.kind == "pattern":
        edits = {
            name: sample_held_out(run, of, name, contexts)
            for name, of in (("edit_before", base), ("edit_after", policy))
        }
        before, after = (
            stages.pattern_scores(settings.reward.pattern, of) for of in edits.values()
        )
        results = {"planted_reward": edit_rewards(before, after, **draws)}
    else:
        found, edits = evaluate_arms(run, base, policy, contexts, width=width)
        results = {
            "arms": {arm.name: arm.summary() for arm in found},
            "pairs": pairs(found, **draws),
            "matched_minus_mismatched": {
                arm.name: matched_minus_mismatched(arm, **draws) for arm in found if arm.mismatched
            },
        }
        run.say("\n" + table(found, results))
    _report(run, results, edits, contexts)
    return results


def _report(run: Run, results: dict[str, Any], edits, contexts) -> None:
    """Differences that are no arm's, and a self-edit to read, for the person at the terminal."""
    for name, gain in results.get("matched_minus_mismatched", {}).items():
        if gain:
            run.say(f"matched minus mismatched log-likelihood, {LABELS[name]}: {_shown(gain)}")
    if "planted_reward" in results:
        planted = results["planted_reward"]
        run.say(
            f"planted reward on held-out contexts: {planted['before']:.4f} before RL, "
            f"{planted['after']:.4f} after; difference {_shown(planted)}"
        )
    for name, of in edits.items():
        run.say(f"\nself-edit of {contexts[0].title!r}, {LABELS[name]}:\n{of[0][0].text}")


def _shown(gain: Record) -> str:
    low, high = gain["interval"]
    return f"{gain['difference']:+.3f} [{low:+.3f}, {high:+.3f}]"


def table(arms: Sequence[Arm], results: dict[str, Any]) -> str:
    """The arms as a table for the terminal, each compared with the first."""
    against = {
        tuple(pair["names"]): pair
        for pair in results["pairs"]
        if pair["metric"] == "gold_log_likelihood"
    }
    lines = [
        f"{'arm':<22}{'accuracy':>10}{'gold log-lik.':>15}{'empty':>7}   "
        f"gain in log-lik. over {LABELS[arms[0].name]}"
    ]
    for arm in arms:
        summary = results["arms"][arm.name]
        line = (
            f"{LABELS[arm.name]:<22}{summary['accuracy']:>10.1%}"
            f"{summary['gold_log_likelihood']:>15.3f}{summary['empty_answers']:>7}"
        )
        pair = against.get((arm.name, arms[0].name))
        if pair:
            line += f"   {_shown(pair)}"
        lines.append(line)
    return "\n".join(lines)
