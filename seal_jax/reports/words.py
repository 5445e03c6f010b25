"""What came of a run, in words: the end of a command that runs one, and its report's opening.

Figures are those of results.json, for any task; what its metrics are called they say themselves.
What is missing is said, never guessed.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from seal_jax.loop import arms
from seal_jax.loop.results import value_of
from seal_jax.loop.stage import Stage
from seal_jax.reports.formats import form, interval, metric, number
from seal_jax.reports.run_records import Record, RunRecords
from seal_jax.stats import intervals
from seal_jax.stats.components import Components
from seal_jax.tasks.protocol import GOLD_LOG_LIKELIHOOD, Metric

_LONGEST = 200  # characters of an answer
_CONTROLS = {"random": "chance", "longest": "length"}
# RL is against what, by the arms' names: self-edits apart from learners first.
_RL = {
    ("edit_after_base", "edit_before"): (
        "RL's self-edits against the base model's, both learned by the base model"
    ),
    **{
        ("edit_after_base", f"edit_{control}_base"): (
            f"RL's self-edits against those of the same training with {what} in the place of the "
            "reward, both learned by the base model"
        )
        for control, what in _CONTROLS.items()
    },
    ("edit_after", "edit_before"): "self-edits and learner after RL against both before it",
    **{
        ("edit_after", f"edit_{control}"): (
            f"self-edits and learner after RL against the same training with {what} in the place "
            "of the reward"
        )
        for control, what in _CONTROLS.items()
    },
    ("edit_after_base", "edit_after_permuted"): (
        "its directives against its own for another context, both learned by the base model (more "
        "than a constant only if above zero)"
    ),
    ("edit_after_base", "edit_after_constant"): (
        "its directives against the best constant of its rounds, both learned by the base model"
    ),
    ("policy", "base"): "the policy after RL against the base model, neither adapted",
}


class Gain(NamedTuple):
    """What one arm scores above another in one metric.

    Attributes:
      metric: what is scored.
      second, first: the means of both; None where nothing is graded.
      difference: second - first, over the questions that have both.
      ends: its 95 % interval; None for none.
      contexts: how many were compared.
      detectable: see `intervals.detectable`.
      components: of the difference's variance; None where they are not known.
      arms: their names, where both are arms.
    """

    metric: Metric
    second: float | None
    first: float | None
    difference: float | None
    ends: Sequence[float] | None
    contexts: int = 0
    detectable: float | None = None
    components: Components | None = None
    arms: tuple[str, ...] = ()

    @property
    def sign(self) -> int:
        """1 for a gain and -1 for a loss that the interval tells from zero, else 0."""
        return 0 if self.ends is None else (self.ends[0] > 0) - (self.ends[1] < 0)

    @property
    def name(self) -> str:
        """Its metric, for people."""
        own = self.metric.name == GOLD_LOG_LIKELIHOOD.name
        return "log-likelihood of the right answers" if own else metric(self.metric)

    def shown(self, value: float | None) -> str:
        """A mean with its unit."""
        return "not graded" if value is None else number(self.metric, value, unit=True)

    def amount(self, value: float, *, sign: bool = False) -> str:
        """A difference with its unit: of shares in points."""
        points = form(self.metric)[3] == " %"
        found = number(self.metric, value, sign=sign, unit=not points)
        return f"{found} points" if points else found

    @property
    def said(self) -> str:
        """The difference, and what its interval says."""
        if self.difference is None:
            return "the difference is not known"
        found = self.amount(self.difference, sign=True)
        if self.ends is not None:
            says = {1: "excludes zero: a gain", -1: "excludes zero: a loss"}
            around = interval(self.metric, self.ends, sign=True)
            unclear = f"includes zero, so it may be chance{self._overlooked}"
            return f"{found}, 95 % interval {around}, which {says.get(self.sign, unclear)}"
        why = "one context alone" if self.contexts == 1 else "the same in every context"
        return f"{found}, no interval: {why}"

    @property
    def _overlooked(self) -> str:
        """What could have been overlooked, after a colon; "" where that is not known."""
        if self.detectable is None:
            return ""
        if self.metric.share and self.detectable > 1:
            return ": no difference there can be is found in 4 of 5 such runs"
        least = self.amount(self.detectable)
        return f": a true difference of at least {least} is found in 4 of 5 such runs"


def of_run(run: RunRecords) -> list[str]:
    """The paragraphs about a run, the last on what to try next; none of one without results."""
    if not run.results:
        return []
    example = one_question(run)
    return [*of_results(run.results), *([example] if example else []), next_step(run.results)]


def of_results(results: Mapping[str, Any]) -> list[str]:
    """The paragraphs about figures: what adapted models gained, and what RL did.

    Args:
      results: of results.json.
    """
    if "continual" in results:
        return list(_continual(results))
    if "filter" in results:
        solved, tried = len(results["solved"]), len(results["tasks"])
        return [f"{solved} of {tried} are solved after training as {results['recipe']} says."]
    if planted := results.get("planted_reward"):
        return [f"RL: {_change(_planted(planted))}."]
    if not results.get("arms"):
        return ["Nothing was evaluated."]
    beyond = _sources(results) if "bench" in results else _rl(results)
    return [_adapting(results), *beyond]


def headline(results: Mapping[str, Any]) -> str:
    """The adapted arm that speaks for a run: what the base model learns, from RL's self-edits.

    Without it SEAL's own, after RL if there is; "" for none.

    Of texts that were compared it is the best source.
    """
    found = results.get("arms", {})
    if "bench" in results:
        return next(iter(results["bench"]["sources"]), "")
    learning = [name for name, of in found.items() if "trained_tokens" in of]
    first = ("edit_after_base", "edit_after", "edit_before")
    return next((of for of in (*first, *learning) if of in found), "")


def gains(results: Mapping[str, Any], second: str, first: str) -> list[Gain]:
    """What an arm gains over another in the main metric, and in the right answers' likelihood."""
    known = [Metric(**of) for of in results["metrics"]]
    chosen = [known[0], *(of for of in known[1:] if of.name == GOLD_LOG_LIKELIHOOD.name)]
    return [_gain(results, second, first, of) for of in chosen]


