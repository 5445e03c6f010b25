"""What came of the arms: their figures, paired differences, and the table for the terminal."""

import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from seal_jax.loop import rewards
from seal_jax.loop.arms import Arm, derangement
from seal_jax.loop.run import Run
from seal_jax.loop.sample import Edit
from seal_jax.loop.stage import Stage
from seal_jax.stats import components, intervals
from seal_jax.stats.intervals import mean
from seal_jax.tasks import directives
from seal_jax.tasks.base import Task
from seal_jax.tasks.protocol import Context, Metric

Record = dict[str, Any]
# Of an arm's summary, what the table shows where it is not 0.
_COUNTS = {
    "empty_answers": "empty",
    "ungraded_answers": "ungraded",
    "unadapted_fallbacks": "failed",
}


@dataclasses.dataclass(frozen=True)
class Outcome:
    """One arm's marks.

    Attributes:
      name, arm: its row of `arms.table`.
      marks: [C][E] of {"answers", "scores"}, of each context and lesson.
      mismatched: [C], gold log-likelihoods of each context's questions under each delta of another
        context (`arms.derangement`); empty where either context has an inner loop that failed, and
        for arms without a delta a context.
      counts: of trials that gave nothing, for arms that learn.
      recipe: learning rate and epochs, and how many tokens it trained on.
      rises: [C][E], of the loss on unrelated texts in nats a token; empty where it is not measured.
    """

    name: str
    arm: Arm
    marks: list[list[Record]]
    mismatched: list[list[list[float | None]]] = dataclasses.field(default_factory=list)
    counts: Record = dataclasses.field(default_factory=dict)
    recipe: Record = dataclasses.field(default_factory=dict)
    rises: list[list[float | None]] = dataclasses.field(default_factory=list)

    def values(self, metric: Metric) -> list[list[float | None]]:
        """For each context, the mean over lessons of each question's value, or of its own."""
        if metric.per == "context":
            return [[mean(one["scores"].get(metric.name) for one in of)] for of in self.marks]
        return [
            [
                mean(value_of(answer, metric.name) for answer in of_question)
                for of_question in zip(*(one["answers"] for one in of), strict=True)
            ]
            for of in self.marks
        ]

    def summary(self, metrics: Sequence[Metric]) -> Record:
        """The mean of each metric, and counts of answers."""
        answers = [a for of in self.marks for one in of for a in one["answers"]]
        means = {m.name: mean(v for of in self.values(m) for v in of) for m in metrics}
        return {
            "label": self.arm.label,
            **means,
            "contexts": len(self.marks),
            "n_questions": sum(len(of[0]["answers"]) for of in self.marks),
            "n_answers": len(answers),
            "empty_answers": _empty(answers),
            "ungraded_answers": _ungraded(answers),
            **self.counts,
            **self.recipe,
        }


def _empty(answers: Iterable[Record]) -> int:
    return sum(bool(answer.get("empty")) for answer in answers)


def _ungraded(answers: Iterable[Record]) -> int:
    return sum(answer.get("ungraded") is not None for answer in answers)


def value_of(answer: Mapping[str, Any], metric: str) -> float | None:
    """An answer's own value of a metric."""
    found = answer.get("correct" if metric == "accuracy" else metric)
    return None if found is None else float(found)


