"""Runs compared with each other: paired by context and question, their differences corrected.

Only what lies in the run directories is read, so runs of other machines compare as well.
"""

import collections
import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from seal_jax.reports import finished_run, run_files
from seal_jax.reports.finished_run import CompareError, FinishedRun, Setting, listed, shown
from seal_jax.stats import components, intervals
from seal_jax.stats.intervals import Values
from seal_jax.tasks.protocol import Metric

# Settings that decide what is asked; the last three leave out what is too long.
_CHOOSE_CONTEXTS = (
    "data.",
    "few_shot.eval",
    "evaluation.contexts",
    "evaluation.seed",
    "evaluation.questions",
    "edits.prompt_buckets",
    "edits.max_new_tokens",
    "restem.sft.buckets",
)

Side = tuple[Setting, str]  # a setting's arm


def compare(
    runs: Sequence[str], *, seed: int = 0, draws: int = 10_000, level: float = 0.95
) -> dict[str, Any]:
    """Compares finished runs.

    Runs of one setting with different seeds are given as one, separated by commas; their intervals
    resample seeds, articles and passages (`intervals.paired_bootstraps`), and their own arms are
    compared as well. Single runs are compared over contexts. The contexts of few-shot learning are
    its tasks. Where two settings do not have the same arms, each arm that only one has is compared
    with each that only the other has.

    Args:
      runs: directories, "DIR" or "DIR,DIR,..."; two settings or more, or one with several seeds.
      seed: what the resamples follow from.
      draws: number of resamples.
      level: the coverage that is aimed at.

    Returns:
      "settings", "task", "metrics", "grader", "contexts", "articles" and "questions" (numbers),
      "paired_seeds", "config_differences" ({key: {label: value}}), "arms" ({label: {arm: values}}),
      "between" and "within" (families of differences, second minus first: "intervals", each with
      "detectable" and, of several seeds, the "components" of its variance; "corrected_level"),
      "compute" ({run: ...}), and the arguments. None stands for a difference without a question
      that has a value on both sides, for an interval of fewer than two contexts (of two articles,
      where these are resampled), and for the level of a family without any.

    Raises:
      CompareError: a run is unfinished, or graders, contexts or questions differ.
      DamagedError: files of a run are damaged.
    """
    intervals.check(draws, level)
    settings = [finished_run.read_setting(label) for label in runs]
    if len(settings) < 2 and all(len(setting.runs) < 2 for setting in settings):
        raise CompareError("give two runs or more: `compare RUN RUN` (RUN,RUN for seeds of one).")
    with run_files.as_written(", ".join(runs)):
        return _compared(settings, {"seed": seed, "draws": draws, "level": level})


def _compared(settings: Sequence[Setting], numbers: dict[str, Any]) -> dict[str, Any]:
    every = [run for setting in settings for run in setting.runs]
    _check(every)
    _check_questions(every)
    contexts, metrics = every[0].contexts.values(), every[0].own_metrics
    several = {len(setting.runs) > 1 for setting in settings}
    if len(several) > 1:
        alone = next(setting.label for setting in settings if len(setting.runs) == 1)
        raise CompareError(
            f"{alone} is one run, others are several seeds of a setting: give two seeds or more of "
            "each, or one run of each."
        )
    nested = several == {True}
    paired = len({tuple(run.seed for run in setting.runs) for setting in settings}) == 1
    groups = [context["group"] for context in contexts]
    over = {"articles": groups} if nested else {}
    between, within = (
        _family(sides, metrics, **numbers, **over, paired=together)
        for sides, together in ((_between(settings), paired), (_within(settings, nested), True))
    )
    return {
        **numbers,
        "settings": [
            {
                "label": setting.label,
                "runs": [run.label for run in setting.runs],
                "seeds": [run.config.get("seed") for run in setting.runs],
            }
            for setting in settings
        ],
        "task": every[0].task,
        "metrics": [dataclasses.asdict(metric) for metric in metrics],
        "words": {of: str(every[0].results["words"][of]) for of in ("context", "question")},
        "grader": every[0].results["grader"],
        "contexts": len(contexts),
        "articles": len(set(groups)),
        "questions": sum(len(_asked(context)) for context in contexts),
        "paired_seeds": paired if nested else None,
        "config_differences": _config_differences(settings),
        "arms": {
            setting.label: {arm: _summary(setting, arm, metrics) for arm in setting.arms}
            for setting in settings
        },
        "between": between,
        "within": within,
        "compute": {run.label: run.compute() for run in every},
    }


