"""Verb: evaluate. Every arm on held-out contexts, compared."""

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Unpack

from seal_jax.loop import answering, attempt, comparison, preflight, results, rewards, tuning
from seal_jax.loop import arms as arms_lib
from seal_jax.loop import policies as policies_lib
from seal_jax.loop import sources as sources_lib
from seal_jax.loop.arms import Arm
from seal_jax.loop.contexts import asked, measures_arms
from seal_jax.loop.job import How, run_job
from seal_jax.loop.policies import Policy
from seal_jax.loop.pretrain import pretrain
from seal_jax.loop.results import Outcome
from seal_jax.loop.run import Run
from seal_jax.loop.sources import Sources
from seal_jax.loop.stage import Stage
from seal_jax.runs import storage
from seal_jax.runs.ledger import Ledger
from seal_jax.settings import Settings
from seal_jax.stats import intervals
from seal_jax.stats.intervals import mean
from seal_jax.tasks.protocol import Context, View

Record = dict[str, Any]
# All arms draw with the same keys (common random numbers), so that they differ by what they are.
DRAW = "eval"


def evaluate(
    settings: Settings,
    workdir: str,
    *,
    policy_from: str = "",
    policy_version: int = 0,
    **how: Unpack[How],
) -> dict[str, Any]:
    """Runs or continues an evaluation alone in `workdir`; see `job.run_job`.

    Args:
      policy_from: the directory of a run whose last policy is the one "after RL"; without it that
        arm is left out.
      policy_version: the policy after that round instead of the last one.

    Raises:
      SettingsError: nothing is left to evaluate; and as `run_job` does.
    """

    def work(run: Run) -> dict[str, Any]:
        known = ["base", "policy"] if policy_from else ["base"]
        ready = preflight.check(run, rounds=0, known=known)
        policies = {"base": Policy(run, 0)}
        if policy_from:
            policy = policies_lib.restore_policy(run, policy_from, policy_version)
            policies["policy"] = policy
            with Ledger(f"{policy_from}/ledger", read_only=True) as records:
                return compare(run, policies, ready, selections(records, policy.version))
        return compare(run, policies, ready)

    given: Record = {"policy_from": policy_from, "policy_version": policy_version}
    if settings.data.edits:
        content = storage.read_bytes(storage.locate(settings.data.edits))
        given["edits_sha256"] = hashlib.sha256(content).hexdigest()
    return run_job(settings, workdir, work, **how, **given)


def selections(records: Ledger, rounds: int) -> list[Record]:
    """What the rounds that made a policy selected, as far as it is recorded."""
    names = [Stage(kind="round", round=n).name for n in range(1, rounds + 1)]
    return list(filter(None, (records.find("selection", name) for name in names)))


def compare(
    run: Run,
    policies: Mapping[str, Policy],
    ready: preflight.Ready,
    selections: Sequence[Record] = (),
) -> dict[str, Any]:
    """Runs the arms, reports to the terminal, and returns the results.

    Args:
      policies: "base", and those of arms.POLICIES that there are.
      selections: of the rounds of "policy", see `select`.
    """
    session, settings, contexts = run.session, run.session.settings, ready.held_out
    draws = {"seed": settings.seed, "draws": settings.evaluation.bootstrap_draws}
    tried = sources_lib.best_tried(selections)
    constant = tried["head"] if tried else ""
    sources = Sources(run, policies, contexts, "eval", ready.training, constant=constant)
    if not measures_arms(session, contexts):
        before, after = (
            rewards.of_texts(
                run,
                contexts,
                [[edit.text for edit in of] for of in sources.edits(editor)],
                Stage(kind="edits", split="eval", what=editor),
            )
            for editor in ("base", "policy")
        )
        means = {"before": mean(map(mean, before)), "after": mean(map(mean, after))}
        found: Record = {"planted_reward": means | intervals.paired(after, before, **draws)}
    else:
        outcomes = evaluate_arms(run, policies, sources)
        found = results.of(outcomes, session.task, asked(session, contexts), **draws)
        found["grader"] = session.task.graded_by(session.grader)
        if session.task.directs:
            lessons = sources.lessons.items()
            described = {name: session.task.describe(of) for name, of in lessons}
            found["directives"] = {  # of what has heads, unlike the context alone
                name: of for name, of in described.items() if of["valid"] or of["invalid"]
            }
            found["best_fixed"] = sources.best
            if tried:
                found["best_tried"] = tried
        if settings.evaluation.unrelated:
            found["unrelated"] = results.unrelated(outcomes, **draws)
        if names := comparison.stored(session.task):
            found["bench"] = comparison.of(found, names, session, **draws)
    results.report(run, found, sources.written, contexts)
    if "bench" in found:
        run.say("\n" + comparison.said(found))
    left_out = {split: of.left_out for split, of in ready.available.items()}
    return found | {
        "left_out": left_out,
        "differs_from_paper_split": session.task.difference("eval"),
    }


