"""The report of `analyze` as text for the terminal."""

from collections.abc import Callable, Sequence
from typing import Any

from seal_jax.reports.formats import columns, estimate, interval, number
from seal_jax.tasks.protocol import Metric

Record = dict[str, Any]
Known = Callable[[str], str | Metric]
Label = Callable[[str], str]
_FULL = {"unit": True, "fine": True}

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
}
_DIVERSITY = {"distinct": "distinct pairs", "overlap": "overlap"}
_SHOWN = ("accuracy", "solved", "graded", "gold_log_likelihood", "reward")  # what is worth gaining


def table(report: Record) -> str:
    """The report of `analyze.analyze`, as tables with a line of what they say."""
    blocks = [f"note: {note}" for note in report["notes"]]
    for stage in report["stages"]:
        blocks += _stage(stage)
    blocks += _diversity(report["stages"])
    return "\n\n".join(blocks)


def _diversity(stages: Sequence[Record]) -> list[str]:
    """How much the self-edits of a context differ, stage by stage; nothing where none has two."""
    rows = [
        [stage["stage"], f"{of['words']:.0f}", *(estimate("share", of[key]) for key in _DIVERSITY)]
        for stage in stages
        if (of := stage["diversity"])
    ]
    if not rows:
        return []
    return [
        "Diversity of the self-edits of a context: the share of their pairs of words that are "
        "different ones, and the share of one's that another has as well.\nOf as many self-edits, "
        "about as long, more is told apart by a larger first and a smaller second figure.\n"
        + columns([["stage", "words", *_DIVERSITY.values()], *rows])
    ]


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
    replicates = "1 replicate" if stage["replicates"] == 1 else f"{stage['replicates']} replicates"
    return [
        "\n".join(lines),
        f"Reliability of the mean of {replicates}, 0 (noise) to 1 (exact); 95 % intervals over "
        "contexts.\n"
        "Within contexts, unless it says POOLED: pooled over contexts it says mostly that passages "
        "differ. Not estimable: the noise is so large that the figure would be below -1.\n"
        + columns(reliabilities(stage)),
        *([_agreement(stage["agreement"])] if stage["agreement"] else []),
        "Best of M: what the self-edit that a reward chooses scores on what it was not chosen by, "
        "and (gain over the mean of all).\nIN SAMPLE it is measured on the very answers that chose "
        "it: no estimate of a gain.\n" + columns(gains(stage)),
    ]


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


def reliabilities(stage: Record, known: Known = str, label: Label = str) -> list[list[str]]:
    """A head, and a row for each reward: its mean, and how far it would choose the same again.

    Args:
      known: the metric of a reward's name, where there is one, or the name.
      label: what to call it.
    """
    rows = [["reward", "mean", "unadapted", *_RELIABILITIES.values(), "POOLED"]]
    for name, reward in stage["rewards"].items():
        of = known(name)
        row = [label(name), *(number(of, reward[key], **_FULL) for key in ("mean", "unadapted"))]
        if found := reward["reliability"]:
            row += [_reliability(found[form]) for form in _RELIABILITIES]
            pooled = found["pooled_over_contexts"]
            row.append(_reliability(None if pooled is None else {"value": pooled}))
        else:
            row.append(f"not applicable ({reward['not_applicable']})")
        rows.append(row)
    return rows


def _reliability(found: Record | None) -> str:
    """A reliability with its interval; what lies below -1 says nothing but that there is noise."""
    if found is None:
        return "-"
    value, low, high = found["value"], found.get("low"), found.get("high")
    if value < -1:
        return "not estimable"
    if low is not None and low < -1:
        return f"{number('share', value)} [< -1, {number('share', high)}]"
    return f"{number('share', value)} {interval('share', (low, high))}".strip()


def gains(stage: Record, known: Known = str, label: Label = str) -> list[list[str]]:
    """A head, and a row for each reward that chooses and each that is worth gaining: what the best
    self-edit scores on what it was not chosen by, and what it gains over the mean of all."""
    heads = [*(f"on {name}" for name in _FORMS.values()), "IN SAMPLE"]
    rows = [["chosen by", "measured", "mean of all", *heads]]
    for row in stage["best_of_m"]:
        if row["measured"] not in _SHOWN:
            continue
        of, forms = known(row["measured"]), [row[form] for form in (*_FORMS, "in_sample")]
        average = next((found["mean"] for found in forms if found), None)
        cells = [
            f"{number(of, found['chosen'], fine=True)} "
            f"({estimate(of, found['gain'], sign=True, fine=True)})"
            if found and found["gain"]
            else "-"
            for found in forms
        ]
        names = (label(row[key]) for key in ("chosen_by", "measured"))
        rows.append([*names, number(of, average, **_FULL), *cells])
    return rows


def _agreement(pairs: Sequence[Record]) -> str:
    rows = [["rewards", "Pearson", "Spearman", "without noise", "same best", "by chance"]]
    kinds = ("pearson", "spearman", "corrected_for_attenuation", "same_best")
    for pair in pairs:
        figures = (estimate("share", pair[kind]) for kind in kinds)
        chance = number("share", pair["same_best_by_chance"])
        rows.append([" / ".join(pair["rewards"]), *figures, chance])
    return (
        "Agreement of rewards within contexts. Without noise: Pearson's, corrected for the "
        "attenuation by inner-loop seeds.\n" + columns(rows)
    )