def _check(every: Sequence[FinishedRun]) -> None:
    """Refuses what was given twice, and runs that measured different things."""
    label, count = collections.Counter(run.label for run in every).most_common(1)[0]
    if count > 1:
        raise CompareError(f"the run {label} was given twice: give each once.")
    if len({run.task for run in every}) > 1:
        domains = ", ".join(f"{run.label}: {run.task}" for run in every)
        raise CompareError(
            f"these runs are of different domains ({domains}), so nothing in them is alike: "
            "compare runs of one `task`."
        )
    if len({run.results["grader"] for run in every}) > 1:
        graders = ", ".join(f"{run.label}: {run.results['grader']}" for run in every)
        raise CompareError(
            f"different graders judged these runs ({graders}), so their accuracies cannot be "
            "compared: evaluate again with one grader."
        )


def _asked(context: dict[str, Any]) -> list[str]:
    """The ids of a context's questions, in its first arm."""
    return next((arm["questions"] for arm in context["arms"].values()), [])


def _check_questions(every: Sequence[FinishedRun]) -> None:
    """Refuses runs and arms that were not asked the same questions."""
    first = every[0]
    for run in every:
        lines = []
        for one, other in ((first, run), (run, first)):
            if only := sorted(one.contexts.keys() - other.contexts.keys()):
                lines.append(f"contexts only in {one.label}: {listed(only)}")
        differing = {
            id: listed(sorted(ids))
            for id in first.contexts
            for arm in run.contexts.get(id, {"arms": {}})["arms"].values()
            if (ids := set(arm["questions"]) ^ set(_asked(first.contexts[id])))
        }
        told = [f"questions of context {id}, only in one: {ids}" for id, ids in differing.items()]
        lines += told[:3]
        if len(told) > 3:
            lines.append(f"and questions of {len(told) - 3} more contexts")
        if lines:
            raise CompareError(
                f"{first.label} and {run.label} were not asked the same questions.\n  "
                + "\n  ".join(lines)
                + f"\n{_cause(first, run)}"
            )


def _cause(one: FinishedRun, other: FinishedRun) -> str:
    """Which settings made two runs ask different questions."""
    keys = finished_run.differing(one.settings, other.settings)
    causes = [key for key in keys if key.startswith(_CHOOSE_CONTEXTS)]
    causes = causes or [key for key in keys if key == "seed"]
    if not causes:
        return (
            "No setting that chooses contexts differs: the data files have changed between the "
            "runs. Run one of them again."
        )
    told = [f"{key}: {shown(one.settings, key)} and {shown(other.settings, key)}" for key in causes]
    return "Settings that choose contexts and differ: " + "; ".join(told) + ". Set them alike."


def _config_differences(settings: Sequence[Setting]) -> dict[str, dict[str, Any]]:
    """The settings that differ, by dotted key: each label's value, or those of its seeds."""
    met = {setting.label: [run.met for run in setting.runs] for setting in settings}
    return {
        key: {
            label: values[0] if all(value == values[0] for value in values) else values
            for label, of_runs in met.items()
            if (values := [of[key] for of in of_runs if key in of])
        }
        for key in finished_run.differing(*itertools.chain.from_iterable(met.values()))
    }


def _between(settings: Sequence[Setting]) -> list[tuple[Side, Side]]:
    """(second, first) for every pair of settings: arms of one name, then those of one alone."""
    found = []
    for first, second in itertools.combinations(settings, 2):
        pairs = [(arm, arm) for arm in first.arms if arm in second.arms]
        alone = [arm for arm in first.arms if arm not in second.arms]
        others = [arm for arm in second.arms if arm not in first.arms]
        pairs += itertools.product(alone, others)
        found += [((second, theirs), (first, own)) for own, theirs in pairs]
    return found


