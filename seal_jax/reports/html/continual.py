"""The continual experiment: mitigations side by side, and a matrix of each."""

from typing import Any

from seal_jax.reports.formats import interval, metric, number
from seal_jax.reports.run_records import Record, RunRecords
from seal_jax.tasks.protocol import Metric


def continual(run: RunRecords) -> Record | None:
    """What a model that keeps learning still knows; None where the run has no such figures.

    Returns:
      {"title", "sequences" (how many), "metrics" (each with its name and the rows that sum up
      mitigations and bounds), "matrices" ((caption, rows) of each mitigation in each), "passages"
      (their heads)}.
    """
    found, bounds = run.results.get("continual"), run.results.get("bounds", {})
    if not found:
        return None
    # In the order in which the config names them: a file of results is sorted.
    named = [name for name in run.settings.get("continual.mitigations", ()) if name in found]
    mitigations = {name: found[name] for name in [*named, *found]}
    metrics, matrices = [], []
    for key in dict.fromkeys(key for of in mitigations.values() for key in of["matrices"]):
        name = run.metric(key)
        # One scale for all mitigations, so that a colour means the same in each.
        rows = [row for of in mitigations.values() for row in of["matrices"][key]["matrix"]]
        known = [value for row in rows for value in row if value is not None] or [0.0]
        over = (min(known), max(known))
        summary = [_summary(name, own, of["summary"][key], of) for own, of in mitigations.items()]
        for bound, of in bounds.items():
            end, rise = number(name, of["end"][key]), _share(of["unrelated"], "rise")
            summary.append([f"bound: {bound}", "", "", end, "", "", "", rise])
        metrics.append({"name": metric(name), "summary": summary})
        matrices += [
            (f"{mitigation}: {metric(name, unit=True)}", _matrix(name, of["matrices"][key], over))
            for mitigation, of in mitigations.items()
        ]
    places = range(1, len(matrices[0][1][0])) if matrices else ()
    passages = ["", *(f"passage {place}" for place in places)]
    return {
        "title": "Continual self-edits", "sequences": len(run.results.get("sequences", [])),
        "metrics": metrics, "matrices": matrices, "passages": passages,
    }  # fmt: skip


def _summary(name: str | Metric, mitigation: str, found: Record, of: Record) -> list[Any]:
    """A mitigation in one metric."""
    shares = ("retained_share", "share_over_unmitigated", "own_gain_of_unmitigated")
    return [
        f"{mitigation} (keeps old data)" if of["keeps_old_data"] else mitigation,
        *(number(name, found[key]) for key in ("start", "own", "end")),
        *(_share(found, key) for key in shares),
        _share(of["unrelated"], "rise"),
    ]


def _share(found: Record | None, key: str) -> Any:
    """A figure with its interval; "" where there is none."""
    of = found and found.get(key)
    if not of or of["value"] is None:
        return ""
    return {"text": number("share", of["value"]), "beside": interval("share", of["interval"])}


def _matrix(name: str | Metric, found: Record, over: tuple[float, float]) -> list[list[Any]]:
    """One mitigation's matrix."""
    rows: list[list[Any]] = []
    for values, errors in zip(found["matrix"], found["standard_errors"], strict=True):
        rows.append([f"after edit {len(rows)}" if rows else "before"])
        for value, error in zip(values, errors, strict=True):
            if value is None:
                rows[-1].append("")
                continue
            share = (value - over[0]) / (over[1] - over[0]) if over[1] > over[0] else 0.5
            beside = "" if error is None else f"±{number(name, error)}"
            rows[-1].append({"text": number(name, value), "beside": beside, "share": share})
    return rows
