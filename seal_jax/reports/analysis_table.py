"""The report of `analyze` as text for the terminal."""

from collections.abc import Sequence
from typing import Any

Record = dict[str, Any]

_UNITS = {
    "accuracy": (100, 1, " %"),
    "solved": (100, 1, " %"),
    "gold_log_likelihood": (1, 3, " nats"),
    "log_likelihood_gain": (1, 3, " nats"),
    "mix": (1, 3, ""),
    "length": (1, 1, " characters"),
}
_FORMS = {
    "other_replicates": "other seeds",
    "other_questions": "other questions",
    "other_both": "other seeds and questions",
}
_RELIABILITIES = {
    "within_contexts": "within contexts",
    "other_replicates": "seeds in common",
    "other_questions": "other questions",
    "other_both": "other questions and seeds",
    "pooled_over_contexts": "POOLED",
}
_SHOWN = ("accuracy", "solved", "graded", "gold_log_likelihood", "reward")  # what is worth gaining


def table(report: Record) -> str:
    """The report of `analyze.analyze`, as tables with a line of what they say."""
    blocks = [f"note: {note}" for note in report["notes"]]
    for stage in report["stages"]:
        blocks += _stage(stage)
    return "\n\n".join(blocks)


def _stage(stage: Record) -> list[str]:
    lines = [
        f"{stage['stage']}: {stage['contexts']} contexts, {stage['self_edits']} self-edits, "
        f"replicates: {stage['replicates']}, questions: {stage['questions']}"
    ]
    if "answers" in stage:
        apart = ", ".join(
            f"{stage[key]} {key.removesuffix('_answers')}"
            for key in ("empty_answers", "ungraded_answers")
            if key in stage
        )
        lines.append(f"{stage['answers']} answers: {apart}")
    lines += [
        f"{n} self-edits without a reward: {why}" for why, n in stage["without_reward"].items()
    ]
    lines += _cost(stage["cost"])
    lines += [f"note: {note}" for note in stage["notes"]]
    blocks = ["\n".join(lines), _reliability(stage)]
    blocks += [_agreement(stage["agreement"])] if stage["agreement"] else []
    return [*blocks, _gains(stage)]


def _cost(cost: Record) -> list[str]:
    lines = []
    if "inner_loop_tokens" in cost:
        lines.append(
            f"inner loops: {cost['inner_loop_tokens']:,} tokens "
            f"of {cost['inner_loop_tokens_computed']:,} computed"
        )
    if "seconds" in cost:
        parts = ", ".join(f"{name} {value:.0f}" for name, value in cost["seconds"].items())
        lines.append(f"seconds, in the process that finished the run: {parts}")
    return lines


def _reliability(stage: Record) -> str:
    rows = [["reward", "mean", "unadapted", *_RELIABILITIES.values()]]
    for name, reward in stage["rewards"].items():
        row = [name, _value(name, reward["mean"]), _value(name, reward["unadapted"])]
        found = reward["reliability"]
        if found is None:
            rows.append([*row, f"not applicable ({reward['not_applicable']})"])
            continue
        row += [_interval(found[form]) for form in _RELIABILITIES if form != "pooled_over_contexts"]
        rows.append([*row, _plain(found["pooled_over_contexts"])])
    replicates = "1 replicate" if stage["replicates"] == 1 else f"{stage['replicates']} replicates"
    return (
        f"Reliability of the mean of {replicates}, 0 (noise) to 1 (exact); 95 % intervals over "
        "contexts.\n"
        "Within contexts, unless it says POOLED: pooled over contexts it says mostly that passages "
        "differ.\n" + _columns(rows)
    )


def _agreement(pairs: Sequence[Record]) -> str:
    rows = [["rewards", "Pearson", "Spearman", "without noise", "same best", "by chance"]]
    for pair in pairs:
        kinds = ("pearson", "spearman", "corrected_for_attenuation", "same_best")
        rows.append(
            [
                " / ".join(pair["rewards"]),
                *(_interval(pair[kind]) for kind in kinds),
                _plain(pair["same_best_by_chance"]),
            ]
        )
    return (
        "Agreement of rewards within contexts. Without noise: Pearson's, corrected for the "
        "attenuation by inner-loop seeds.\n" + _columns(rows)
    )


def _gains(stage: Record) -> str:
    forms = [*_FORMS, "in_sample"]
    heads = [*(f"on {name}" for name in _FORMS.values()), "IN SAMPLE"]
    rows = [["chosen by", "measured", "mean of all", *heads]]
    for row in stage["best_of_m"]:
        measured = row["measured"]
        if measured not in _SHOWN:
            continue
        means = [row[form]["mean"] for form in forms if row[form]]
        cells = [row["chosen_by"], measured, _value(measured, means[0] if means else None)]
        for form in forms:
            gain = row[form] and row[form]["gain"]
            cells.append(
                f"{_bare(measured, row[form]['chosen'])} ({_interval(gain, measured)})"
                if gain
                else "-"
            )
        rows.append(cells)
    return (
        "Best of M: what the self-edit that a reward chooses scores on what it was not chosen by, "
        "and (gain over the mean of all).\nIN SAMPLE it is measured on the very answers that chose "
        "it: no estimate of a gain.\n" + _columns(rows)
    )


def _value(name: str, value: float | None) -> str:
    return "-" if value is None else _bare(name, value) + _UNITS.get(name, (1, 3, ""))[2]


def _bare(name: str, value: float) -> str:
    scale, digits, _ = _UNITS.get(name, (1, 3, ""))
    return f"{scale * value:.{digits}f}"


def _plain(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _interval(estimate: Record | None, unit: str = "") -> str:
    """Two digits, or those of the reward `unit` with a sign."""
    if estimate is None:
        return "-"

    def show(value: float) -> str:
        if not unit:
            return f"{value:.2f}"
        return f"+{_bare(unit, value)}" if value >= 0 else _bare(unit, value)

    if estimate["low"] is None:
        return show(estimate["value"])
    return f"{show(estimate['value'])} [{show(estimate['low'])}, {show(estimate['high'])}]"


def _columns(rows: Sequence[Sequence[str]]) -> str:
    """Rows as columns two spaces apart; the last cell of a shorter row runs on to the right."""
    count = max(map(len, rows))
    inner = [row if len(row) == count else row[:-1] for row in rows]
    widths = [max(len(row[i]) for row in inner if i < len(row)) for i in range(count)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)).rstrip()
        for row in rows
    )
