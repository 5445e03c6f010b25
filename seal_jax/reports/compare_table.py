"""What `compare` found, for the terminal."""

import json
from typing import Any

# name, width of its column, format of a mean, and scale and digits of a difference
_METRICS = {
    "accuracy": ("accuracy", 9, ".1%", 100, 1),
    "solved": ("solved", 9, ".1%", 100, 1),
    "graded": ("graded", 9, ".3f", 1, 3),
    "gold_log_likelihood": ("gold log-lik.", 15, ".3f", 1, 3),
}


def table(found: dict[str, Any]) -> str:
    """The result of `compare.compare` as text.

    Accuracies, shares of solved tasks and their differences are in per cent and points,
    log-likelihoods in nats.
    """
    names = {setting["label"]: f"R{i}" for i, setting in enumerate(found["settings"], start=1)}
    about = (
        f"{found['contexts']} tasks"
        if found["task"] == "few_shot"
        else f"{found['contexts']} contexts of {found['articles']} articles, "
        f"{found['questions']} questions"
    )
    parts = [
        f"{about}, grader {_value(found['grader'])}",
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
        shown = [_value(values[label]) if label in values else "nothing" for label in labels]
        lines.append(f"  {key}: " + " | ".join(shown))
    return "\n".join(lines)


def _arms(found: dict[str, Any], names: dict[str, str]) -> str:
    every = dict.fromkeys(name for arms in found["arms"].values() for name in arms)
    width = max(map(len, every)) + 2
    counts = () if found["task"] == "few_shot" else (("empty", 7), ("ungraded", 10))
    heads = [_METRICS[metric] for metric in found["metrics"]]
    lines = [
        f"{'arm':<{width}}{'run':<5}"
        + "".join(f"{name:>{column}}" for name, column, *_ in heads)
        + "".join(f"{name:>{column}}" for name, column in counts)
    ]
    for name in every:
        for label, arms in found["arms"].items():
            if name not in arms:
                continue
            arm = arms[name]
            lines.append(
                f"{name:<{width}}{names[label]:<5}"
                + "".join(_mean(arm[metric], metric) for metric in found["metrics"])
                + "".join(f"{arm[name]:>{column}}" for name, column in counts)
            )
    return "\n".join(lines)


def _mean(value: float | None, metric: str) -> str:
    _, column, form, *_ = _METRICS[metric]
    return f"{'-' if value is None else format(value, form):>{column}}"


def _families(found: dict[str, Any], names: dict[str, str]) -> list[str]:
    several = found["paired_seeds"] is not None
    over = "tasks" if found["task"] == "few_shot" else "contexts"
    if several:
        over = "seeds and tasks" if found["task"] == "few_shot" else "seeds, articles and passages"
    texts = []
    for name, title in (("between", "between runs"), ("within", "within runs of one setting")):
        family = found[name]
        if not family["intervals"]:
            continue
        count = len(family["intervals"])
        seeds = ""
        if several and name == "between":
            seeds = ", seeds paired" if found["paired_seeds"] else ", seeds drawn apart"
        lines = [
            f"differences {title}, {found['level']:.0%} intervals over {over}{seeds};",
            f"then corrected for {count} comparisons ({family['corrected_level']:.2%} each):",
        ]
        lines += [_difference(of, names) for of in family["intervals"]]
        texts.append("\n".join(lines))
    return texts or ["nothing to compare: no arm has two contexts with a value in both runs"]


def _difference(of: dict[str, Any], names: dict[str, str]) -> str:
    second, first = of["second"], of["first"]
    metric, _, _, scale, digits = _METRICS[of["metric"]]

    def number(value: float) -> str:
        return f"{value * scale:+.{digits}f}"

    low, high = of["interval"]
    corrected = of["corrected_interval"]
    line = (
        f"  {names[second['setting']]} {second['arm']} - {names[first['setting']]} {first['arm']}, "
        f"{metric}: {number(of['difference'])} [{number(low)}, {number(high)}], "
        f"corrected [{number(corrected[0])}, {number(corrected[1])}]"
    )
    if of["left_out"]:
        line += f" ({of['left_out']} questions left out: no value in one of the runs)"
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


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
