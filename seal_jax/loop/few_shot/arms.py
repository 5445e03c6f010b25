"""The evaluation of few-shot learning: arms on tasks that were not trained on.

An arm is a model (the learner) and where its recipes come from. Every arm has the same number of
recipes for each task, the same seeds, the same prompts and two attempts; a recipe that is invalid,
refused or diverges solves nothing, and counts.
"""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from seal_jax.loop import arm_kinds
from seal_jax.loop.few_shot import recipes, stages
from seal_jax.loop.few_shot.recipes import Sources
from seal_jax.loop.few_shot.session import FewShotSession
from seal_jax.loop.few_shot.trials import Examples
from seal_jax.loop.policies import Policy
from seal_jax.loop.run import Run
from seal_jax.stats import statistics
from seal_jax.tasks.arc.arc import ArcTask

Record = dict[str, Any]
KINDS = arm_kinds.FEW_SHOT
METRICS = ("solved", "graded", "gold_log_likelihood")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arm:
    """One arm's trials.

    Attributes:
      name: a key of KINDS.
      records: [C][E] of `trials.try_group` or `trials.attempt`.
      unadapted: the learner's own records by task, for the log-likelihood where a trial failed.
      trained_tokens: of all inner loops.
    """

    name: str
    records: list[list[Record]]
    unadapted: Mapping[str, Record]
    trained_tokens: int = 0

    def values(self, metric: str) -> list[list[float]]:
        """[C][E] of a metric: "solved" (0 or 1), "graded" or "gold_log_likelihood" (nats a grid).

        A failed trial solves nothing; its log-likelihood is that of the unadapted learner.
        """
        return [
            [_value(record, metric, self.unadapted) for record in of_task]
            for of_task in self.records
        ]

    def summary(self) -> Record:
        """Means over tasks and recipes, and counts."""
        every = list(itertools.chain.from_iterable(self.records))
        reasons = [record.get("reason") or "" for record in every]
        return {
            **{metric: float(np.mean(self.values(metric))) for metric in METRICS},
            "tasks": len(self.records),
            "trials": len(every),
            "invalid_recipes": sum(reason.startswith("not a recipe") for reason in reasons),
            "other_failures": sum(
                bool(reason) and not reason.startswith("not a recipe") for reason in reasons
            ),
            "trained_tokens": self.trained_tokens,
        }


def _value(record: Record, metric: str, unadapted: Mapping[str, Record]) -> float:
    if record.get("reason") is None:
        if metric == "gold_log_likelihood":
            return float(np.mean(record["gold_log_likelihoods"]))
        return float(record[metric])
    if metric == "gold_log_likelihood":
        return float(np.mean(unadapted[record["context"]]["gold_log_likelihoods"]))
    return 0.0


def rows(names: Sequence[str], known: Sequence[str]) -> list[str]:
    """The arms that can be run with these policies; each learner brings its in-context row."""
    missing = {"base", "policy"} - set(known)
    chosen = {name for name in names if not missing & set(KINDS[name][1:])}
    learners = {KINDS[name].learner for name in chosen} - {"base"}
    return [
        name
        for name, kind in KINDS.items()
        if name in chosen or (not kind.source and kind.learner in learners)
    ]


def evaluate(
    run: Run[FewShotSession], policies: Mapping[str, Policy], examples: Examples
) -> dict[str, Any]:
    """Runs the arms on the evaluation tasks, reports to the terminal, and returns the results.

    Args:
      policies: "base", and "policy" if there is one.
    """
    settings = run.session.settings
    tasks = run.session.tasks["eval"]
    sources = Sources(run, policies, tasks, examples)
    found = [
        _arm(run, name, policies, sources, tasks, examples)
        for name in rows(settings.few_shot.arms, list(policies))
    ]
    draws = {"seed": settings.seed, "draws": settings.evaluation.bootstrap_draws}
    results: dict[str, Any] = {
        "arms": {arm.name: arm.summary() for arm in found},
        "pairs": pairs(found, **draws),
        "recipes": {
            source: recipes.describe(written) for source, written in sources.written.items()
        },
        "best_fixed": sources.chosen,
        "tasks": {
            task.id: {
                arm.name: {metric: arm.values(metric)[c] for metric in METRICS} for arm in found
            }
            for c, task in enumerate(tasks)
        },
    }
    run.say("\n" + table(found, results))
    for source in ("base", "policy"):
        if source in sources.written:
            run.say(f"\nrecipes by {source!r}: {_shown(results['recipes'][source])}")
    return results