def of_trials(
    name: str,
    arm: Arm,
    contexts: Sequence[Context],
    by_context: Sequence[Sequence[Record]],
    plain: Mapping[str, Record],
    recipe: Record,
    task: Task,
) -> Outcome:
    """An adapted arm from its trials' records [C][E]; contexts of which nothing is asked are left
    out.

    Args:
      plain: the unadapted model's marks by context id, which stand in for trials without any; what
        a metric says of failures goes before.
    """
    every = [record for of in by_context for record in of]
    failed = [record for record in every if not record["answers"]]
    fixed = {m.name: m.failed for m in task.metrics if m.failed is not None}

    def of_one(record: Record) -> Record:
        if record["answers"]:
            return record
        instead = plain[record["context"]]
        return {"answers": instead["answers"], "scores": {**instead["scores"], **fixed}}

    mismatched: list[list[list[float | None]]] = [[] for _ in contexts]
    for i, other in enumerate(derangement(contexts)) if len(contexts) > 1 else ():
        if all(record["answers"] for record in (*by_context[i], *by_context[other])):
            mismatched[other] = [record["mismatched"] for record in by_context[i]]
    keep = [c for c, of in enumerate(by_context) if of[0]["answers"] or contexts[c].id in plain]
    counts = {
        "trials": len(every),
        "invalid_edits": sum(bool(record.get("invalid")) for record in failed),
        "unadapted_fallbacks": len(failed),
    }
    marks = [[of_one(record) for record in by_context[c]] for c in keep]
    return Outcome(name, arm, marks, [mismatched[c] for c in keep], counts, recipe)


def of(
    outcomes: Sequence[Outcome],
    task: Task,
    contexts: Sequence[Context],
    *,
    seed: int,
    draws: int,
) -> Record:
    """All figures of the arms, as JSON values.

    Args:
      contexts: in the order of the marks.

    Returns:
      {"metrics", what they are; "arms"; "pairs", differences (second minus first) of every pair of
      arms with 95 % intervals, and where arms have several lessons a context the "components" of
      their variance; "matched_minus_mismatched"; "contexts", each question's values}.

    Raises:
      ValueError: two contexts have one id.
    """
    metrics, how = rewards.metrics(task), {"seed": seed, "draws": draws}
    pairs = [
        {"names": [second.name, first.name], "metric": metric.name}
        | intervals.paired(second.values(metric), first.values(metric), **how)
        | _components(second, first, metric)
        for first, second in itertools.combinations(outcomes, 2)
        for metric in metrics
    ]
    deltas = [one for one in outcomes if len(one.mismatched) > 1]
    return {
        "metrics": [dataclasses.asdict(metric) for metric in metrics],
        "words": {"context": task.context_word, "question": task.question_word},
        "arms": {one.name: one.summary(metrics) for one in outcomes},
        "pairs": pairs,
        "matched_minus_mismatched": {one.name: _matched(one, **how) for one in deltas},
        "contexts": _per_context(outcomes, metrics, contexts),
    }


def _components(second: Outcome, first: Outcome, metric: Metric) -> Record:
    """{"components"} of a difference; {} where they cannot be estimated.

    Lessons are paired by their number; an arm with one is compared with each of the other's.
    """
    if metric.per == "context":
        return {}
    cells = []
    for both in zip(second.marks, first.marks, strict=True):
        own, other = (
            np.array([[value_of(a, metric.name) for a in one["answers"]] for one in of], np.float64)
            for of in both
        )
        if own.size and not np.isnan(own).any() and not np.isnan(other).any():
            cells.append(own - other)
    found = components.components(cells)
    return {} if found is None else {"components": found._asdict()}


def unrelated(outcomes: Sequence[Outcome], *, seed: int, draws: int) -> Record:
    """By arm that learns, the mean rise of the loss on unrelated texts, with its interval."""
    found = {one.name: [[mean(of)] for of in one.rises] for one in outcomes if one.rises}
    return {
        name: intervals.paired(rises, [[0.0]] * len(rises), seed=seed, draws=draws)
        for name, rises in found.items()
    }


def _matched(outcome: Outcome, *, seed: int, draws: int) -> Record | None:
    """How much better a context's questions are known by its own delta than by another's.

    The gain of matched over mismatched gold log-likelihood is knowledge of the context rather than
    of the form of an answer. Contexts without both are left out and counted.
    """
    matched, mismatched, left_out = [], [], 0
    for own, other in zip(outcome.marks, outcome.mismatched, strict=True):
        if not other or any(None in edit for edit in other):
            left_out += 1
            continue
        likelihoods = [[a["gold_log_likelihood"] for a in one["answers"]] for one in own]
        matched.append([mean(values) for values in zip(*likelihoods, strict=True)])
        mismatched.append([mean(values) for values in zip(*other, strict=True)])
    if len(matched) < 2:
        return None
    found = intervals.paired(matched, mismatched, seed=seed, draws=draws)
    return {**found, "n_contexts": len(matched), "contexts_left_out": left_out}


