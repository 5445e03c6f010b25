"""The sections of the page with charts: learning, rewards by round, time and tokens."""

import re
from typing import Any

from seal_jax.reports.html import charts
from seal_jax.reports.html.arm_names import metric, number
from seal_jax.reports.html.markup import Html, join, section, table, tag
from seal_jax.reports.html.run_records import RunRecords

Record = dict[str, Any]

_ROUND = re.compile(r"(?:(\w+) )?round (\d+)")


def learning(run: RunRecords) -> Html:
    """Curves over rounds and steps, and how rewards are spread."""
    unit = run.setting("few_shot.reward" if run.few_shot else "reward.kind", "reward")
    label = metric(unit)
    rounds = _rounds(run)
    shown = [
        charts.lines(
            "Reward by round",
            {
                "all self-edits": [(n, _mean(of["rewards"])) for n, of in rounds.items()],
                "the kept ones": [(n, _mean(of["kept"])) for n, of in rounds.items()],
                "unadapted model": [(n, of["unadapted"]) for n, of in rounds.items()],
            },
            x_label="round",
            y_label=label,
        ),
        *_losses(run),
    ]
    values = [value for of in rounds.values() for value in of["rewards"]]
    over = (min(values), max(values)) if values else (0.0, 0.0)
    spread = [
        charts.histogram(
            f"Rewards of round {n}", of["rewards"], of["kept"], over=over, x_label=label
        )
        for n, of in rounds.items()
        if of["rewards"]
    ]
    if not any([*shown, *spread]):
        return Html("")
    rows = [
        [
            f"round {n}",
            len(of["rewards"]),
            of["without"],
            len(of["kept"]),
            *(number(unit, v) for v in (of["unadapted"], _mean(of["rewards"]), _mean(of["kept"]))),
        ]
        for n, of in rounds.items()
    ]
    heads = ["round", "self-edits", "without reward", "kept", "unadapted", "mean", "mean of kept"]
    return section(
        "learning",
        "Learning",
        tag("div", *shown, class_="charts"),
        tag("div", *spread, class_="charts"),
        table(f"Rewards by round: {label}", heads, rows) if rows else "",
        tag(
            "p",
            "Each round has its own contexts, and its rewards are of its own policy: a change "
            "between rounds is not the effect of training. The arms are.",
            class_="note",
        )
        if len(rounds) > 1 and not run.few_shot
        else "",
    )


def _rounds(run: RunRecords) -> dict[int, Record]:
    """The rewards of each round of the run itself, not of its controls."""
    summaries = run.results.get("rounds", [])
    found = {}
    for stage, kinds in run.stages.items():
        match = _ROUND.fullmatch(stage)
        if not match or match[1] or "selection" not in kinds:
            continue
        [selection] = kinds["selection"]
        pairs = [
            (reward, weight)
            for of_reward, of_weight in zip(selection["rewards"], selection["weights"], strict=True)
            for reward, weight in zip(of_reward, of_weight, strict=True)
        ]
        n = int(match[2])
        found[n] = {
            "rewards": [reward for reward, _ in pairs if reward is not None],
            "kept": [reward for reward, weight in pairs if weight > 0 and reward is not None],
            "without": sum(reward is None for reward, _ in pairs),
            "unadapted": summaries[n - 1].get("mean_unadapted") if n <= len(summaries) else None,
        }
    return dict(sorted(found.items()))


def _losses(run: RunRecords) -> list[Html]:
    """The M-step's loss over the steps of all rounds, a chart for each line of policies."""
    steps: dict[str, dict[str, list[tuple[float, float | None]]]] = {}
    done: dict[str, int] = {}
    for stage, kinds in run.stages.items():
        match = _ROUND.fullmatch(stage)
        if not match:
            continue
        line = match[1] or ""
        for policy in kinds.get("policy", []):
            losses = [step.get("loss") for step in policy["steps"]]
            first = done.get(line, 0) + 1
            done[line] = first + len(losses) - 1
            points = [(float(first + k), loss) for k, loss in enumerate(losses)]
            steps.setdefault(line, {})[f"round {match[2]}"] = points
    return [
        charts.lines(
            "M-step loss" + (f", control: {line} selection" if line else ""),
            series,
            x_label="step",
            y_label="nats a token",
            dots=False,
        )
        for line, series in steps.items()
    ]


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None


def cost(run: RunRecords) -> Html:
    """What each stage recorded, trained on and took."""
    seconds = run.timing.get("seconds", {})
    rows, totals = [], [0, 0, 0]
    for stage, kinds in run.stages.items():
        batches = [*kinds.get("batch", []), *kinds.get("learned", [])]
        numbers = [
            sum(len(batch.get("trials", batch.get("updates", []))) for batch in batches),
            sum(batch.get("real_tokens", 0) for batch in batches),
            sum(batch.get("computed_tokens", 0) for batch in batches),
        ]
        totals = [total + n for total, n in zip(totals, numbers, strict=True)]
        own = {
            key.removeprefix(f"{stage}: "): value
            for key, value in seconds.items()
            if key.startswith(f"{stage}: ")
        }
        rows.append(
            [
                stage,
                sum(len(r.get("edits", r.get("texts", []))) for r in kinds.get("edits", [])) or "",
                _progress(kinds),
                *(f"{n:,}" if n else "" for n in numbers),
                _duration(sum(own.values())) if own else "",
                ", ".join(f"{what} {_duration(value)}" for what, value in own.items()),
            ]
        )
    if not rows:
        return section("cost", "Time and cost", tag("p", "Nothing is recorded yet."))
    total = seconds.get("total")
    rows.append(["all", "", "", *(f"{n:,}" for n in totals), _duration(total) if total else "", ""])
    heads = [
        "stage",
        "self-edits",
        "batches",
        "inner loops",
        "tokens",
        "computed",
        "time",
        "of which",
    ]
    notes = ["Tokens are those of the inner loops; computed ones include padding."]
    if not seconds:
        notes.append("Times are written when the run is finished.")
    elif run.timing.get("resumed"):
        notes.append("Times are of the last process only: the run was continued.")
    if totals[0] and total and not run.timing.get("resumed"):
        notes.append(f"{totals[0] / total * 3600:,.0f} inner loops an hour, all stages counted.")
    return section(
        "cost",
        "Time and cost",
        table("What each stage did", heads, rows, words_last=True),
        tag("p", join(f"{note} " for note in notes), class_="note"),
    )


def _progress(kinds: Record) -> str:
    """Batches done, and of how many where some are missing."""
    done = len(kinds.get("batch", []))
    planned = sum(len(plan["groups"]) for plan in kinds.get("plan", []))
    if planned and done < planned:
        return f"{done} of {planned}"
    return str(done) if done else ""


def _duration(seconds: float) -> str:
    """A time for people.

    >>> _duration(7.25), _duration(125), _duration(7300)
    ('7.2 s', '2 min 05 s', '2 h 01 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"
