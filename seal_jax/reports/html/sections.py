"""The sections of the page that are tables: a run's arms, and what its reward is worth."""

import itertools
from typing import Any

from seal_jax.reports import scores
from seal_jax.reports.html import charts
from seal_jax.reports.html.arm_names import kinds, metric, metrics, number, range_of
from seal_jax.reports.html.markup import Html, details, join, section, table, tag
from seal_jax.reports.html.run_records import RunRecords
from seal_jax.stats import statistics

Record = dict[str, Any]


def arms(run: RunRecords) -> Html:
    """The arms, their means and intervals, and paired differences."""
    planted = run.results.get("planted_reward")
    if planted:
        low, high = planted["interval"]
        rows = [
            ("before RL", f"{planted['before']:.4f}", ""),
            ("after RL", f"{planted['after']:.4f}", ""),
            ("difference", f"{planted['difference']:+.4f}", f"[{low:+.4f}, {high:+.4f}]"),
        ]
        shown = table("Planted reward on held-out contexts", ["", "mean", "95 % interval"], rows)
        return section("arms", "Arms", shown)
    if run.results.get("arms"):
        return section("arms", "Arms", *_finished_arms(run))
    if "filter" in run.results:
        return _curated(run)
    rows = [row for name in kinds(run) if (row := _so_far(run, name))]
    if not rows:
        return Html("")
    count = "tasks" if run.few_shot else "answers"
    heads = ["arm", count, *map(metric, metrics(run))]
    note = "The evaluation is not finished: means so far, each of what its own arm has, so that "
    note += "arms are not comparable yet. No intervals."
    return section(
        "arms", "Arms so far", tag("p", note, class_="note"), table("Arms so far", heads, rows)
    )


def _curated(run: RunRecords) -> Html:
    """What `curate` found, the best first."""
    tasks = sorted(
        run.results["tasks"].items(), key=lambda of: (-of[1]["solved"], -of[1]["graded"])
    )
    rows = [
        [
            id,
            *(number(name, found[name]) for name in ("solved", "graded")),
            found["questions"],
            found["failed"],
        ]
        for id, found in tasks
    ]
    heads = ["task", "solved (%)", "graded", "questions", "without a result"]
    note = f"{len(run.results['solved'])} of {len(tasks)} tasks are solved under "
    note += f"{run.results['recipe']} ({run.results['filter']})."
    return section(
        "arms",
        "Tasks that can be solved",
        tag("p", note),
        table("Tasks, the best first", heads, rows),
    )


def _so_far(run: RunRecords, name: str) -> list[Any]:
    """An arm's means as far as its records go."""
    kind = kinds(run)[name]
    records = (
        run.trials(f"eval {name}")
        if kind.source not in ("", "prompt")
        else list(run.merged(f"eval {kind.source or kind.learner}", "unadapted").values())
    )
    found: dict[str, list[float]] = {}
    if run.few_shot:
        records = [record for record in records if record.get("reason") is None]
        for record in records:
            values = record["gold_log_likelihoods"]
            found.setdefault("gold_log_likelihood", []).append(sum(values) / len(values))
            found.setdefault("solved", []).append(float(record["solved"]))
            found.setdefault("graded", []).append(record["graded"])
        count = len(records)
    else:
        answers = [a for r in records for a in (r["answers"] if isinstance(r, dict) else r)]
        for answer in answers:
            for key, value in (
                ("accuracy", answer["correct"]),
                ("gold_log_likelihood", answer["gold_log_likelihood"]),
            ):
                if value is not None:
                    found.setdefault(key, []).append(float(value))
        count = len(answers)
    if not count:
        return []
    means = [sum(found[m]) / len(found[m]) if found.get(m) else None for m in metrics(run)]
    shown = [number(m, mean, unit=True) for m, mean in zip(metrics(run), means, strict=True)]
    return [kind.label, count, *shown]


