"""Rewards of self-edits: from the marks of adapted models, or read off the texts."""

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from seal_jax.loop.run import Run
from seal_jax.loop.stage import Stage
from seal_jax.settings import Reward, SettingsError
from seal_jax.stats.intervals import mean
from seal_jax.tasks.base import Task
from seal_jax.tasks.protocol import GOLD_LOG_LIKELIHOOD, Context, Metric

Record = dict[str, Any]
READ_OFF = ("rubric", "length", "pattern")
AGREEMENT = "agreement"  # with the base model that reads the passage


def kinds(task: Task) -> list[str]:
    """The names that reward.kind may have for a task, beside module:function."""
    agreement = [AGREEMENT] if task.asks else []
    return [*(metric.name for metric in metrics(task)), "mix", *agreement, *READ_OFF]


def metrics(task: Task) -> list[Metric]:
    """What a task's marks hold: its own metrics, and the gold answers' log-likelihood.

    Their labels say so where the questions are not those of the data.
    """
    every = [*task.metrics, GOLD_LOG_LIKELIHOOD]
    if not task.questioner:
        return every
    by = f" on the {task.questioner}'s questions"
    return [dataclasses.replace(metric, label=metric.label + by) for metric in every]


def needs_verdicts(reward: Reward) -> bool:
    """Whether a self-edit without verdicts on its answers has no reward."""
    return reward.needs_inner_loop and reward.kind not in (GOLD_LOG_LIKELIHOOD.name, AGREEMENT)


def labelled(reward: Reward, contexts: Sequence[Context]) -> str:
    """What a reward without gold answers is, wherever it is shown; "" for the others."""
    if reward.kind != AGREEMENT:
        return ""
    count = sum(len(context.questions) for context in contexts)
    whose = "made by rule" if reward.questions == "rule" else "that the model wrote itself"
    return (
        f"agreement with the reading model on {count} questions {whose}; not a measure of knowledge"
    )


def score(records: Sequence[Record], reward: Reward, main: str) -> float | None:
    """The reward of one self-edit: the mean over those of its replicates that have one.

    Args:
      records: of its trials; see `attempt.attempt`.
      reward: of a kind that needs the inner loop.
      main: the task's main metric, which the mix has.
    """
    return mean(value(record, reward, main) for record in records)


def value(marked: Record, reward: Reward, main: str = "accuracy") -> float | None:
    """The reward that the mark of one adapted model gives; None without answers or verdicts.

    Args:
      marked: {"answers", "scores"}, and "trained_tokens" of a trial, which have their price. A
        function that the reward names is given a copy of the answers, and never no answers.

    Raises:
      SettingsError: a function gave neither a finite number nor None.

    >>> marked = {"answers": [{}], "scores": {"accuracy": 1.0, "gold_log_likelihood": -2.0}}
    >>> value(marked, Reward(kind="accuracy")), value(marked, Reward(kind="mix", mix=0.1))
    (1.0, 0.8)
    >>> value(marked | {"trained_tokens": 500}, Reward(kind="accuracy", token_price=0.2))
    0.9
    """
    if not marked["answers"]:
        return None
    found = _earned(marked, reward, main)
    price = reward.token_price * (marked.get("trained_tokens") or 0) / 1000
    return None if found is None else found - price


def _earned(marked: Record, reward: Reward, main: str) -> float | None:
    """The same before the price of its tokens."""
    if function := reward.function():
        found = function([dict(answer) for answer in marked["answers"]])
        return None if found is None else _finite(found, reward.kind)
    scores = marked["scores"]
    if reward.kind != "mix":
        # The answers of the reading model stand in the place of gold ones.
        agrees = reward.kind == AGREEMENT
        return scores.get(GOLD_LOG_LIKELIHOOD.name if agrees else reward.kind)
    own, likelihood = scores.get(main), scores["gold_log_likelihood"]
    return None if own is None or likelihood is None else own + reward.mix * likelihood


def with_likelihoods(marked: Record, likelihoods: Mapping[str, float | None]) -> Record:
    """A mark with the gold answers' log-likelihoods in its answers and scores."""
    known = list(likelihoods.values())
    own = None if None in known or not known else mean(known)
    return {
        "answers": [
            {**of, "gold_log_likelihood": likelihoods.get(of["question"])}
            for of in marked["answers"]
        ],
        "scores": {**marked["scores"], "gold_log_likelihood": own},
    }


def forgetting(records: Sequence[Record], before: Sequence[float | None]) -> float | None:
    """By how much one self-edit makes gold answers about another context less likely.

    Args:
      records: of its trials, with the other context's gold log-likelihoods in "mismatched".
      before: those of the unadapted model.

    Returns:
      The mean over replicates and questions of the nats lost, of which gains count as none; None
      where nothing is known.

    >>> forgetting([{"mismatched": [-3.0, -4.0]}], [-2.0, -6.0])
    0.5
    """
    return mean(
        max(0.0, was - now)
        for record in records
        for was, now in zip(before, record.get("mismatched") or (), strict=False)
        if now is not None and was is not None
    )


def of_texts(
    run: Run, contexts: Sequence[Context], texts: Sequence[Sequence[str]], stage: Stage
) -> Sequence[Sequence[float | None]]:
    """Rewards that need no inner loop, of self-edits [C][M]; None where the rubric gave none."""
    reward = run.session.settings.reward
    if reward.kind == "rubric":
        return _by_rubric(run, contexts, texts, stage)
    if reward.kind == "length":
        return [[float(len(text)) for text in of] for of in texts]
    return [[pattern_score(reward.pattern, text) for text in of] for of in texts]


def _by_rubric(
    run: Run, contexts: Sequence[Context], texts: Sequence[Sequence[str]], stage: Stage
) -> list[list[float | None]]:
    """The rubric's scores of self-edits [C][M]; None where the judge gave none.

    Raises:
      SettingsError: the judge failed, or gave none at all; nothing is recorded then.
    """

    def work() -> Record:
        pairs = [(c, text) for c, of in zip(contexts, texts, strict=True) for text in of]
        every = run.session.rubric.score(pairs)
        failed = [one for one in every if one.score is None]
        if len(failed) == len(every) or any(one.retry for one in failed):
            raise SettingsError(
                f"{stage}: {len(failed)} of {len(every)} self-edits could not be scored for want "
                f"of a judge ({failed[0].reason}). Mend what the judge needs; the same command "
                "continues the run."
            )
        found = iter(every)
        scored = [[next(found) for _ in of] for of in texts]
        return {
            "scores": [[one.score for one in of] for of in scored],
            "reasons": [[one.reason for one in of] for of in scored],
        }

    return run.once("rubric", stage.name, work, stage=stage)["scores"]


def pattern_score(pattern: str, text: str) -> float:
    """The share of a text's characters that matches of a regular expression cover.

    >>> pattern_score("[0-9]+", "in 1874")
    0.5714285714285714
    """
    covered = sum(len(match.group()) for match in re.finditer(pattern, text))
    return covered / len(text) if text else 0.0


def shown(value: float | None, metric: Metric) -> str:
    """A score for people: in per cent where it is a share, a dash for None."""
    if value is None:
        return "-"
    return f"{value:.1%}" if metric.share else f"{value:.3f}"


def _finite(found: Any, kind: str) -> float:
    """What a reward function gave, as a number."""
    try:
        number = float(found)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise SettingsError(
            f"reward.kind={kind} gave {found!r}: expected a finite number, or None for no reward."
        )
    return number
