"""What `compare` found, for the terminal."""

from typing import Any

from seal_jax.loop import rewards
from seal_jax.reports import finished_run
from seal_jax.tasks.protocol import Metric


def table(found: dict[str, Any]) -> str:
    """The result of `compare.compare` as text.

    Shares and their differences are in per cent and points, log-likelihoods in nats.
    """
    names = {setting["label"]: f"R{i}" for i, setting in enumerate(found["settings"], start=1)}
    word, asked = (f"{of}s" for of in found["words"].values())
    about = f"{found['contexts']} {word}"
    if found["articles"] < found["contexts"]:
        about += f" of {found['articles']} groups"
    about += f", {found['questions']} {asked}"
    parts = [
        f"{about}, grader {found['grader']}",
        _legend(found, names),
        _config(found),
        _arms(found, names),
        *_families(found, names),
        _compute(found),
    ]
    return "\n\n".join(parts)


def _legend(found: dict[str, Any], names: dict[str, str]) -> str:
    lines = []
    for setting in found["settings"]:
        seeds = ", ".join(str(seed) for seed in setting["seeds"])
        lines.append(
            f"{names[setting['label']]}: {', '.join(setting['runs'])} "
            f"(seed{'s' if len(setting['seeds']) > 1 else ''} {seeds})"
        )
    return "\n".join(lines)


def _config(found: dict[str, Any]) -> str:
    labels = [setting["label"] for setting in found["settings"]]
    differences = found["config_differences"]
    if not differences:
        return "no setting differs"
    lines = ["settings that differ:"]
    for key, values in differences.items():
        shown = (finished_run.shown(values, label) for label in labels)
        lines.append(f"  {key}: " + " | ".join(shown))
    return "\n".join(lines)


def _arms(found: dict[str, Any], names: dict[str, str]) -> str:
    every = dict.fromkeys(name for arms in found["arms"].values() for name in arms)
    width = max(map(len, every)) + 2
    counts = (("empty", 7), ("ungraded", 10))
    metrics = [Metric(**metric) for metric in found["metrics"]]
    lines = [
        f"{'arm':<{width}}{'run':<5}"
        + "".join(f"{metric.label:>{_column(metric)}}" for metric in metrics)
        + "".join(f"{name:>{column}}" for name, column in counts)
    ]
    for name in every:
        for label, arms in found["arms"].items():
            if name not in arms:
                continue
            arm = arms[name]
            lines.append(
                f"{name:<{width}}{names[label]:<5}"
                + "".join(
                    f"{rewards.shown(arm[metric.name], metric):>{_column(metric)}}"
                    for metric in metrics
                )
                + "".join(f"{arm[name]:>{column}}" for name, column in counts)
            )
    return "\n".join(lines)


def _column(metric: Metric) -> int:
    return max(len(metric.label), 7) + 3


def _families(found: dict[str, Any], names: dict[str, str]) -> list[str]:
    several = found["paired_seeds"] is not None
    metrics = {metric["name"]: Metric(**metric) for metric in found["metrics"]}
    over = unit = f"{found['words']['context']}s"
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
        lines = [f"differences {title}, {found['level']:.0%} intervals over {over}{seeds};"]
        if count:
            level = f"{family['corrected_level']:.2%}"
            lines.append(f"then corrected for {count} comparisons ({level} each):")
        lines += [_difference(of, names, metrics, found["words"]) for of in family["intervals"]]
        if count < len(family["intervals"]):
            lines.append(f"  -: too few {unit} have a value in both; an interval needs two")
        texts.append("\n".join(lines))
    return texts or ["nothing to compare: there are no two arms"]


def _difference(
    of: dict[str, Any], names: dict[str, str], metrics: dict[str, Metric], words: dict[str, str]
) -> str:
    second, first = of["second"], of["first"]
    metric = metrics[of["metric"]]
    scale, digits = (100, 1) if metric.share else (1, 3)

    def number(value: float | None) -> str:
        return "-" if value is None else f"{value * scale:+.{digits}f}"

    def ends(interval: list[float] | None) -> str:
        return f"[{', '.join(map(number, interval))}]" if interval else "[-]"

    line = (
        f"  {names[second['setting']]} {second['arm']} - {names[first['setting']]} {first['arm']}, "
        f"{metric.label}: {number(of['difference'])} {ends(of['interval'])}, "
        f"corrected {ends(of['corrected_interval'])}"
    )
    if of["left_out"]:
        what = words[metric.per]
        line += f" ({of['left_out']} {what}s left out: no value in one of the runs)"
    return line


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
