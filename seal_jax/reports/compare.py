"""Runs compared with each other: paired by context and question, their differences corrected.

Only what lies in the run directories is read, so runs of other machines compare as well.
"""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

from seal_jax.reports import finished_run
from seal_jax.reports.finished_run import CompareError, FinishedRun, Setting, shown
from seal_jax.stats import intervals

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

Questions = dict[str, tuple[str, ...]]
Side = tuple[Setting, str]  # a setting's arm


def compare(
    runs: Sequence[str], *, seed: int = 0, draws: int = 10_000, level: float = 0.95
) -> dict[str, Any]:
    """Compares finished runs.

    Runs of one setting with different seeds are given as one, separated by commas; their intervals
    resample seeds, articles and passages (`intervals.nested_bootstrap`), and their own arms are
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
      "between" and "within" (families of differences, second minus first: "intervals", and
      "corrected_level"), "compute" ({run: ...}), and the arguments. None stands for a difference
      without a question that has a value on both sides, for an interval of fewer than two contexts
      (of two articles, where these are resampled), and for the level of a family without any.

    Raises:
      CompareError: a run is unfinished, or graders, contexts or questions differ.
    """
    settings = [finished_run.read_setting(label) for label in runs]
    if len(settings) < 2 and all(len(setting.runs) < 2 for setting in settings):
        raise CompareError("give two runs or more: `compare RUN RUN` (RUN,RUN for seeds of one).")
    every = [run for setting in settings for run in setting.runs]
    _check_distinct(settings, every)
    _check_tasks(every)
    _check_graders(every)
    metrics = [metric.name for metric in every[0].metrics]
    questions = _common_questions(every)
    several = {len(setting.runs) > 1 for setting in settings}
    if len(several) > 1:
        alone = next(setting.label for setting in settings if len(setting.runs) == 1)
        raise CompareError(
            f"{alone} is one run, others are several seeds of a setting: give two seeds or more of "
            "each, or one run of each."
        )
    paired = len({setting.seeds for setting in settings}) == 1
    titles = [every[0].contexts[id]["group"] for id in questions]
    nested = {"articles": titles, "paired": paired} if several == {True} else None
    numbers = {"seed": seed, "draws": draws, "level": level}
    return {
        **numbers,
        "settings": [
            {
                "label": setting.label,
                "runs": [run.path for run in setting.runs],
                "seeds": [run.config.get("seed") for run in setting.runs],
            }
            for setting in settings
        ],
        "task": every[0].task,
        "metrics": [dataclasses.asdict(metric) for metric in every[0].metrics],
        "words": every[0].results["words"],
        "grader": every[0].grader,
        "contexts": len(questions),
        "articles": len(set(titles)),
        "questions": sum(map(len, questions.values())),
        "paired_seeds": paired if nested else None,
        "config_differences": _config_differences(settings),
        "arms": {
            setting.label: {
                arm: _summary(setting, arm, questions, metrics) for arm in _shared_arms(setting)
            }
            for setting in settings
        },
        "between": _family(_between(settings), questions, metrics, nested, numbers),
        "within": _family(
            _within(settings) if nested else [],
            questions,
            metrics,
            {"articles": titles, "paired": True},
            numbers,
        ),
        "compute": {run.path: run.compute for run in every},
    }


def _check_distinct(settings: Sequence[Setting], every: Sequence[FinishedRun]) -> None:
    for what, names in (
        ("setting", [setting.label for setting in settings]),
        ("run", [run.path for run in every]),
    ):
        twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
        if twice:
            raise CompareError(f"the {what} {twice[0]} was given twice: give each once.")


def _check_tasks(every: Sequence[FinishedRun]) -> None:
    for run in every:
        if run.task != every[0].task:
            domains = ", ".join(f"{of.path}: {of.task}" for of in (every[0], run))
            raise CompareError(
                f"these runs are of different domains ({domains}), so nothing in them is alike: "
                "compare runs of one `task`."
            )


def _check_graders(every: Sequence[FinishedRun]) -> None:
    if any(run.grader != every[0].grader for run in every):
        graders = ", ".join(f"{run.path}: {run.grader}" for run in every)
        raise CompareError(
            f"different graders judged these runs ({graders}), so their accuracies cannot be "
            "compared: evaluate again with one grader."
        )


def _common_questions(every: Sequence[FinishedRun]) -> Questions:
    """The question ids by context, which must be the same in every run and arm."""
    first = every[0]
    asked = {id: next(iter(of.values()), ()) for id, of in first.questions().items()}
    for run in every:
        found = run.questions()
        lines = []
        for here, there, label in ((asked, found, first.path), (found, asked, run.path)):
            only = sorted(here.keys() - there.keys())
            if only:
                lines.append(f"contexts only in {label}: {finished_run.listed(only)}")
        differing = sorted(
            id
            for id in asked.keys() & found.keys()
            if any(set(of_arm) != set(asked[id]) for of_arm in found[id].values())
        )
        for id in differing[:3]:
            of_run = next(of for of in found[id].values() if set(of) != set(asked[id]))
            ids = sorted(set(of_run) ^ set(asked[id]))
            lines.append(f"questions of context {id}, only in one: {finished_run.listed(ids)}")
        if len(differing) > 3:
            lines.append(f"and questions of {len(differing) - 3} more contexts")
        if lines:
            raise CompareError(
                f"{first.path} and {run.path} were not asked the same questions.\n  "
                + "\n  ".join(lines)
                + f"\n{_cause(first, run)}"
            )
    return dict(sorted(asked.items()))


