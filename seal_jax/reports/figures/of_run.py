"""The pictures of one run, from the figures of its report: nothing is estimated here."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from seal_jax.loop import arms
from seal_jax.reports import words
from seal_jax.reports.figures import plots
from seal_jax.reports.figures.plots import Curves, Estimate, Row, Table
from seal_jax.reports.figures.sheet import Picture
from seal_jax.reports.formats import form, interval, metric, number
from seal_jax.reports.html import arms as of_arms
from seal_jax.reports.html import continual, learning
from seal_jax.reports.run_records import RunRecords
from seal_jax.reports.words import Gain
from seal_jax.tasks import directives
from seal_jax.tasks.protocol import Metric

_MEANS, _RL, _CONTROL = 0, 2, 1  # series
_COLOURS = {_CONTROL: "orange squares: controls", _RL: "green diamonds: after RL"}


def pictures(run: RunRecords) -> Iterator[tuple[str, list[Picture] | str]]:
    """By name, what there is of each kind: pictures, or why there are none."""
    kinds: dict[str, Callable[[RunRecords], list[Picture] | str]] = {
        "arms": _arms, "differences": _differences, "learning": _learning,
        "editors": _editors, "directives": _directives, "continual": _continual, "time": _time,
    }  # fmt: skip
    for name, of in kinds.items():
        yield name, of(run)


def series_of(names: Sequence[str]) -> int:
    """The colour of an arm, or of a difference of two: controls and what RL made stand out."""
    first, *others = names
    if any(control in first for control in arms.CONTROLS):
        return _CONTROL
    return (
        _RL if (others and others[0] != "base") or "after" in first or first == "policy" else _MEANS
    )


def about(run: RunRecords) -> str:
    """What was measured, on how much."""
    found, word = run.results, run.words
    contexts = len(found.get("contexts", ()))
    counts = [of.get("n_questions") for of in found.get("arms", {}).values()]
    said = [
        found.get("model", ""),
        f"{contexts} {word['context']}s" if contexts else "",
        f"{max(counts)} {word['question']}s" if counts and None not in counts else "",
        f"grader {found['grader']}" if "grader" in found else "",
        f"seed {found.get('seed', run.config.get('seed'))}",
    ]
    return f"{'; '.join(filter(None, said))}."


def certainty(run: RunRecords, every: Sequence[Row] = ()) -> str:
    """Which intervals stand there, and what the rows' colours mean."""
    over = f"{run.words['context']}s"
    intervals = f"95 % bootstrap intervals over {over}, not corrected for their number"
    hollow = any(
        one and one.value is not None and not one.ends for r in every for one in r.estimates
    )
    said = [
        f"{'Lines' if every else 'In brackets'}: {intervals}",
        "hollow dots have none (all values alike)" if hollow else "",
        colours(every),
    ]
    return f"{'; '.join(filter(None, said))}. One run, one seed: other seeds may differ."


def colours(every: Sequence[Row]) -> str:
    """What the colours of rows mean; "" of one colour alone."""
    found = {row.series for row in every}
    return "; ".join(of for series, of in _COLOURS.items() if series in found)


def estimated(of: str | Metric, value: float | None, ends: plots.Ends, **how: bool) -> Estimate:
    """A value with its interval, in the unit of its metric."""
    if value is None:
        return Estimate(value=None, text="–")
    scale = form(of)[1]
    return Estimate(
        value=scale * value,
        text=f"{number(of, value, **how)} {interval(of, ends, **how)}".strip().replace("-", "−"),
        ends=ends and [scale * edge for edge in ends],
    )


def gain_in(of: Metric) -> str:
    """A metric's name over differences: those of shares are in points."""
    return metric(of, unit=True).replace("(%)", "(points)")


def gained(arms_of: Mapping[str, Any], *, rl: bool) -> str:
    """The title over differences."""
    over = f" over the {arms_of['base']['label']}" if "base" in arms_of else ""
    return f"Gains{over}" + (", and RL's over no RL and over controls" if rl else "")


