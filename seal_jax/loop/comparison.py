"""Arms compared: results, their intervals, and the table for the terminal."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from seal_jax.loop import arms, per_context, rewards
from seal_jax.loop.arms import KINDS, METRICS, Arm
from seal_jax.loop.policies import Policy
from seal_jax.loop.run import Run
from seal_jax.loop.sources import Sources
from seal_jax.stats import statistics
from seal_jax.tasks.protocol import Context

Record = dict[str, Any]


def compare_policies(
    run: Run, policies: Mapping[str, Policy], contexts: Sequence[Context]
) -> dict[str, Any]:
    """Evaluates on held-out contexts, reports to the terminal, and returns the results.

    Args:
      policies: see `arms.evaluate_arms`.
    """
    settings = run.session.settings
    draws = {"seed": settings.seed, "draws": settings.evaluation.bootstrap_draws}
    if settings.reward.kind == "pattern":
        sources = Sources(run, policies, contexts, "eval")
        before, after = (
            rewards.text_scores(settings.reward, sources.edits(editor))
            for editor in ("base", "policy")
        )
        written = sources.written
        results = {"planted_reward": edit_rewards(before, after, **draws)}
    else:
        width = run.session.query_width(contexts)
        found, written = arms.evaluate_arms(run, policies, contexts, width=width)
        results = {
            "grader": run.session.grader.name,
            "arms": {arm.name: arm.summary() for arm in found},
            "pairs": pairs(found, **draws),
            "matched_minus_mismatched": {
                arm.name: matched_minus_mismatched(arm, **draws) for arm in found if arm.mismatched
            },
            "contexts": per_context.per_context(
                [context for context in contexts if context.questions],
                {arm.name: arm.answers for arm in found},
            ),
        }
        run.say("\n" + table(found, results))
    _report(run, results, written, contexts)
    return results


def pairs(compared: Sequence[Arm], *, seed: int, draws: int) -> list[Record]:
    """Paired differences (second minus first) of every pair of arms, with 95 % intervals."""
    found = []
    for first, second in itertools.combinations(compared, 2):
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
        if not other or any(None in edit for edit in other):
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


def _report(run: Run, results: dict[str, Any], edits, contexts) -> None:
    """Differences that are no arm's, and a self-edit to read, for the person at the terminal."""
    for name, gain in results.get("matched_minus_mismatched", {}).items():
        if gain:
            run.say(f"matched minus mismatched log-likelihood, {KINDS[name].label}: {_shown(gain)}")
    if "planted_reward" in results:
        planted = results["planted_reward"]
        run.say(
            f"planted reward on held-out contexts: {planted['before']:.4f} before RL, "
            f"{planted['after']:.4f} after; difference {_shown(planted)}"
        )
    for editor, of in edits.items():
        run.say(f"\nself-edit of {contexts[0].title!r} by {editor!r}:\n{of[0][0].text}")


def _shown(gain: Record) -> str:
    low, high = gain["interval"]
    return f"{gain['difference']:+.3f} [{low:+.3f}, {high:+.3f}]"


def table(shown: Sequence[Arm], results: dict[str, Any]) -> str:
    """The arms as a table for the terminal, each compared with the first."""
    against = {
        tuple(pair["names"]): pair
        for pair in results["pairs"]
        if pair["metric"] == "gold_log_likelihood"
    }
    width = max(len(KINDS[arm.name].label) for arm in shown) + 2
    ungraded = any(results["arms"][arm.name]["ungraded_answers"] for arm in shown)
    lines = [
        f"{'arm':<{width}}{'accuracy':>10}{'gold log-lik.':>15}{'empty':>7}"
        f"{'ungraded' if ungraded else '':>{10 * ungraded}}   "
        f"gain in log-lik. over {KINDS[shown[0].name].label}"
    ]
    for arm in shown:
        summary = results["arms"][arm.name]
        accuracy = "-" if summary["accuracy"] is None else f"{summary['accuracy']:.1%}"
        likelihood = summary["gold_log_likelihood"]
        line = (
            f"{KINDS[arm.name].label:<{width}}{accuracy:>10}"
            f"{'-' if likelihood is None else f'{likelihood:.3f}':>15}{summary['empty_answers']:>7}"
        )
        if ungraded:
            line += f"{summary['ungraded_answers']:>10}"
        pair = against.get((arm.name, shown[0].name))
        if pair:
            line += f"   {_shown(pair)}"
        lines.append(line)
    return "\n".join(lines)