def _finished_arms(run: RunRecords) -> list[Html]:
    results = run.results
    names = [name for name in kinds(run) if name in results["arms"]]
    names += [name for name in results["arms"] if name not in names]
    first = names[0]
    of_pair = {(*pair["names"], pair["metric"]): pair for pair in results.get("pairs", [])}
    blocks = []
    for name in metrics(run):
        gains = [of_pair[arm, first, name] for arm in names if (arm, first, name) in of_pair]
        edges = [edge for gain in gains for edge in gain["interval"]]
        span = (min([0.0, *edges]), max([0.0, *edges]))
        rows = []
        for arm in names:
            summary = results["arms"][arm]
            low, high = _interval_of_mean(run, arm, name)
            row = [_label(run, arm), number(name, summary.get(name)), range_of(name, low, high)]
            gain = of_pair.get((arm, first, name))
            if gain:
                low, high = gain["interval"]
                row += [number(name, gain["difference"], sign=True)]
                row += [range_of(name, low, high, sign=True)]
                row += [charts.interval(low, gain["difference"], high, span)]
            rows.append([*row, *[""] * (6 - len(row))])
        unit = {"accuracy": " (%)", "solved": " (%)", "gold_log_likelihood": " (nats)"}
        title = metric(name) + unit.get(name, "")
        gain_of = f"gain over {_label(run, first)}"
        heads = ["arm", "mean", "95 % interval", gain_of, "95 % interval", ""]
        blocks.append(table(title.capitalize(), heads, rows, class_="arms"))
    blocks.append(
        tag(
            "p",
            f"Intervals resample {'tasks' if run.few_shot else 'contexts'} with all that belongs "
            "to them; differences are paired. They are of each figure alone, not corrected for the "
            "number of comparisons. What decides between two arms is the interval of their "
            "difference, not whether the intervals of their means overlap. With few of them an "
            "interval can reach beyond what is possible.",
            class_="note",
        )
    )
    blocks.append(_counts(run, names))
    blocks += [_pairs(run), _matched(run)]
    return blocks


def _label(run: RunRecords, arm: str) -> str:
    kind = kinds(run).get(arm)
    return kind.label if kind else arm


def _interval_of_mean(
    run: RunRecords, arm: str, name: str
) -> tuple[float, float] | tuple[None, None]:
    """Of an arm's mean, as the run makes those of differences: here from nought."""
    of = run.results.get("tasks" if run.few_shot else "contexts", {})
    try:
        values = [
            context[arm][name] if run.few_shot else context["arms"][arm][name]
            for context in of.values()
        ]
        noughts = [[0.0] * len(values) for values in values]
        found = statistics.paired_cluster_bootstrap(
            values, noughts, seed=run.config.get("seed", 0), draws=2000
        )
    except (KeyError, ValueError):  # an older run, or a single context
        return None, None
    return found.low, found.high


def _counts(run: RunRecords, names: list[str]) -> Html:
    """How many answers, and what is counted apart."""
    summaries = run.results["arms"]
    keys = [
        key
        for key in dict.fromkeys(itertools.chain.from_iterable(summaries.values()))
        if key not in metrics(run)
    ]
    rows = [[_label(run, arm), *(_count(summaries[arm].get(key)) for key in keys)] for arm in names]
    shown = table("Counts of each arm", ["arm", *(k.replace("_", " ") for k in keys)], rows)
    return details("Counts: answers, failures, tokens", shown)


def _count(value: Any) -> Any:
    return f"{value:,}" if isinstance(value, int) else value


def _pairs(run: RunRecords) -> Html:
    rows = []
    for pair in run.results.get("pairs", []):
        name, (second, first) = pair["metric"], pair["names"]
        shown = number(name, pair["difference"], sign=True, unit=True)
        between = f"{_label(run, second)} − {_label(run, first)}"
        rows.append([between, metric(name), shown, range_of(name, *pair["interval"], sign=True)])
    if not rows:
        return Html("")
    heads = ["second − first", "metric", "difference", "95 % interval"]
    shown = table("Paired differences of all arms", heads, rows, left=2)
    return details(f"All {len(rows)} paired differences", shown)


