"""The section on the continual experiment: cures side by side, and a matrix of each."""

from typing import Any

from seal_jax.reports.html.arm_names import metric, number
from seal_jax.reports.html.markup import Html, join, section, table, tag
from seal_jax.reports.html.run_records import RunRecords

Record = dict[str, Any]

_NOTE = (
    "A row is the model after so many self-edits, each merged into its weights; a column is the "
    "passage of one self-edit. On the diagonal a passage has just been learned; below it later "
    "self-edits have followed. Row 0 is the untouched model. The ± is a standard error over "
    "sequences."
)


def continual(run: RunRecords) -> Html:
    """What a model that keeps learning still knows."""
    found = run.results.get("continual", {})
    # In the order in which the config names them: a file of results is sorted.
    named = [name for name in run.setting("continual.cures", ()) if name in found]
    cures = {name: found[name] for name in [*named, *found]}
    if not cures:
        return Html("")
    sequences = len(run.results.get("sequences", []))
    names = list(dict.fromkeys(name for cure in cures.values() for name in cure["matrices"]))
    blocks = [_summary(name, cures, run.results.get("bounds", {}), sequences) for name in names]
    for name in names:
        # One scale for all cures, so that a colour means the same in each.
        known = [
            value
            for cure in cures.values()
            for row in cure["matrices"][name]["matrix"]
            for value in row
            if value is not None
        ]
        scale = (min(known), max(known)) if known else (0.0, 0.0)
        blocks += [_matrix(cure, name, of["matrices"][name], scale) for cure, of in cures.items()]
    return section("continual", "Continual self-edits", *blocks, tag("p", _NOTE, class_="note"))


def _summary(name: str, cures: Record, bounds: Record, sequences: int) -> Html:
    """Every cure and bound in one metric."""
    rows: list[list[object]] = []
    for cure, of in cures.items():
        found = of["summary"][name]
        label = f"{cure} (keeps old data)" if of["keeps_old_data"] else cure
        rows.append(
            [
                label,
                *(number(name, found[key]) for key in ("start", "own", "end")),
                _share(found["retained_share"]),
                _share(found.get("share_over_uncured")),
                _share(found.get("own_gain_of_uncured")),
                _share(of["unrelated"] and of["unrelated"]["rise"]),
            ]
        )
    for bound, of in bounds.items():
        rise = _share(of["unrelated"] and of["unrelated"]["rise"])
        rows.append([f"bound: {bound}", "", "", number(name, of["end"][name]), "", "", "", rise])
    heads = [
        "cure",
        "start",
        "after own update",
        "end",
        "retained share",
        "share over uncured",
        "own gain of uncured",
        "rise of unrelated loss (nats a token)",
    ]
    caption = f"{metric(name).capitalize()}: means over passages and {sequences} sequences"
    return table(caption, heads, rows)


def _share(found: Record | None) -> object:
    """A figure with its interval."""
    if not found or found["value"] is None:
        return ""
    interval = found["interval"]
    beside = tag("small", f" [{', '.join(map(_two_digits, interval))}]") if interval else ""
    return join([_two_digits(found["value"]), beside])


def _two_digits(value: float) -> str:
    return f"{round(value, 2) + 0.0:.2f}".replace("-", "−")


def _matrix(cure: str, name: str, found: Record, scale: tuple[float, float]) -> Html:
    """One cure's matrix."""
    low, high = scale
    rows = []
    for r, (values, errors) in enumerate(
        zip(found["matrix"], found["standard_errors"], strict=True)
    ):
        cells: list[object] = [f"after edit {r}" if r else "before"]
        for value, error in zip(values, errors, strict=True):
            if value is None:
                cells.append("")
                continue
            share = (value - low) / (high - low) if high > low else 0.5
            beside = "" if error is None else tag("small", f" ±{number(name, error)}")
            cells.append(
                tag(
                    "span",
                    number(name, value),
                    beside,
                    class_="heat high" if share > 0.5 else "heat",
                    style=f"--share:{share:.3f}",
                )
            )
        rows.append(cells)
    unit = {"accuracy": "%", "gold_log_likelihood": "nats"}.get(name, "")
    heads = ["", *(f"passage {c + 1}" for c in range(len(found["matrix"][0])))]
    caption = f"{cure}: {metric(name)}{f' ({unit})' if unit else ''}"
    return table(caption, heads, rows, class_="matrix")