def said(every: Sequence[Row], panels: Sequence[str]) -> list[str]:
    """Rows in words."""
    return [
        f"{row.label}: "
        + ", ".join(
            f"{name} {one.text}" for name, one in zip(panels, row.estimates, strict=True) if one
        )
        for row in every
    ]


def of_rows(
    name: str, title: str, notes: Sequence[str], every: Sequence[Row], panels: Sequence[str],
    *, zero: bool = False, log: Sequence[int] = (),
) -> Picture:  # fmt: skip
    """A picture of intervals in rows."""
    height, paint = plots.rows(every, panels, zero=zero, log=log)
    figures = said(every, panels)
    return Picture(name=name, title=title, notes=notes, figures=figures, height=height, paint=paint)


def _arms(run: RunRecords) -> list[Picture] | str:
    found = run.results.get("arms")
    if not found:
        return "the run has no evaluated arms"
    names = [
        *(name for name in run.arms if name in found),
        *(n for n in found if n not in run.arms),
    ]
    every = [
        Row(
            label=run.arm_label(name),
            series=series_of([name]),
            estimates=[
                estimated(of, found[name].get(of.name),
                          of_arms.interval_of_mean(run, name, of.name))
                for of in run.metrics
            ],
        )
        for name in names
    ]  # fmt: skip
    panels = [metric(of, unit=True) for of in run.metrics]
    notes = [
        f"{about(run)} {certainty(run, every)}",
        "Intervals of means do not say whether two arms differ: the differences do.",
    ]
    return [of_rows("arms", f"What each arm knows ({run.name})", notes, every, panels)]


def _differences(run: RunRecords) -> list[Picture] | str:
    by_metric = words.compared(run.results)
    if not by_metric:
        return "the run compares nothing"
    labels = list(dict.fromkeys(label for of in by_metric.values() for label, _ in of))
    every = []
    for label in labels:
        gains: list[Gain | None] = [dict(of).get(label) for of in by_metric.values()]
        arms_of = next(gain.arms for gain in gains if gain)
        estimates = [
            gain and estimated(gain.metric, gain.difference, gain.ends, sign=True) for gain in gains
        ]
        every.append(Row(label=label, series=series_of(arms_of or [""]), estimates=estimates))
    if not any(one and one.value is not None for row in every for one in row.estimates):
        return "no difference has a value"
    panels = [gain_in(of[0][1].metric) for of in by_metric.values()]
    title = gained(run.results.get("arms", {}), rl=any(of.startswith("RL:") for of in labels))
    notes = [f"{about(run)} {certainty(run, every)} Right of zero: better."]
    return [of_rows("differences", title, notes, every, panels, zero=True)]


def _learning(run: RunRecords) -> list[Picture] | str:
    rounds, losses = learning.rounds(run), learning.losses(run).get("", {})
    if not rounds:
        return "the run has no rounds of ReST-EM"
    unit = run.metric(run.settings.get("reward.kind", "reward"))
    scale = form(unit)[1]
    lines = {"mean of all self-edits": "mean", "of the kept ones": "mean_kept",
             "of the policy, unadapted": "unadapted"}  # fmt: skip
    series = {
        name: [(n, None if of[key] is None else scale * of[key]) for n, of in rounds.items()]
        for name, key in lines.items()
    }
    fresh = len({tuple(of["contexts"]) for of in rounds.values()}) > 1
    title = f"reward: {metric(unit, unit=True)}"
    panels = [Curves(title=title, across="round", series=series, loose=fresh)]
    if any(losses.values()):
        unit_of_loss = learning.loss_unit(run)
        panels.append(Curves(title=f"M-step loss, {unit_of_loss}", across="step", series=losses))
    height, paint = plots.curves(panels)
    figures = [
        f"round {n}: " + ", ".join(f"{name} {number(unit, of[key])}" for name, key in lines.items())
        for n, of in rounds.items()
    ]
    count = ", ".join(str(len(of["rewards"])) for of in rounds.values())
    notes = [
        f"{run.results.get('model', '')}; {count} self-edits with a reward by round; seed "
        f"{run.config.get('seed')}. Means, without intervals. The kept ones were chosen by this "
        "reward, so they lie above the mean whether or not anything is learned."
    ]
    if fresh:
        notes.append(
            "Each round has its own contexts: a change between rounds is not the effect of "
            "training. The arms are."
        )
    title = f"Training: rewards by round, and the M-step's loss ({run.name})"
    return [Picture(name="learning", title=title, notes=notes, figures=figures, height=height,
                    paint=paint)]  # fmt: skip