def _matched(run: RunRecords) -> Html:
    rows = [
        [
            _label(run, arm),
            number("gold_log_likelihood", gain["difference"], sign=True),
            range_of("gold_log_likelihood", *gain["interval"], sign=True),
            gain["n_contexts"],
        ]
        for arm, gain in run.results.get("matched_minus_mismatched", {}).items()
        if gain
    ]
    if not rows:
        return Html("")
    title = "Matched minus mismatched gold log-likelihood (nats)"
    note = "The model adapted to one context is also asked another's questions: the difference is "
    note += "what it learned about its context rather than about the form of an answer."
    heads = ["arm", "difference", "95 % interval", "contexts"]
    return join([table(title, heads, rows), tag("p", note, class_="note")])


def reliability(report: Record | None) -> Html:
    """What each reward is worth: the figures of `analyze`."""
    if not report or not report["stages"]:
        return Html("")
    note = (
        "How far a reward would choose the same self-edits again, from 0 (noise) to 1 (exact), "
        "within contexts; and what the best self-edit by a reward gains on answers that did not "
        "choose it. In sample it is measured on the very answers that chose it, which estimates "
        "nothing."
    )
    blocks = [tag("p", note, class_="note")]
    for place, stage in enumerate(report["stages"]):
        blocks.append(
            details(
                f"{stage['stage']}: {stage['contexts']} contexts, "
                f"{stage['self_edits']} self-edits, "
                f"{stage['replicates']} replicate{'s' if stage['replicates'] > 1 else ''}",
                *(
                    tag("p", f"{text[:1].upper()}{text[1:]}.", class_="note")
                    for text in stage["notes"]
                ),
                _reliabilities(stage),
                _best_of(stage),
                open_=place == 0,
            )
        )
    return section("reliability", "What the reward is worth", *blocks)


def _reliabilities(stage: Record) -> Html:
    rows = []
    for name, reward in stage["rewards"].items():
        found = reward["reliability"]
        row = [metric(name), number(name, reward["mean"]), number(name, reward["unadapted"])]
        if found is None:
            rows.append([*row, "exact: no replicates", "", ""])
            continue
        forms = ("within_contexts", "other_questions", "other_both")
        rows.append([*row, *(_share(found[form]) for form in forms)])
    heads = ["reward", "mean", "unadapted", "other seeds", "other questions", "both"]
    return table("Reliability, with 95 % intervals", heads, rows)


def _best_of(stage: Record) -> Html:
    rows = []
    for row in stage["best_of_m"]:
        name = row["measured"]
        if name != row["chosen_by"] or name in ("length", "mix"):
            continue
        forms = ("other_replicates", "other_questions", "other_both", "in_sample")
        cells = [_gain(name, row[form]) for form in forms]
        means = [row[form]["mean"] for form in forms if row[form]]
        rows.append([metric(name), number(name, means[0] if means else None), *cells])
    heads = [
        "chosen by",
        "mean of all",
        "on other seeds",
        "on other questions",
        "on both",
        "in sample",
    ]
    return table("Gain of the best self-edit over the mean of all", heads, rows)


def _gain(name: str, found: Record | None) -> str:
    gain = found and found["gain"]
    if not gain:
        return "–"
    shown = number(name, gain["value"], sign=True)
    return f"{shown} {range_of(name, gain['low'], gain['high'], sign=True)}".strip()


def _share(found: Record | None) -> str:
    if found is None:
        return "–"
    shown = f"{found['value']:.2f}"
    if found["low"] is not None:
        shown += f" [{found['low']:.2f}, {found['high']:.2f}]"
    return shown.replace("-", "−")


def analysis(run: RunRecords) -> Record | None:
    """The figures of `analyze`; None where the run has nothing to compare."""
    from seal_jax.reports import analyze

    try:
        return analyze.analyze(str(run.path), draws=1000)
    except (ValueError, OSError, scores.LedgerError):
        return None
