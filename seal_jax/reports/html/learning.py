"""How a run learned: rewards by round, losses, and what the reward is worth."""

from seal_jax.reports import analyze
from seal_jax.reports.html import charts
from seal_jax.reports.html.formats import interval, metric, number
from seal_jax.reports.html.run_records import Record, RunRecords
from seal_jax.stats.intervals import mean
from seal_jax.tasks.protocol import Metric


def learning(run: RunRecords) -> Record | None:
    """Curves over rounds and steps, how rewards are spread, and a row for each round."""
    unit = run.metric(run.settings.get("reward.kind", "reward"))
    label, rounds = metric(unit), _rounds(run)
    lines = {"all self-edits": "mean", "the kept ones": "mean_kept", "unadapted model": "unadapted"}
    curves = {name: [(n, of[key]) for n, of in rounds.items()] for name, key in lines.items()}
    reward = charts.lines("Reward by round", curves, ("round", label))
    shown = [chart for chart in (reward, *_losses(run)) if chart]
    over = [value for of in rounds.values() for value in of["rewards"]]
    spread = [
        charts.histogram(f"Rewards of round {n}", of["rewards"], of["kept"], over, label)
        for n, of in rounds.items()
        if of["rewards"]
    ]
    rows = []
    for n, of in rounds.items():
        counts = (len(of["rewards"]), of["without"], len(of["kept"]))
        means = (number(unit, of[key]) for key in ("unadapted", "mean", "mean_kept"))
        rows.append([f"round {n}", *counts, *means])
    fresh = len({tuple(of["contexts"]) for of in rounds.values()}) > 1
    found = {"title": "Learning", "charts": [shown, spread], "label": label, "rows": rows}
    return found | {"fresh": fresh} if shown or spread else None


def _rounds(run: RunRecords) -> dict[int, Record]:
    """The rewards of each round of the run itself, not of its controls."""
    found = {}
    summaries = run.results.get("rounds", [])
    for of in run.stages.values():
        if of.stage.kind != "round" or of.stage.line or "selection" not in of.others:
            continue
        [selection] = of.others["selection"]
        rewards = [value for row in selection["rewards"] for value in row]
        weights = [value for row in selection["weights"] for value in row]
        pairs = [pair for pair in zip(rewards, weights, strict=True) if pair[0] is not None]
        kept = [reward for reward, weight in pairs if weight > 0]
        n = of.stage.round
        found[n] = {
            "contexts": selection["contexts"],
            "rewards": [reward for reward, _ in pairs],
            "kept": kept,
            "without": len(rewards) - len(pairs),
            "mean": mean(reward for reward, _ in pairs),
            "mean_kept": mean(kept),
            "unadapted": summaries[n - 1].get("mean_unadapted") if n <= len(summaries) else None,
        }
    return dict(sorted(found.items()))


def _losses(run: RunRecords) -> list[Record | None]:
    """The M-step's loss over the steps of all rounds, a chart for each line of policies."""
    lines: dict[str, dict[str, list[tuple[float, float | None]]]] = {}
    for of in run.stages.values():
        if of.stage.kind != "round":
            continue
        line = of.stage.line
        series = lines.setdefault(f", control: {line} selection" if line else "", {})
        for policy in of.others.get("policy", []):
            first = 1 + sum(map(len, series.values()))
            losses = [step.get("loss") for step in policy["steps"]]
            series[f"round {of.stage.round}"] = list(enumerate(losses, start=first))
    labels = ("step", "nats a token")
    return [charts.lines(f"M-step loss{of}", lines[of], labels, dots=False) for of in lines]


def reliability(run: RunRecords) -> Record | None:
    """What each reward is worth, by stage: the figures of `analyze`; None where it has none."""
    try:
        stages = analyze.analyze(str(run.path), draws=1000)["stages"]
    except (ValueError, OSError):
        return None
    for stage in stages:
        stage["rows"] = [
            _reliability(run.metric(name), of) for name, of in stage["rewards"].items()
        ]
        stage["best"] = [
            _best(run.metric(of["measured"]), of)
            for of in stage["best_of_m"]
            if of["measured"] == of["chosen_by"] and of["measured"] not in ("length", "mix")
        ]
    return {"title": "What the reward is worth", "stages": stages} if stages else None


def _reliability(name: str | Metric, reward: Record) -> list[str]:
    """A row: its mean, that of the unadapted model, and how far it would choose the same again."""
    found, forms = reward["reliability"], ("within_contexts", "other_questions", "other_both")
    shown = ["exact: no replicates", "", ""]
    if found:
        shown = [_estimate("share", found[form]) for form in forms]
    return [metric(name), *(number(name, reward[of]) for of in ("mean", "unadapted")), *shown]


def _best(name: str | Metric, row: Record) -> list[str]:
    """A row: the mean of all self-edits, and what the best one gains on what did not choose it."""
    forms = [row[f] for f in ("other_replicates", "other_questions", "other_both", "in_sample")]
    average = next((found["mean"] for found in forms if found), None)
    gains = (_estimate(name, found and found["gain"], sign=True) for found in forms)
    return [metric(name), number(name, average), *gains]


def _estimate(name: str | Metric, found: Record | None, *, sign: bool = False) -> str:
    if not found:
        return "–"
    edges = interval(name, (found["low"], found["high"]), sign=sign)
    return f"{number(name, found['value'], sign=sign)} {edges}".strip()