def _per_context(
    outcomes: Sequence[Outcome], metrics: Sequence[Metric], contexts: Sequence[Context]
) -> Record:
    """By context id {"title", "group", "arms": {arm: {"questions", metric: one value a question
    or of the context alone, "empty" and "ungraded": numbers of answers}}}."""
    values = {one.name: {m.name: one.values(m) for m in metrics} for one in outcomes}
    found: Record = {}
    for c, context in enumerate(contexts):
        if context.id in found:
            raise ValueError(
                f"two contexts have the id {context.id!r}: results are kept by id, so each context "
                "needs its own."
            )
        arms = {}
        for one in outcomes:
            answers = [answer for of in one.marks[c] for answer in of["answers"]]
            arms[one.name] = {
                "questions": [answer["question"] for answer in one.marks[c][0]["answers"]],
                **{name: of[c] for name, of in values[one.name].items()},
                "empty": _empty(answers),
                "ungraded": _ungraded(answers),
            }
        found[context.id] = {"title": context.title, "group": context.group, "arms": arms}
    return found


def report(
    run: Run,
    found: Record,
    written: Mapping[str, Sequence[Sequence[Edit]]],
    contexts: Sequence[Context],
) -> None:
    """The tables, differences that are no arm's, and a self-edit to read, for the terminal."""
    if "arms" in found:
        run.say("\n" + table(found))
        seconds = {name: of for name, of in run.seconds.items() if name not in run.replayed}
        if spent := costs(found, seconds):
            run.say(f"\n{spent}\n")
        names, last = [of["name"] for of in found["metrics"]], run.session.settings.restem.rounds
        for name, of in found["arms"].items():
            arm = Stage(kind="arm", split="eval", what=name)
            run.measure(arm, {metric: of[metric] for metric in names}, step=last)
    for name, gain in found.get("matched_minus_mismatched", {}).items():
        if gain:
            label = found["arms"][name]["label"]
            run.say(f"matched minus mismatched log-likelihood, {label}: {shown(gain)}")
    if "planted_reward" in found:
        gain = found["planted_reward"]
        run.say(
            f"reward {run.session.settings.reward.kind!r} of self-edits about held-out contexts: "
            f"{gain['before']:.4f} before RL, {gain['after']:.4f} after; difference {shown(gain)}"
        )
    for name, described in found.get("directives", {}).items():
        run.say(f"directives of {name!r}: {directives.said(described)}")
    for editor, of in written.items():
        run.say(f"\nself-edit of {contexts[0].title!r} by {editor!r}:\n{of[0][0].text}")
    if run.ungraded:
        run.say(f"\n{run.incomplete}")


def shown(gain: Record) -> str:
    """A difference with its interval; a dash for none.

    >>> shown({"difference": 0.5, "interval": None}), shown({"difference": None, "interval": None})
    ('+0.500', '-')
    """
    if gain["difference"] is None:
        return "-"
    beside = ""
    if gain["interval"]:
        low, high = gain["interval"]
        beside = f" [{low:+.3f}, {high:+.3f}]"
    return f"{gain['difference']:+.3f}{beside}"


