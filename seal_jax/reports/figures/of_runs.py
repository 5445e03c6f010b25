"""The pictures of several runs, from what `compare` found."""

from collections.abc import Sequence
from typing import Any

from seal_jax.reports import finished_run, words
from seal_jax.reports.figures import plots
from seal_jax.reports.figures.of_run import colours, estimated, gain_in, gained, of_rows, series_of
from seal_jax.reports.figures.plots import Curves, Estimate, Row
from seal_jax.reports.figures.sheet import Picture
from seal_jax.reports.formats import form, metric, number
from seal_jax.tasks.protocol import Metric

Found = dict[str, Any]


def pictures(found: Found) -> list[tuple[str, list[Picture] | str]]:
    """By name, what there is of each kind: pictures, or why there are none.

    Args:
      found: the result of `compare.compare`.
    """
    metrics = [Metric(**of) for of in found["metrics"]]
    return [("seeds", _seeds(found, metrics)), ("tokens", _tokens(found, metrics))]


def _seeds(found: Found, metrics: Sequence[Metric]) -> list[Picture] | str:
    """The arms over the base model and RL over its controls, of one setting with several seeds."""
    settings = [of for of in found["settings"] if len(of["runs"]) > 1]
    if not settings:
        return "it takes several seeds of one setting: compare RUN,RUN"
    every = []
    for n, setting in enumerate(settings, start=1):
        own = found["arms"][setting["label"]]
        labels = _labels(setting)
        pairs = [(arm, "base") for arm in own if arm != "base" and "base" in own]
        pairs += [of for of in words.compared_rl({"arms": own}) if "base" not in of]
        rows = []
        for second, first in pairs:
            over = labels.get(second, second)
            label = over if first == "base" else f"RL: {over} − {labels.get(first, first)}"
            estimates = [_difference(found, setting["label"], second, first, of) for of in metrics]
            rows.append(Row(label=label, series=series_of([second, first]), estimates=estimates))
        panels = [gain_in(of) for of in metrics]
        articles = found["articles"] if found["articles"] < found["contexts"] else 0
        word = found["words"]["context"]
        model = finished_run.read_run(setting["runs"][0]).results.get("model", "")
        notes = [
            f"{model}; {len(setting['runs'])} seeds ({', '.join(map(str, setting['seeds']))}), "
            f"each a run of its own on the same {found['contexts']} {word}s"
            + (f" of {articles} groups" if articles else "")
            + f", {found['questions']} {found['words']['question']}s; grader {found['grader']}.",
            f"Thick lines: {_percent(found['level'])} bootstrap intervals over seeds and {word}s, "
            f"not corrected; thin: corrected for all {len(found['within']['intervals'])} "
            f"comparisons of these runs. Small strokes: single seeds; {colours(rows)}. Right of "
            "zero: better.",
        ]
        over = {name: {"label": label} for name, label in labels.items()}
        title = gained(over, rl=any(first != "base" for _, first in pairs))
        name = f"seeds-{n}" if len(settings) > 1 else "seeds"
        every.append(of_rows(name, title, notes, rows, panels, zero=True))
    return every


def _labels(setting: Found) -> dict[str, str]:
    """What the arms of a setting are called."""
    arms = finished_run.read_run(setting["runs"][0]).results["arms"]
    return {name: of["label"] for name, of in arms.items()}


def _difference(found: Found, label: str, second: str, first: str, of: Metric) -> Estimate:
    """What `compare` says of two arms of one setting, in that direction."""
    own = found["arms"][label]
    for one in found["within"]["intervals"]:
        names = (one["second"]["arm"], one["first"]["arm"])
        if one["second"]["setting"] != label or one["metric"] != of.name or {*names} != {
            second, first,
        }:  # fmt: skip
            continue
        turned = names[0] == first
        value = one["difference"]
        shown = estimated(
            of,
            -value if turned and value is not None else value,
            _turned(one["interval"], turned),
            sign=True,
        )
        scale = form(of)[1]
        wide = _turned(one["corrected_interval"], turned)
        seeds = zip(*(own[arm].get(f"{of.name}_of_seeds", ()) for arm in (second, first)),
                    strict=True)  # fmt: skip
        return Estimate(
            value=shown.value,
            text=shown.text,
            ends=shown.ends,
            wide=wide and [scale * edge for edge in wide],
            parts=[scale * (a - b) for a, b in seeds if a is not None and b is not None],
        )
    return Estimate(value=None, text="–")


def _turned(ends: plots.Ends, turned: bool) -> plots.Ends:
    """An interval of a difference, or of the opposite one."""
    return [-edge for edge in reversed(ends)] if ends and turned else ends


def _tokens(found: Found, metrics: Sequence[Metric]) -> list[Picture] | str:
    """What arms gain over the base model by the tokens that they train on, over single runs."""
    runs = [finished_run.read_run(of["runs"][0]) for of in found["settings"]]
    if len(runs) < 2 or any(len(of["runs"]) > 1 for of in found["settings"]):
        return "it takes two single runs or more that train on more and more tokens (a sweep)"
    names = [
        name
        for name in runs[0].arms
        if all(name in run.costs and {"base", name} <= {*run.arms} for run in runs)
        and len({run.costs[name].tokens for run in runs}) == len(runs)
    ]
    if not names:
        return "no arm trains on other numbers of tokens in each of the runs"
    panels, figures = [], []
    for of in metrics:
        series, ends = {}, {}
        for name in names:
            label = runs[0].results["arms"][name]["label"]
            rows = []
            for run in sorted(runs, key=lambda run: run.costs[name].tokens):
                own = [one for one in words.gains(run.results, name, "base") if one.metric == of]
                if not own:
                    continue
                one = estimated(of, own[0].difference, own[0].ends, sign=True)
                rows.append((run.costs[name].tokens, one))
                figures.append(f"{label}, {rows[-1][0]:,} tokens: {metric(of)} {one.text}")
            series[label] = [(tokens, one.value) for tokens, one in rows]
            ends[label] = [one.ends for _, one in rows]
        if any(series.values()):
            title = gain_in(of)
            panels.append(Curves(title=title, across="tokens trained on", series=series, ends=ends,
                                 zero=True, log=True))  # fmt: skip
    height, paint = plots.curves(panels)
    notes = [
        f"{found['contexts']} {found['words']['context']}s, {found['questions']} "
        f"{found['words']['question']}s; grader {found['grader']}. Each point is a run of its own. "
        "Lines upright: 95 % bootstrap intervals of one run, not corrected; zero is the base model."
    ]
    title = "What arms gain over the base model by the tokens they train on"
    return [Picture(name="tokens", title=title, notes=notes, figures=figures, height=height,
                    paint=paint)]  # fmt: skip


def _percent(level: float) -> str:
    return f"{number('accuracy', level, unit=True).replace('.0 ', ' ')}"