def evaluate_arms(run: Run, policies: Mapping[str, Policy], sources: Sources) -> list[Outcome]:
    """Runs the arms that the settings name, in the order of `arms.table`."""
    session, settings = run.session, run.session.settings.evaluation
    contexts = asked(session, sources.contexts)
    rows = arms_lib.rows(session.task, settings.arms, list(policies))
    learning = {name: arm for name, arm in rows.items() if arm.learns}
    recipes = tuning.Recipes(run, policies, learning)
    sources = dataclasses.replace(sources, compared=tuple(learning.values()))
    outcomes = []
    for name, arm in rows.items():
        learner = policies[arm.learner]
        if not arm.learns:
            plain = _unadapted(run, arm, learner, contexts)
            outcomes.append(Outcome(name, arm, [[plain[c.id]] for c in contexts]))
        elif settings.form == "corpus":
            recipe = recipes.corpus(name, arm)
            stage = Stage(kind="arm", split="eval", what=name)
            found, trained = pretrain(run, learner, sources, arm, recipe, stage=stage)
            marks = [[found[context.id]] for context in contexts]
            outcomes.append(Outcome(name, arm, marks, recipe=trained))
        else:
            outcomes.append(_adapted(run, name, arm, learner, sources, recipes.inner(name, arm)))
    return outcomes


def _unadapted(
    run: Run, arm: Arm, learner: Policy, contexts: Sequence[Context]
) -> dict[str, Record]:
    """What an arm's learner answers as it is, by context id."""
    view: View = "reading" if arm.view == "reading" else "unadapted"
    what = "prompt" if view == "reading" else arm.learner
    stage = Stage(kind="unadapted", split="eval", what=what)
    width = run.session.width(contexts, view)
    return attempt.answer(run, learner, contexts, stage=stage, width=width, view=view)


def _adapted(
    run: Run, name: str, arm: Arm, learner: Policy, sources: Sources, recipe: tuple[float, int]
) -> Outcome:
    """An arm with a delta for each context and lesson.

    Args:
      recipe: learning rate and epochs of lessons without directives; 0 is as `inner` says.
    """
    session, contexts, (rate, epochs) = run.session, sources.contexts, recipe
    lessons = sources.of(arm)
    others = [contexts[i] for i in arms_lib.derangement(contexts)] if len(contexts) > 1 else None
    tried = attempt.candidates(
        session, contexts, lessons, others=others, learning_rate=rate, epochs=epochs,
        times=sources.times(arm),
    )  # fmt: skip
    unrelated = session.unrelated(session.settings.evaluation.unrelated)
    stage = Stage(kind="arm", split="eval", what=name)
    width = session.width(contexts)
    records, tokens = attempt.attempt(
        run, learner, tried, stage=stage, width=width, draw=DRAW, unrelated=unrelated
    )
    trained: Record = {"trained_tokens": tokens.real, "computed_tokens": tokens.computed}
    trained["steps"] = sum(record.get("steps", 0) for record in records)
    if not any(record.get("head") for record in records):
        inner = session.settings.inner
        trained |= {"learning_rate": rate or inner.learning_rate, "epochs": epochs or inner.epochs}
    count = len(lessons[0])
    by_context = [records[i : i + count] for i in range(0, len(records), count)]
    plain: dict[str, Record] = {}
    if not all(record["answers"] for record in records) or any(
        metric.failed is not None for metric in session.task.metrics
    ):
        plain = _unadapted(run, arm, learner, asked(session, contexts))
    found = results.of_trials(name, arm, contexts, by_context, plain, trained, session.task)
    if not unrelated:
        return found
    before = _unrelated_loss(run, arm, learner, unrelated)
    rises = [[_rise(of.get("unrelated"), before) for of in records] for records in by_context]
    return dataclasses.replace(found, rises=rises)


def _unrelated_loss(
    run: Run, arm: Arm, learner: Policy, texts: Sequence[Sequence[int]]
) -> float | None:
    """The loss of an arm's learner as it is on unrelated texts, nats a token."""

    def work() -> Record:
        how: Record = {"models": 1, "count": 1}
        [loss] = answering.text_losses(run.session, learner.params, None, texts, **how)
        return {"loss": loss}

    return run.once("unrelated", arm.learner, work, together=True)["loss"]


def _rise(after: float | None, before: float | None) -> float | None:
    return None if after is None or before is None else after - before