def _gain(results: Mapping[str, Any], second: str, first: str, of: Metric) -> Gain:
    difference, ends, parts = None, None, None
    for pair in results.get("pairs", ()):
        if pair["metric"] == of.name and set(pair["names"]) == {second, first}:
            difference, ends = pair["difference"], pair["interval"]
            if pair["names"][0] == first and difference is not None:
                difference, ends = -difference, ends and [-edge for edge in reversed(ends)]
            parts = Components(**pair["components"]) if "components" in pair else None
    each = [one["arms"] for one in results.get("contexts", {}).values()]
    own, other = ([one[name][of.name] for one in each] for name in (second, first))
    pairs_C = [list(zip(*of_context, strict=True)) for of_context in zip(own, other, strict=True)]
    return Gain(
        metric=of,
        second=results["arms"][second].get(of.name),
        first=results["arms"][first].get(of.name),
        difference=difference,
        ends=ends,
        contexts=sum(any(None not in pair for pair in pairs) for pairs in pairs_C),
        detectable=intervals.detectable(own, other),
        components=parts,
        arms=(second, first),
    )


def _change(gain: Gain) -> str:
    """Both means, and their difference."""
    if gain.second is None and gain.first is None:
        return f"{gain.name} is not graded"
    second, first = gain.shown(gain.second), gain.shown(gain.first)
    up = 0 if gain.difference is None else (gain.difference > 0) - (gain.difference < 0)
    if gain.metric.name == GOLD_LOG_LIKELIHOOD.name:
        became = {1: "became likelier", -1: "became less likely", 0: "are as likely"}[up]
        return f"the right answers {became} (log-likelihood {first} to {second}: {gain.said})"
    if second == first:
        return f"{gain.name} stayed at {first} ({gain.said})"
    went = {1: "rose", -1: "fell", 0: "went"}[up]
    return f"{gain.name} {went} from {first} to {second} ({gain.said})"


def _on(results: Mapping[str, Any], own: Sequence[Gain]) -> str:
    """How many contexts were compared."""
    count, word = max(gain.contexts for gain in own), results["words"]["context"]
    return f"{count} {word}{'s' if count != 1 else ''}"


