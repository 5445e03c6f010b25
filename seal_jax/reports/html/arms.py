"""The arms of a run: means, intervals and paired differences; or what `curate` found."""

from typing import Any

from seal_jax.loop.arms import Arm
from seal_jax.loop.results import COST_HEADS, Outcome
from seal_jax.reports.formats import interval, metric, number
from seal_jax.reports.html import charts
from seal_jax.reports.run_files import RunFiles
from seal_jax.reports.run_records import Record, RunRecords
from seal_jax.stats import intervals
from seal_jax.tasks import directives
from seal_jax.tasks.protocol import Metric


def arms(run: RunRecords) -> Record | None:
    """What the run has of them; None where it has nothing.

    Returns:
      {"title"} with {"planted": rows}, {"curated": rows, "heads"}, {"so_far": rows, "heads"}, or
      {"tables", "spent", "first", "counted", "counts", "pairs", "matched", "compared", "rises",
      "directives"} of a finished evaluation.
    """
    if planted := run.results.get("planted_reward"):
        rows = [[f"{of} RL", number("planted", planted[of]), ""] for of in ("before", "after")]
        return {"title": "Arms", "planted": [*rows, ["difference", *_gain("planted", planted)]]}
    if run.results.get("arms"):
        return {"title": "Arms"} | _finished(run)
    word = run.words["context"]
    if "filter" in run.results:
        found = run.results["tasks"]
        names = [of for of in run.metrics if all(of.name in one for one in found.values())]
        best = sorted(found, key=lambda id: ([-(found[id][of.name] or 0) for of in names], id))
        rows = [
            [id, *(number(of, found[id][of.name]) for of in names),
             found[id]["questions"], found[id]["failed"]]
            for id in best
        ]  # fmt: skip
        heads = [word, *(metric(of, unit=True) for of in names), "questions", "without a result"]
        title = f"{word.capitalize()}s that can be solved"
        return {"title": title, "curated": rows, "heads": heads}
    so_far = [row for name, arm in run.arms.items() if (row := _so_far(run, name, arm))]
    counted = f"{word}s" if run.metrics[0].per == "context" else "answers"
    heads = ["arm", counted, *map(metric, run.metrics)]
    return {"title": "Arms so far", "so_far": so_far, "heads": heads} if so_far else None


def _so_far(run: RunRecords, name: str, arm: Arm) -> list[Any]:
    """An arm's means as far as its records go."""
    what = name if arm.learns else "prompt" if arm.view == "reading" else arm.learner
    stage = run.stages.get(f"eval {what}")
    tried = [*stage.trials, *stage.answers.values()] if stage else []
    marks = [[one] for one in tried if one["answers"]]
    if not marks:
        return []
    found = Outcome(name, arm, marks).summary(run.metrics)
    count = found["contexts" if run.metrics[0].per == "context" else "n_answers"]
    means = (number(of, found[of.name], unit=True) for of in run.metrics)
    return [run.arm_label(name), count, *means]