_EDITORS = {
    "": "nothing", "base": "base model's self-edit", "policy": "RL's self-edit",
    "random": "self-edit of random selection", "longest": "self-edit of the longest",
}  # fmt: skip
_LEARNERS = {
    "base": "base model\nlearns", "policy": "RL's policy\nlearns",
    "random": "random selection's\npolicy learns", "longest": "longest selection's\npolicy learns",
}  # fmt: skip


def _editors(run: RunRecords) -> list[Picture] | str:
    found = run.results.get("arms", {})
    by_pair = {
        (arm.editor, arm.learner): name
        for name, arm in run.arms.items()
        if name in found and not arm.source and not arm.head and arm.view != "reading"
    }
    editors = [of for of in _EDITORS if any(editor == of for editor, _ in by_pair)]
    learners = [of for of in _LEARNERS if any(learner == of for _, learner in by_pair)]
    if len(editors) < 2 or len(learners) < 2:
        return "it takes arms of two editors and of two learners (evaluation.arms)"
    every, figures = [], []
    for of in run.metrics:
        cells: list[list[tuple[float | None, str] | None]] = []
        for editor in editors:
            cells.append([])
            for learner in learners:
                name = by_pair.get((editor, learner))
                cells[-1].append(None)
                if name is not None:
                    ends = of_arms.interval_of_mean(run, name, of.name)
                    one = estimated(of, found[name].get(of.name), ends)
                    cells[-1][-1] = (one.value, one.text.replace(" [", "\n["))
                    who = _LEARNERS[learner].replace("\n", " ")
                    figures.append(f"{_EDITORS[editor]}, {who}: {metric(of)} {one.text}")
        rows = [_EDITORS[of] for of in editors]
        columns = [_LEARNERS[of] for of in learners]
        every.append(Table(title=metric(of, unit=True), rows=rows, columns=columns, cells=cells))
    height, paint = plots.tables(every, common=False)
    notes = [
        f"{about(run)} {certainty(run)}",
        "The stronger a colour, the higher the mean in its table. A dash: an arm that was not run.",
    ]
    title = "Who wrote the self-edit, and who learns it"
    return [Picture(name="editors", title=title, notes=notes, figures=figures, height=height,
                    paint=paint)]  # fmt: skip


def _directives(run: RunRecords) -> list[Picture] | str:
    rounds = enumerate(run.results.get("rounds", []), start=1)
    found = {f"round {n}, training": of["directives"] for n, of in rounds if of.get("directives")}
    for name, of in run.results.get("directives", {}).items():
        editor = name.removeprefix("edits ")
        label = f"{_EDITORS.get(editor, editor)}, held out"
        found[label if editor != name else run.arm_label(name)] = of
    found = {name: of for name, of in found.items() if of["valid"]}
    names = [name for name in directives.NAMES if any(name in of for of in found.values())]
    if not names:
        return "its self-edits give no directives (edits.directives)"
    every = []
    for label, of in found.items():
        estimates = []
        for name in names:
            quartiles = of.get(name)
            text = quartiles and f"{quartiles[1]:g}   ({quartiles[0]:g} to {quartiles[2]:g})"
            value, ends = (quartiles[1], quartiles[::2]) if quartiles else (None, None)
            estimates.append(Estimate(value=value, text=text or "–", ends=ends))
        counts = f"{of['valid']} of {of['valid'] + of['invalid']} valid, {of['distinct']} distinct"
        series = _CONTROL if "random" in label else _RL if "RL" in label else _MEANS
        every.append(Row(label=f"{label} ({counts})", series=series, estimates=estimates))
    panels = [name.replace("_", " ") for name in names]
    notes = [
        f"{about(run)} Dots: medians; lines: from the first to the third quartile of self-edits, "
        "not intervals of an estimate. Before RL: the base model's; after: RL's."
    ]
    title = "What self-edits say of their own update, before and after RL"
    log = [n for n, name in enumerate(names) if name == "learning_rate"]
    return [of_rows("directives", title, notes, every, panels, log=log)]