def _within(settings: Sequence[Setting], several: bool) -> list[tuple[Side, Side]]:
    """(second, first) for every pair of arms of one setting, where it has several seeds."""
    return [
        ((setting, second), (setting, first))
        for setting in settings
        for first, second in itertools.combinations(setting.arms, 2)
        if several
    ]


def _family(
    sides: Sequence[tuple[Side, Side]], metrics: Sequence[Metric], **drawn: Any
) -> dict[str, Any]:
    """Differences in every metric, corrected for their number; the sides are (second, first)."""
    planned = [(*of, metric) for of in sides for metric in metrics]
    values = [
        (_values(second, metric), _values(first, metric)) for second, first, metric in planned
    ]
    family = intervals.paired_bootstraps(values, **drawn)
    found = []
    for (second, first, metric), pair, single, corrected, detectable in zip(
        planned, values, family.single, family.corrected, family.detectable, strict=True
    ):
        # Whether every run of both sides has a value, for each question.
        counts = [
            None not in of_question
            for of_context in zip(*pair[0], *pair[1], strict=True)
            for of_question in zip(*of_context, strict=True)
        ]
        found.append(
            {
                "second": {"setting": second[0].label, "arm": second[1]},
                "first": {"setting": first[0].label, "arm": first[1]},
                "metric": metric.name,
                "difference": single.value,
                "interval": single.ends,
                "corrected_interval": corrected.ends,
                "detectable": detectable,
                "components": _components(
                    *pair, drawn.get("articles"), _of_edits(second, first, metric)
                ),
                "questions": sum(counts),
                "left_out": len(counts) - sum(counts),
            }
        )
    known = any(of["interval"] for of in found)
    return {"corrected_level": family.corrected_level if known else None, "intervals": found}


def _values(side: Side, metric: Metric) -> list[list[list[float | None]]]:
    """Of every run for each context, one value a question, or its own alone."""
    setting, arm = side
    return [
        [context["arms"][arm][metric.name] for context in run.contexts.values()]
        for run in setting.runs
    ]


def _components(
    second: Sequence[Values],
    first: Sequence[Values],
    articles: Sequence[str] | None,
    edit: float,
) -> dict[str, Any] | None:
    """`components.over_seeds` of a difference, articles for contexts; None where it has none."""
    if articles is None or len(second) != len(first):
        return None
    of_article: dict[str, list[np.ndarray]] = {}
    for c, article in enumerate(articles):
        own, other = (np.array([run[c] for run in runs], np.float64) for runs in (second, first))
        known = ~np.isnan(own - other).any(axis=0)
        if known.any():
            of_article.setdefault(article, []).append((own - other)[:, known])
    cells = [np.concatenate(of, axis=1) for of in of_article.values()]
    found = components.over_seeds(cells, edit=edit)
    return found and found._asdict()


def _of_edits(second: Side, first: Side, metric: Metric) -> float:
    """What self-edits add to the variance of a context's mean, of two arms of the same runs."""
    pairs = [
        components.Components(**pair["components"])
        for run in second[0].runs
        for pair in run.results.get("pairs", ())
        if {*pair["names"]} == {second[1], first[1]}
        and pair["metric"] == metric.name
        and "components" in pair
    ]
    if second[0] is not first[0]:
        return 0.0
    return intervals.mean(one.of_mean(one.edits)["edits"] for one in pairs) or 0.0


def _summary(setting: Setting, arm: str, metrics: Sequence[Metric]) -> dict[str, Any]:
    """An arm's means (over the questions that have a value, then over seeds), and counts.

    Its "cost" is the mean of its runs', in the order of `results.Cost`; None where nothing learns.
    """
    found: dict[str, Any] = {}
    for metric in metrics:
        runs = _values((setting, arm), metric)
        means = [intervals.mean(itertools.chain.from_iterable(of_run)) for of_run in runs]
        found[metric.name] = intervals.mean(means)
        if len(means) > 1:
            found[f"{metric.name}_of_seeds"] = means
    contexts = [context for run in setting.runs for context in run.contexts.values()]
    for count in ("empty", "ungraded"):
        found[count] = sum(context["arms"][arm][count] for context in contexts)
    spent = [run.costs[arm] for run in setting.runs if arm in run.costs]
    found["cost"] = [intervals.mean(of) for of in zip(*spent, strict=True)] if spent else None
    return found