def _adapting(results: Mapping[str, Any]) -> str:
    found, second = results["arms"], headline(results)
    if not second:
        return "No adapted model was evaluated."
    label = found[second]["label"]
    if "base" not in found:
        return f"What adapting ({label}) gained is not known: the unadapted model was not asked."
    own = gains(results, second, "base")
    text = f"Adapting the model ({label}), on {_on(results, own)}: "
    text += "; ".join(map(_change, own)) + "."
    if ungraded := sum(found[name].get("ungraded_answers", 0) for name in (second, "base")):
        text += f" {ungraded} answers of the two are not graded, and do not count."
    judged = next((gain for gain in own if gain.second is not None), None)
    if judged is None or judged.second is None:
        return text
    means = {n: of.get(judged.metric.name) for n, of in found.items() if "trained_tokens" in of}
    best, most = max(
        ((name, mean) for name, mean in means.items() if mean is not None),
        key=lambda one: one[1], default=("", judged.second),
    )  # fmt: skip
    if most > judged.second:
        text += (
            f" Of all ways to adapt, this did best: {found[best]['label']}, {judged.shown(most)}."
        )
    return text


def _rl(results: Mapping[str, Any]) -> Iterator[str]:
    """What RL did, and against controls: to the self-edits, to both, to the learner."""
    found, rounds = results["arms"], len(results.get("rounds", ()))
    known = compared_rl(results)
    after = {"edit_after_base", "edit_after"} & found.keys()
    if not after:
        yield "RL: no policy after RL was evaluated."
        return
    how = f" ({rounds} round{'s' if rounds > 1 else ''})" if rounds else ""
    for pair in known:
        own = gains(results, *pair)
        changes = "; ".join(f"{gain.name} {gain.said}" for gain in own)
        text = f"RL{how}, {_RL[pair]}, on {_on(results, own)}: {changes}."
        parts = [_variance(results, gain) for gain in own if gain.sign == 0]
        yield " ".join([text, *filter(None, parts[-1:])])
    if "edit_before" not in found:
        yield "Self-edits before RL were not evaluated, so what RL added is not known."
    if not any(control in second for _, second in known for control in arms.CONTROLS):
        yield "No control was run: training on any of the self-edits might do the same."


