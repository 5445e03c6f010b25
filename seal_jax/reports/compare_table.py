"""What `compare` found, for the terminal."""

from collections.abc import Iterator
from typing import Any

from seal_jax.loop import results, rewards
from seal_jax.reports import finished_run
from seal_jax.reports.formats import columns, form, interval, number
from seal_jax.stats.components import OverSeeds
from seal_jax.tasks.protocol import Metric


def table(found: dict[str, Any]) -> str:
    """The result of `compare.compare` as text.

    Shares and their differences are in per cent and points, log-likelihoods in nats.
    """
    names = {setting["label"]: f"R{i}" for i, setting in enumerate(found["settings"], start=1)}
    metrics = {metric["name"]: Metric(**metric) for metric in found["metrics"]}
    word, asked = (f"{of}s" for of in found["words"].values())
    about = f"{found['contexts']} {word}"
    if found["articles"] < found["contexts"]:
        about += f" of {found['articles']} groups"
    about += f", {found['questions']} {asked}"
    parts = [
        f"{about}, grader {found['grader']}",
        _legend(found, names),
        _config(found),
        _arms(found, names, metrics),
        *_families(found, names, metrics),
        _compute(found),
    ]
    return "\n\n".join(parts)


def _legend(found: dict[str, Any], names: dict[str, str]) -> str:
    lines = []
    for setting in found["settings"]:
        seeds = "seeds" if len(setting["seeds"]) > 1 else "seed"
        numbers = ", ".join(map(str, setting["seeds"]))
        lines.append(f"{names[setting['label']]}: {', '.join(setting['runs'])} ({seeds} {numbers})")
    return "\n".join(lines)


def _config(found: dict[str, Any]) -> str:
    lines = ["settings that differ:" if found["config_differences"] else "no setting differs"]
    for key, values in found["config_differences"].items():
        shown = (finished_run.shown(values, setting["label"]) for setting in found["settings"])
        lines.append(f"  {key}: " + " | ".join(shown))
    return "\n".join(lines)


def _arms(found: dict[str, Any], names: dict[str, str], metrics: dict[str, Metric]) -> str:
    counts = ("empty", "ungraded")
    labels = (metric.label for metric in metrics.values())
    rows = [["arm", "run", *labels, *counts, *results.COST_HEADS]]
    for name in dict.fromkeys(name for arms in found["arms"].values() for name in arms):
        for label, arms in found["arms"].items():
            if arm := arms.get(name):
                shown = (rewards.shown(arm[of], metric) for of, metric in metrics.items())
                cost = results.Cost(*arm["cost"]).cells() if arm["cost"] else [""] * 4
                counted = (str(arm[of]) for of in counts)
                rows.append([name, names[label], *shown, *counted, *cost])
    return columns(rows, words=2)


def _families(
    found: dict[str, Any], names: dict[str, str], metrics: dict[str, Metric]
) -> list[str]:
    several = found["paired_seeds"] is not None
    over = unit = drawn = f"{found['words']['context']}s"
    if found["articles"] < found["contexts"]:
        drawn = "groups"
    if several:
        over, unit = f"seeds, groups and {over}", "groups"
    texts = []
    for name, title in (("between", "between runs"), ("within", "within runs of one setting")):
        family = found[name]
        if not family["intervals"]:
            continue
        count = sum(of["interval"] is not None for of in family["intervals"])
        seeds = ""
        if several and name == "between":
            seeds = ", seeds paired" if found["paired_seeds"] else ", seeds drawn apart"
        lines = [f"differences {title}, {100 * found['level']:.4g}% intervals over {over}{seeds};"]
        if count:
            level = f"{family['corrected_level']:.2%}"
            lines.append(f"then corrected for {count} comparisons ({level} each):")
        for of in family["intervals"]:
            lines.append(_difference(of, names, metrics, found["words"]))
            drawn = (
                unit if found["articles"] < found["contexts"] else f"{found['words']['context']}s"
            )
            lines += [f"    {said}" for said in _chance(of, metrics[of["metric"]], drawn)]
        if count < len(family["intervals"]):
            lines.append(
                f"  -: no interval: fewer than two {unit} have a value in both, or all that have "
                "one differ by the same"
            )
        texts.append("\n".join(lines))
    return texts or ["nothing to compare: there are no two arms"]


def _difference(
    of: dict[str, Any], names: dict[str, str], metrics: dict[str, Metric], words: dict[str, str]
) -> str:
    metric = metrics[of["metric"]]
    second, first = (f"{names[of[s]['setting']]} {of[s]['arm']}" for s in ("second", "first"))
    alone, corrected = (
        interval(metric, of[key], sign=True, fine=True) or "[-]"
        for key in ("interval", "corrected_interval")
    )
    difference = number(metric, of["difference"], sign=True, fine=True)
    line = f"  {second} - {first}, {metric.label}: {difference} {alone}, corrected {corrected}"
    if of["left_out"]:
        what = words[metric.per]
        line += f" ({of['left_out']} {what}s left out: no value in one of the runs)"
    return line


def _chance(of: dict[str, Any], metric: Metric, unit: str) -> Iterator[str]:
    """What an unresolved difference may have overlooked, and where its chance comes from.

    Args:
      unit: what is drawn beside seeds.
    """

    def shown(least: float | None) -> str:
        points = form(metric)[3] == " %"
        return number(metric, least, unit=not points, fine=True) + " points" * points

    if of["interval"] and of["interval"][0] <= 0 <= of["interval"][1]:
        yield f"not resolved: a true difference of {shown(of['detectable'])} is found in 4 of 5"
    if not of["components"]:
        return
    parts = OverSeeds(**of["components"])
    names = {
        "seeds": "outer seeds",
        "contexts": unit,
        "edits": "self-edits",
        "questions": f"what is asked of {unit}",
        "rest": "what is left",
    }
    if shares := parts.shares():
        said = ", ".join(f"{names[name]} {share:.0%}" for name, share in shares.items())
        seeds, contexts = 2 * parts.seeds, 2 * parts.contexts
        least, more = min(
            (parts.detectable(seeds, parts.contexts), f"{seeds} seeds"),
            (parts.detectable(parts.seeds, contexts), f"{contexts} {unit}"),
        )
        yield f"variance: {said}; with {more} {shown(least)} is found"


def _compute(found: dict[str, Any]) -> str:
    lines = ["compute:"]
    for path, of in found["compute"].items():
        seconds = "seconds not recorded"
        if of["seconds"] is not None:
            last = " (of the process that finished the run)" if of["resumed"] else ""
            seconds = f"{of['seconds']:,.0f} s{last}"
        lines.append(
            f"  {path}: {of['inner_loops']} inner loops, {of['real_tokens']:,} tokens "
            f"({of['computed_tokens']:,} computed), {seconds}"
        )
    return "\n".join(lines)