def _continual(run: RunRecords) -> list[Picture] | str:
    found = continual.continual(run)
    if not found:
        return "it is no continual run"
    every = []
    matrices = run.results["continual"]
    names = [name for name in run.settings.get("continual.mitigations", ()) if name in matrices]
    names = [*names, *(name for name in matrices if name not in names)]
    for key in dict.fromkeys(key for of in matrices.values() for key in of["matrices"]):
        of = run.metric(key)
        shown, figures = [], []
        for name in names:
            matrix = matrices[name]["matrices"][key]["matrix"]
            rows = [f"after edit {n}" if n else "before" for n in range(len(matrix))]
            columns = [str(n) for n in range(1, len(matrix[0]) + 1)]
            cells = [
                [None if v is None else (v, number(of, v).replace("-", "−")) for v in row]
                for row in matrix
            ]
            shown.append(Table(title=name, rows=rows, columns=columns, cells=cells))
            figures.append(f"{name}: " + ", ".join(
                f"{rows[n]} {' '.join(cell[1] if cell else '–' for cell in row)}"
                for n, row in enumerate(cells)
            ))  # fmt: skip
        height, paint = plots.tables(shown, common=True, step=24, across="passage")
        notes = [
            f"{run.results.get('model', '')}; means of {found['sequences']} sequences, without "
            f"intervals; seed {run.config.get('seed')}. A colour means the same in every table: "
            "the stronger, the better. Below the diagonal: what is still known."
        ]
        title = f"Known after each self-edit: {metric(of, unit=True)}"
        every.append(Picture(name=f"continual-{key.replace('_', '-')}", title=title, notes=notes,
                             figures=figures, height=height, paint=paint))  # fmt: skip
    return every


_PARTS = ("sample", "adapt", "pretraining", "answers", "M-step")


def _time(run: RunRecords) -> list[Picture] | str:
    timed: dict[str, dict[str, float]] = {}
    for name, seconds in run.timing["seconds"].items():
        stage, separator, part = name.partition(": ")
        if separator:
            timed.setdefault(stage, {})[part] = seconds
    found = {}
    # A file of times is sorted by name.
    for stage in dict.fromkeys([*(name for name in run.stages if name in timed), *timed]):
        arm, own = stage.removeprefix("eval "), timed[stage]
        label = run.arm_label(arm) if arm != stage and arm in run.arms else stage
        order = dict.fromkeys([*(part for part in _PARTS if part in own), *own])
        found[label] = {part: own[part] for part in order}
    if not found:
        return "it has no timing.json with stages"
    height, paint = plots.bars(found, "seconds")
    device = run.results.get("versions", {}).get("device", "a device that is not recorded")
    loops, tokens = (sum(of) for of in zip(*(
        (len(of.trials), of.real_tokens) for of in run.stages.values()
    ), strict=True)) if run.stages else (0, 0)  # fmt: skip
    notes = [
        f"Wall-clock seconds on {device}, of everything the process did meanwhile, compilation "
        f"included; one run. {loops:,} inner loops, {tokens:,} tokens trained on."
    ]
    if run.timing.get("resumed"):
        notes.append("The run was continued: these are the seconds of its last process only.")
    figures = [
        f"{stage}: " + ", ".join(f"{part} {seconds:,.0f}" for part, seconds in of.items())
        for stage, of in found.items()
    ]
    title = f"Where the time of {run.name} went, in seconds by stage"
    return [Picture(name="time", title=title, notes=notes, figures=figures, height=height,
                    paint=paint)]  # fmt: skip