def _arm(
    run: Run[FewShotSession],
    name: str,
    policies: Mapping[str, Policy],
    sources: Sources,
    tasks: Sequence[ArcTask],
    examples: Examples,
) -> Arm:
    kind = KINDS[name]
    learner = policies[kind.learner]
    count = run.session.settings.evaluation.edits
    plain = stages.answer(run, lambda: learner.params, tasks, stage=f"eval {kind.learner}")
    if not kind.source:
        return Arm(name=name, records=[[plain[task.id]] * count for task in tasks], unadapted=plain)
    candidates = [
        examples.candidate(task, wanted, index=m, replicate=m)
        for task, of_task in zip(tasks, sources.recipes(kind.source), strict=True)
        for m, wanted in enumerate(of_task)
    ]
    # All arms draw with the same keys (common random numbers), so that they differ by recipe alone.
    records, tokens = stages.try_all(
        run, learner.params, candidates, stage=f"eval {name}", draw="eval"
    )
    return Arm(
        name=name,
        records=[records[i : i + count] for i in range(0, len(records), count)],
        unadapted=plain,
        trained_tokens=tokens.real,
    )


def pairs(compared: Sequence[Arm], *, seed: int, draws: int) -> list[Record]:
    """Paired differences (second minus first) of every pair of arms; intervals resample tasks."""
    found = []
    for first, second in itertools.combinations(compared, 2):
        for metric in METRICS:
            if len(first.records) < 2:
                continue
            interval = statistics.paired_cluster_bootstrap(
                second.values(metric), first.values(metric), seed=seed, draws=draws
            )
            found.append(
                {
                    "names": [second.name, first.name],
                    "metric": metric,
                    "difference": interval.difference,
                    "interval": [interval.low, interval.high],
                }
            )
    return found


def table(shown: Sequence[Arm], results: dict[str, Any]) -> str:
    """The arms as a table for the terminal, each compared with the first."""
    against = {
        tuple(pair["names"]): pair for pair in results["pairs"] if pair["metric"] == "graded"
    }
    width = max(len(KINDS[arm.name].label) for arm in shown) + 2
    lines = [
        f"{'arm':<{width}}{'solved':>8}{'graded':>9}{'gold log-lik.':>15}{'failed':>8}   "
        f"gain in graded over {KINDS[shown[0].name].label}"
    ]
    for arm in shown:
        summary = results["arms"][arm.name]
        failed = summary["invalid_recipes"] + summary["other_failures"]
        line = (
            f"{KINDS[arm.name].label:<{width}}{summary['solved']:>8.1%}{summary['graded']:>9.3f}"
            f"{summary['gold_log_likelihood']:>15.2f}{failed:>8}"
        )
        pair = against.get((arm.name, shown[0].name))
        if pair:
            low, high = pair["interval"]
            line += f"   {pair['difference']:+.3f} [{low:+.3f}, {high:+.3f}]"
        lines.append(line)
    return "\n".join(lines)


def _shown(found: Record) -> str:
    """A distribution of recipes in one line."""
    if not found["valid"]:
        return f"none valid of {found['invalid']}"
    shares = ", ".join(
        f"{name} {found[name]:.0%}" for name in ("basic", "size", "chain", "repeat", "outputs_only")
    )
    rate, epochs = found["learning_rate"][1], found["epochs"][1]
    return (
        f"{found['valid']} valid, {found['invalid']} not; {shares}; median learning rate {rate:g}, "
        f"epochs {epochs:g}; {found['distinct']} distinct"
    )