def _finished(run: RunRecords) -> Record:
    summaries, pairs = run.results["arms"], run.results.get("pairs", [])
    names = list(dict.fromkeys([*(n for n in run.arms if n in summaries), *summaries]))
    first, tables = names[0], []
    cells = {arm: dict(zip(COST_HEADS, of.cells(), strict=True)) for arm, of in run.costs.items()}
    spent = [head for head in COST_HEADS if any(of[head] for of in cells.values())]
    for of in run.metrics:
        own = [pair for pair in pairs if (pair["metric"], pair["names"][1]) == (of.name, first)]
        gains = {pair["names"][0]: pair for pair in own}
        edges = [0.0, *(edge for gain in gains.values() for edge in gain["interval"] or ())]
        rows: list[list[Any]] = []
        # Facts are of the main metric.
        heads = [head for head in spent if head != COST_HEADS[-1] or of is run.metrics[0]]
        for arm in names:
            average = number(of, summaries[arm].get(of.name))
            around = interval(of, interval_of_mean(run, arm, of.name))
            rows.append([run.arm_label(arm), average, around, "", "", ""])
            rows[-1] += [cells[arm][head] if arm in cells else "" for head in heads]
            if gain := gains.get(arm):
                rows[-1][3:5] = _gain(of, gain)
                if gain["interval"] and gain["difference"] is not None:
                    rows[-1][5] = charts.interval(gain["interval"], gain["difference"], edges)
        tables.append((metric(of, unit=True).capitalize(), heads, rows))
    differences = []
    for pair in pairs:
        between, name = " − ".join(map(run.arm_label, pair["names"])), run.metric(pair["metric"])
        differences.append([between, metric(name), *_gain(name, pair, unit=True)])
    matched = [
        [run.arm_label(arm), *_gain("gold_log_likelihood", gain), gain["n_contexts"]]
        for arm, gain in run.results.get("matched_minus_mismatched", {}).items()
        if gain
    ]
    rises = [
        [run.arm_label(arm), *_gain("harm", rise)]
        for arm, rise in run.results.get("unrelated", {}).items()
    ]
    compared = [
        [" − ".join(map(run.arm_label, of["names"])), metric(name := run.metric(of["metric"])),
         *_gain(name, of, unit=True), interval(name, of["corrected"], sign=True),
         number(name, of["detectable"])]
        for of in run.results.get("bench", {}).get("comparisons", ())
    ]  # fmt: skip
    means = {"label", *(of.name for of in run.metrics)}
    counted = [
        key for key in dict.fromkeys(k for of in summaries.values() for k in of) if key not in means
    ]
    counts = []
    for arm in names:
        values = (summaries[arm].get(key) for key in counted)
        shown = (f"{n:,}" if isinstance(n, int) else n for n in values)
        counts.append([run.arm_label(arm), *shown])
    return {
        "tables": tables, "spent": bool(spent), "first": run.arm_label(first),
        "pairs": differences, "matched": matched,
        "compared": compared, "rises": rises,
        "counted": [*map(metric, counted)], "counts": counts, "directives": _directives(run),
    }  # fmt: skip


def _directives(run: RunRecords) -> list[list[str]]:
    """What the self-edits of rounds and arms say of their update, and the fixed ones chosen."""
    rounds = enumerate(run.results.get("rounds", []), start=1)
    found = {f"round {n}": of["directives"] for n, of in rounds if of.get("directives")}
    for name, of in run.results.get("directives", {}).items():
        editor = name.removeprefix("edits ")
        found[f"self-edits of {editor}" if editor != name else run.arm_label(name)] = of
    rows = [[name, directives.said(of), of.get("commonest", "")] for name, of in found.items()]
    for name, best in run.results.get("best_fixed", {}).items():
        means = ", ".join(number("", value) for value in best["mean_rewards"])
        said = f"chosen for its mean reward in training, of {means}"
        rows.append([run.arm_label(name), said, best["head"]])
    if best := run.results.get("best_tried"):
        above = number("", best["above"][best["head"]], sign=True)
        said = f"{above} above the others of their contexts, {best['times'][best['head']]} times"
        rows.append(["best tried in the rounds", said, best["head"]])
    return rows


def _gain(name: str | Metric, found: Record, *, unit: bool = False) -> list[str]:
    """A difference and its interval."""
    gain = number(name, found["difference"], sign=True, unit=unit)
    return [gain, interval(name, found["interval"], sign=True)]


def interval_of_mean(run: RunFiles, arm: str, name: str) -> list[float] | None:
    """Of an arm's mean, as the run makes those of differences: here from nought."""
    contexts = run.results.get("contexts", {}).values()
    values = [context["arms"][arm][name] for context in contexts]
    if not values:
        return None
    noughts = [[0.0] * len(of) for of in values]
    seed = run.config.get("seed", 0)
    return intervals.paired(values, noughts, seed=seed, draws=2000)["interval"]