def table(found: Record) -> str:
    """The arms as a table for the terminal, each compared with the first."""
    metrics = [Metric(**metric) for metric in found["metrics"]]
    last = metrics[-1] if metrics[0].per == "question" else metrics[-2]
    against = {tuple(pair["names"]): pair for pair in found["pairs"] if pair["metric"] == last.name}
    arms = found["arms"]
    first = next(iter(arms), "")
    width = max((len(of["label"]) for of in arms.values()), default=0) + 2
    counts = {key: n for key, n in _COUNTS.items() if any(of.get(key) for of in arms.values())}
    heads = "".join(f"{metric.label:>{len(metric.label) + 4}}" for metric in metrics)
    heads += "".join(f"{name:>10}" for name in counts.values())
    over = arms[first]["label"] if first else ""
    lines = [f"{'arm':<{width}}{heads}   gain in {last.label} over {over}"]
    for name, of_arm in arms.items():
        line = f"{of_arm['label']:<{width}}"
        for metric in metrics:
            line += f"{rewards.shown(of_arm[metric.name], metric):>{len(metric.label) + 4}}"
        line += "".join(f"{of_arm.get(key, ''):>10}" for key in counts)
        pair = against.get((name, first))
        lines.append(line + (f"   {shown(pair)}" if pair else ""))
    return "\n".join(lines)


class Cost(NamedTuple):
    """What an arm spent on all contexts; None where it is not known.

    Attributes:
      tokens, steps: that it trained on, and of the optimizer.
      seconds: of training and answering.
      facts: answers that became right, over the first arm's, a minute of these.
    """

    tokens: int
    steps: int | None
    seconds: float | None
    facts: float | None

    def cells(self) -> list[str]:
        """For a table, under `COST_HEADS`; "" for what is not known."""
        steps = "" if self.steps is None else f"{self.steps:,.0f}"
        seconds = "" if self.seconds is None else f"{self.seconds:,.0f}"
        facts = "" if self.facts is None else f"{self.facts:.2f}"
        return [f"{self.tokens:,.0f}", steps, seconds, facts]


# Of an arm's stage, by whether it learns all contexts together.
_PARTS = {False: ("adapt",), True: ("pretraining", "answers")}
COST_HEADS = ("tokens", "steps", "seconds", "facts a minute")


def spent(found: Mapping[str, Any], seconds: Mapping[str, float]) -> dict[str, Cost]:
    """What each arm that learns spent.

    Args:
      found: of results.json.
      seconds: of the run's stages by name, of those that were done at one go.
    """
    arms = found.get("arms", {})
    first: Record = next(iter(arms.values()), {})
    costs = {}
    for name, arm in arms.items():
        if arm.get("trained_tokens") is None:
            continue
        metric = Metric(**found["metrics"][0])
        stage = Stage(kind="arm", split="eval", what=name)
        parts = [seconds.get(f"{stage}: {part}") for part in _PARTS["sequences" in arm]]
        time = None if None in parts else sum(filter(None, parts))
        facts, known = None, (arm.get(metric.name), first.get(metric.name), arm.get("n_answers"))
        if time and metric.share and metric.per == "question" and None not in known:
            facts = (known[0] - known[1]) * known[2] / time * 60
        costs[name] = Cost(arm["trained_tokens"], arm.get("steps"), time, facts)
    return costs


def costs(found: Record, seconds: Mapping[str, float]) -> str:
    """What the arms that learn trained on, for the terminal; "" where none does.

    Args:
      seconds: as in `spent`.
    """
    arms, rises = found["arms"], found.get("unrelated", {})
    heads = ["arm", *COST_HEADS, "rate x epochs"]
    rows = []
    for name, cost in spent(found, seconds).items():
        arm = arms[name]
        row = [arm["label"], *cost.cells()]
        row.append(f"{arm['learning_rate']:g} x {arm['epochs']}" if "epochs" in arm else "")
        rows.append(row + ([shown(rises[name])] if name in rises else []))
    if not rows:
        return ""
    if rises:
        heads.append("harm: loss on unrelated texts, nats a token")
    widths = [max(map(len, of)) for of in itertools.zip_longest(heads, *rows, fillvalue="")]
    return "\n".join(
        "  ".join(
            f"{cell:{'>' if 0 < i < 6 else '<'}{widths[i]}}" for i, cell in enumerate(row)
        ).rstrip()
        for row in (heads, *rows)
    )