def compared_rl(results: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The pairs of arms that say what RL did, of those there are; the first one is the headline."""
    return [pair for pair in _RL if results.get("arms", {}).keys() >= set(pair)]


def _variance(results: Mapping[str, Any], gain: Gain) -> str:
    """Where a difference's chance comes from, and what more of either would find."""
    parts = gain.components
    if parts is None or not (shares := parts.shares()):
        return ""
    word = results["words"]
    names = {
        "contexts": f"differences between {word['context']}s",
        "edits": "the chance of one self-edit and its update",
        "questions": f"the choice of {word['question']}s",
        "rest": "what is left",
    }
    said = ", ".join(
        f"{shares[name]:.0%} {what}".replace("%", " %") for name, what in names.items()
    )
    more = parts.detectable(gain.contexts, 4 * parts.edits)
    wider = parts.detectable(4 * gain.contexts, parts.edits)
    if more is None or wider is None:
        return ""
    return (
        f"Of the variance of that {gain.name}, {said}: with {4 * parts.edits} self-edits a "
        f"{word['context']} (now {parts.edits}) {gain.amount(more)} would be found, with "
        f"{4 * gain.contexts} {word['context']}s {gain.amount(wider)}."
    )


def _sources(results: Mapping[str, Any]) -> Iterator[str]:
    """Which source of texts teaches most, also against the passage, and how that was found."""
    found, of = results["arms"], results["bench"]
    if not of["sources"]:
        return
    best, known = of["sources"][0], _compared(results)
    label = found[best]["label"]
    others = [gain for (_, other), gain in known.items() if other in of["sources"]]
    if others:
        shown = any(gain.sign == 1 for gain in others)
        verdict = "teaches most" if shown else "comes out best, and is not shown to teach more"
        texts = "; ".join(
            f"against {found[other]['label']!r} {gain.said}"
            for (_, other), gain in known.items()
            if other in of["sources"]
        )
        yield f"Of {len(of['sources'])} sources {label!r} {verdict} ({others[0].name}: {texts})."
    if passage := {a: gain for (a, b), gain in known.items() if b not in of["sources"]}:
        texts = "; ".join(f"{found[a]['label']!r} {gain.said}" for a, gain in passage.items())
        yield f"Against repeating the passage: {texts}."
    spent = {"none": "as many epochs", "tokens": "as many tokens", "steps": "as many steps"}
    dose = f"tuned on {of['development']} other contexts" if of["development"] else "fixed"
    yield (
        f"Every arm spent {spent[of['equal']]} on a passage, with its dose {dose}. The intervals "
        f"hold together for all {len(known)} comparisons of the log-likelihood."
    )


def _compared(results: Mapping[str, Any]) -> dict[tuple[str, str], Gain]:
    """Of the best source over the others, and of each over the passage: gains in log-likelihood."""
    of, arms, count = results["bench"], results["arms"], len(results.get("contexts", ()))
    found = {}
    for one in of["comparisons"]:
        (second, first), name = one["names"], one["metric"]
        if name == GOLD_LOG_LIKELIHOOD.name and (
            second == of["sources"][0] or first not in of["sources"]
        ):
            both = (arms[second][name], arms[first][name], one["difference"], one["corrected"])
            gain = Gain(GOLD_LOG_LIKELIHOOD, *both, count, one["detectable"])
            found[second, first] = gain
    return found


def _planted(found: Record) -> Gain:
    figures = (found[of] for of in ("after", "before", "difference", "interval"))
    return Gain(Metric(name="planted", label="planted reward"), *figures)


def _learned(results: Mapping[str, Any]) -> Iterator[tuple[str, Gain]]:
    """What a passage gains by its own update, under each mitigation in each metric."""
    count = len(results.get("sequences", ()))
    for name, of in results.get("continual", {}).items():
        for measured, one in of["summary"].items():
            own = one.get("own_gain", {})
            both = (one["own"], one["start"], own.get("value"), own.get("interval"))
            yield name, Gain(Metric(name=measured, label=measured), *both, count)


def _continual(results: Mapping[str, Any]) -> Iterator[str]:
    """What was learned of each passage, and what was kept of it; a paragraph a mitigation."""
    texts: dict[str, list[str]] = {}
    for name, gain in _learned(results):
        text, one = _change(gain), results["continual"][name]["summary"][gain.metric.name]
        if one["end"] is not None:
            text += f"; at the end of the sequence {gain.shown(one['end'])}"
        kept = one["retained_share"]
        if kept["value"] is not None:
            around = f"{kept['value']:.2f} {interval('share', kept['interval'])}".rstrip()
            text += f", which keeps {around} of the gain"
        texts.setdefault(name, []).append(text)
    for name, of in texts.items():
        yield f"Learning a passage (mitigation {name}): {'; '.join(of)}."


def compared(results: Mapping[str, Any]) -> dict[str, list[tuple[str, Gain]]]:
    """What is compared, with its gains, by the name of the metric: for a forest plot."""
    found = results.get("arms", {})
    # The pairs are in the order of tables.
    over = dict.fromkeys(
        of["names"][0] for of in results.get("pairs", ()) if of["names"][1] == "base"
    )
    rows = [(found[name]["label"], gain) for name in over for gain in gains(results, name, "base")]
    rows += [
        (f"RL: {found[pair[0]]['label']} − {found[pair[1]]['label']}", gain)
        for pair in compared_rl(results)
        if "base" not in pair
        for gain in gains(results, *pair)
    ]
    rows += [(f"a passage learned, mitigation {name}", gain) for name, gain in _learned(results)]
    if planted := results.get("planted_reward"):
        rows.append(("RL", _planted(planted)))
    names = dict.fromkeys(gain.name for _, gain in rows)
    return {name: [row for row in rows if row[1].name == name] for name in names}


def next_step(results: Mapping[str, Any]) -> str:
    """What to try next: one thing, by what the figures leave open."""
    return f"Next: {_next(results)}."


def _next(results: Mapping[str, Any]) -> str:
    found, second = results.get("arms", {}), headline(results)
    if "incomplete" in results:
        return "mend what the judge needs; the same command grades what is left, and trains nothing"
    if "continual" in results:
        tried = "', '".join(dict.fromkeys([*results["continual"], "none", "kl", "replay"]))
        return f"compare mitigations: --config.continual.mitigations=\"('{tried}')\""
    if "filter" in results:
        return "train on those that are solved: results.json names them"
    if "planted_reward" in results:
        return "a reward of what is learned: --config.reward.kind=gold_log_likelihood"
    if not second or "base" not in found:
        return "compare: --config.evaluation.arms=\"('base', 'edit_before', 'edit_after')\""
    own = gains(results, second, "base")
    signs, fixed = {gain.sign for gain in own}, "learning_rate" in found[second]
    if max(gain.contexts for gain in own) < 2:
        return "evaluate on more contexts: one says nothing about others"
    if 1 not in signs and -1 in signs and fixed:
        rate = found[second]["learning_rate"]
        return f"a gentler update: --config.inner.learning_rate={rate / 3:.1g} (it was {rate:g})"
    if 1 not in signs:
        epochs = found[second].get("epochs")
        longer = f", or --config.inner.epochs={2 * epochs} (it was {epochs})" if fixed else ""
        return f"evaluate on four times as many contexts, which halves the intervals{longer}"
    if "bench" in results:
        if any(gain.sign for gain in _compared(results).values()):
            return "another model or seed in another --workdir, to see whether it holds there"
        return "four times as many passages, which halves the intervals"
    if not {"edit_after_base", "edit_after"} & found.keys():
        return "`seal train` with --config.restem.rounds=2, to see what RL adds"
    if "edit_before" not in found:
        return "add 'edit_before' to evaluation.arms, to see what RL adds"
    known = compared_rl(results)
    if not any(gain.sign == 1 for gain in gains(results, *known[0])):
        edits = results["config"]["evaluation"]["edits"]
        return (
            f"measure finer: --config.evaluation.edits={4 * edits} (it was {edits}) and four times "
            "as many contexts; or more self-edits to choose from, --config.edits.samples="
            f"{2 * results['config']['edits']['samples']}"
        )
    if not any(control in second for _, second in known for control in arms.CONTROLS):
        return "add 'edit_random_base' to evaluation.arms, to see whether any training does as much"
    return "other seeds: --config.seed=1 in another --workdir, then `seal compare`"


def one_question(run: RunRecords) -> str:
    """A question before and after adapting, the one whose answer gained most; "" for none."""
    main = run.metrics[0]
    found = [one for one in _answered(run) if _text(one[2])]
    if not found:
        return ""
    id, before, after = max(found, key=lambda one: _rank(main, *one[1:]))
    context = run.contexts.get(id)
    asked = {one.id: one for one in context.questions} if context else {}
    question = asked.get(after["question"])
    lines = [
        f"The question that gained most, of {context.title if context else id}:",
        f"  {_cut(question.text) if question else after['question']}",
        *(
            f"  {name} {_text(answer) or '(empty)'} ({_mark(main, answer)})"
            for name, answer in (("before:", before), ("after: ", after))
        ),
    ]
    right = [f"  right:  {_cut(question.answer)}"] if question and question.answer else []
    return "\n".join(lines + right)


def _answered(run: RunRecords) -> Iterator[tuple[str, Record, Record]]:
    """A context's id, and the answers to one of its questions before and after adapting."""
    plain = run.stages.get(Stage(kind="unadapted", split="eval", what="base").name)
    name = Stage(kind="arm", split="eval", what=headline(run.results)).name
    of = run.stages.get(name)
    if run.continual:
        learning = (of for of in run.stages.values() if of.stage.kind == "continual" and of.trials)
        of = plain = next(learning, None)
    if of is None or plain is None:
        return
    adapted = dict(of.answers) if not of.trials else {}
    for trial in of.trials:
        adapted.setdefault(trial["context"], trial)
    for id, after in adapted.items():
        before = {one["question"]: one for one in plain.answers.get(id, {}).get("answers", ())}
        for answer in after["answers"]:
            if answer["question"] in before:
                yield id, before[answer["question"]], answer


def _rank(main: Metric, before: Record, after: Record) -> tuple[float, float]:
    """By how much an answer gained: in the main metric, then in likelihood."""

    def gained(name: str) -> float:
        second, first = value_of(after, name), value_of(before, name)
        return 0.0 if second is None or first is None else second - first

    return gained(main.name), gained(GOLD_LOG_LIKELIHOOD.name)


def _mark(main: Metric, answer: Record) -> str:
    value = value_of(answer, main.name)
    if value is None:
        return "not graded"
    return {0.0: "wrong", 1.0: "right"}.get(value, number(main, value, unit=True))


def _text(answer: Record) -> str:
    """What was answered: a text, or the first of several attempts, its rows one after another."""
    if answer.get("attempts"):
        return _cut(" ".join("".join(map(str, row)) for row in answer["attempts"][0]))
    return _cut(answer.get("text") or "")


def _cut(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
