"""How a run learned: rewards by round, losses, and what the reward is worth."""

from seal_jax.reports import analysis_table, analyze, scores
from seal_jax.reports.formats import metric, number
from seal_jax.reports.html import charts
from seal_jax.reports.run_records import Record, RunRecords
from seal_jax.runs.ledger import LedgerError
from seal_jax.settings import Reward
from seal_jax.stats.intervals import mean


def learning(run: RunRecords) -> Record | None:
    """Curves over rounds and steps, how rewards are spread, and a row for each round."""
    unit = run.metric(run.settings.get("reward.kind", "reward"))
    label, of_rounds = metric(unit), rounds(run)
    lines = {"all self-edits": "mean", "the kept ones": "mean_kept", "unadapted model": "unadapted"}
    curves = {name: [(n, of[key]) for n, of in of_rounds.items()] for name, key in lines.items()}
    reward = charts.lines("Reward by round", curves, ("round", label))
    shown = [chart for chart in (reward, *_losses(run)) if chart]
    over = [value for of in of_rounds.values() for value in of["rewards"]]
    spread = [
        charts.histogram(f"Rewards of round {n}", of["rewards"], of["kept"], over, label)
        for n, of in of_rounds.items()
        if of["rewards"]
    ]
    rows = []
    for n, of in of_rounds.items():
        counts = (len(of["rewards"]), of["without"], len(of["kept"]))
        means = (number(unit, of[key]) for key in ("unadapted", "mean", "mean_kept"))
        rows.append([f"round {n}", *counts, *means])
    fresh = len({tuple(of["contexts"]) for of in of_rounds.values()}) > 1
    found = {"title": "Learning", "charts": [shown, spread], "label": label, "rows": rows}
    return found | {"fresh": fresh} if shown or spread else None


def rounds(run: RunRecords) -> dict[int, Record]:
    """The rewards of each round of the run itself, not of its controls."""
    found = {}
    summaries = dict(enumerate(run.results.get("rounds", []), start=1))
    for of in run.stages.values():
        selected, n = of.selected, of.stage.round
        if not selected or of.stage.line:
            continue
        rewards = [reward for reward, _ in selected.values() if reward is not None]
        kept = [r for r, weight in selected.values() if r is not None and weight != 0]
        found[n] = {
            "contexts": list(dict.fromkeys(id for id, _ in selected)),
            "rewards": rewards,
            "kept": kept,
            "without": len(selected) - len(rewards),
            "mean": mean(rewards),
            "mean_kept": mean(kept),
            "unadapted": summaries.get(n, {}).get("mean_unadapted"),
        }
    return dict(sorted(found.items()))


def losses(run: RunRecords) -> dict[str, dict[str, list[tuple[float, float | None]]]]:
    """The M-step's loss over the steps of all rounds, by line of policies ("": the run's own)."""
    lines: dict[str, dict[str, list[tuple[float, float | None]]]] = {}
    for of in run.stages.values():
        if of.stage.kind != "round":
            continue
        series = lines.setdefault(of.stage.line, {})
        for policy in of.others.get("policy", []):
            first = 1 + sum(map(len, series.values()))
            values = [step.get("loss") for step in policy["steps"]]
            series[f"round {of.stage.round}"] = list(enumerate(values, start=first))
    return lines


def _losses(run: RunRecords) -> list[Record | None]:
    """A chart for each line of policies."""
    labels = ("step", loss_unit(run))
    return [
        charts.lines(
            f"M-step loss{f', control: {line} selection' if line else ''}", series, labels,
            dots=False,
        )
        for line, series in losses(run).items()
    ]  # fmt: skip


def loss_unit(run: RunRecords) -> str:
    """What an M-step's loss is measured in."""
    of_restem = run.settings.get("restem.update", "restem") == "restem"
    return "nats a token" if of_restem else "loss"


def reliability(run: RunRecords) -> Record | None:
    """What each reward is worth, by stage: the figures of `analyze`; None where it has none."""
    mix = run.settings.get("reward.mix", Reward().mix)
    try:
        found, _ = scores.of_stages(run.stages, run.timing.get("seconds", {}))
    except LedgerError:  # scores that are not of these self-edits
        return None
    kind = run.settings.get("reward.kind", "")
    stages = [analyze.of_stage(stage, mix, analyze.BOOTSTRAP, kind) for stage in found]
    for stage in stages:
        tables = (analysis_table.reliabilities, analysis_table.gains)
        stage["tables"] = [of(stage, run.metric, run.metric_label) for of in tables]
    return {"title": "What the reward is worth", "stages": stages} if stages else None