def _cause(one: FinishedRun, other: FinishedRun) -> str:
    """Which settings made two runs ask different questions."""
    keys = finished_run.differing(one.config, other.config)
    causes = [key for key in keys if key.startswith(_CHOOSE_CONTEXTS)]
    causes = causes or [key for key in keys if key == "seed"]
    if not causes:
        return (
            "No setting that chooses contexts differs: the data files have changed between the "
            "runs. Run one of them again."
        )
    flat, flat_other = one.flat_config(), other.flat_config()
    told = [f"{key}: {shown(flat, key)} and {shown(flat_other, key)}" for key in causes]
    return "Settings that choose contexts and differ: " + "; ".join(told) + ". Set them alike."


def _config_differences(settings: Sequence[Setting]) -> dict[str, dict[str, Any]]:
    """The settings that differ, by dotted key: each label's value, or those of its seeds."""
    flat = {setting.label: [run.flat_config() for run in setting.runs] for setting in settings}
    every = [config for configs in flat.values() for config in configs]
    missing = object()
    found: dict[str, dict[str, Any]] = {}
    for key in sorted(set().union(*every)):
        if all(config.get(key, missing) == every[0].get(key, missing) for config in every):
            continue
        found[key] = {}
        for label, configs in flat.items():
            values = [config[key] for config in configs if key in config]
            if values:
                same = all(value == values[0] for value in values)
                found[key][label] = values[0] if same else values
    return found


def _shared_arms(setting: Setting) -> list[str]:
    """The arms that all runs of a setting have."""
    first, *others = setting.runs
    return [arm for arm in first.arms if all(arm in run.arms for run in others)]


def _between(settings: Sequence[Setting]) -> list[tuple[Side, Side]]:
    """(second, first) for every pair of settings."""
    found = []
    for first, second in itertools.combinations(settings, 2):
        of_first, of_second = _shared_arms(first), _shared_arms(second)
        found += [((second, arm), (first, arm)) for arm in of_first if arm in of_second]
        found += [
            ((second, theirs), (first, own))
            for own in of_first
            for theirs in of_second
            if own not in of_second and theirs not in of_first
        ]
    return found


def _within(settings: Sequence[Setting]) -> list[tuple[Side, Side]]:
    """(second, first) for every pair of arms of one setting."""
    return [
        ((setting, second), (setting, first))
        for setting in settings
        for first, second in itertools.combinations(_shared_arms(setting), 2)
    ]


def _family(
    sides: Sequence[tuple[Side, Side]],
    questions: Questions,
    metrics: Sequence[str],
    nested: dict[str, Any] | None,
    numbers: dict[str, Any],
) -> dict[str, Any]:
    """Differences in every metric, corrected for their number; the sides are (second, first)."""
    planned = [(second, first, metric) for second, first in sides for metric in metrics]
    values = [
        tuple(_values(side, metric, questions) for side in (second, first))
        for second, first, metric in planned
    ]
    if nested:
        family = intervals.nested_bootstraps(values, **nested, **numbers)
    else:
        singles = [(second, first) for [second], [first] in values]
        family = intervals.paired_cluster_bootstraps(singles, **numbers)
    found = []
    for (second, first, metric), pair, single, corrected in zip(
        planned, values, family.single, family.corrected, strict=True
    ):
        counting = sum(map(sum, _graded(pair)))
        found.append(
            {
                "second": {"setting": second[0].label, "arm": second[1]},
                "first": {"setting": first[0].label, "arm": first[1]},
                "metric": metric,
                "difference": single.difference,
                "interval": single.ends,
                "corrected_interval": corrected.ends,
                "questions": counting,
                "left_out": sum(map(len, pair[0][0])) - counting,
            }
        )
    known = any(of["interval"] for of in found)
    return {"corrected_level": family.corrected_level if known else None, "intervals": found}


def _graded(pair) -> list[list[bool]]:
    """For each context and question, whether every run of both sides has a value."""
    every = [run for side in pair for run in side]
    return [
        [all(value is not None for value in of_question) for of_question in zip(*of, strict=True)]
        for of in zip(*every, strict=True)
    ]


def _values(side: Side, metric: str, questions: Questions):
    setting, arm = side
    return [run.values(arm, metric, questions) for run in setting.runs]


def _summary(
    setting: Setting, arm: str, questions: Questions, metrics: Sequence[str]
) -> dict[str, Any]:
    """An arm's means (over the questions that have a value, then over seeds), and counts."""
    found: dict[str, Any] = {}
    for metric in metrics:
        means = [
            intervals.mean(itertools.chain.from_iterable(run.values(arm, metric, questions)))
            for run in setting.runs
        ]
        found[metric] = intervals.mean(means)
        if len(means) > 1:
            found[f"{metric}_of_seeds"] = means
    for count in ("empty", "ungraded"):
        found[count] = sum(
            run.contexts[id]["arms"][arm][count] for run in setting.runs for id in questions
        )
    return found
