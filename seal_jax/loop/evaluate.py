"""Verb: evaluate. Every arm on held-out contexts, compared."""

from collections.abc import Mapping, Sequence
from typing import Any

from seal_jax.loop import arms as arms_lib
from seal_jax.loop import attempt, preflight, results, rewards, tuning
from seal_jax.loop import policies as policies_lib
from seal_jax.loop.arms import Arm
from seal_jax.loop.contexts import asked
from seal_jax.loop.job import run_job
from seal_jax.loop.policies import Policy
from seal_jax.loop.pretrain import pretrain
from seal_jax.loop.results import Outcome
from seal_jax.loop.run import Run
from seal_jax.loop.sources import Sources
from seal_jax.loop.stage import Stage
from seal_jax.settings import Settings
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
    reuse: Sequence[str] = (),
    overwrite: bool = False,
    quiet: bool = False,
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
            policies["policy"] = policies_lib.restore_policy(run, policy_from, policy_version)
        return compare(run, policies, ready.held_out) | ready.results()

    return run_job(
        settings,
        workdir,
        work,
        reuse=reuse,
        overwrite=overwrite,
        quiet=quiet,
        policy_from=policy_from,
        policy_version=policy_version,
    )


def compare(
    run: Run, policies: Mapping[str, Policy], contexts: Sequence[Context]
) -> dict[str, Any]:
    """Runs the arms, reports to the terminal, and returns the results.

    Args:
      policies: "base", and those of arms.POLICIES that there are.
    """
    session, settings = run.session, run.session.settings
    draws = {"seed": settings.seed, "draws": settings.evaluation.bootstrap_draws}
    training = preflight.training_contexts(session)
    sources = Sources(run, policies, contexts, "eval", training)
    if settings.reward.kind == "pattern":
        before, after = (
            rewards.of_texts(
                settings.reward, [[edit.text for edit in of] for of in sources.edits(editor)]
            )
            for editor in ("base", "policy")
        )
        found: Record = {"planted_reward": results.planted(before, after, **draws)}
    else:
        outcomes = evaluate_arms(run, policies, sources)
        found = results.of(outcomes, session.task, asked(session, contexts), **draws)
        found["grader"] = session.task.graded_by(session.grader)
        if session.task.directs:
            described = {
                name: session.task.describe(lessons) for name, lessons in sources.lessons.items()
            }
            found["directives"] = described
            found["best_fixed"] = sources.best
    results.report(run, found, sources.written, contexts)
    return found


def evaluate_arms(run: Run, policies: Mapping[str, Policy], sources: Sources) -> list[Outcome]:
    """Runs the arms that the settings name, in the order of `arms.table`."""
    session, settings = run.session, run.session.settings.evaluation
    contexts = asked(session, sources.contexts)
    recipes = tuning.Recipes(run, policies)
    outcomes = []
    for name, arm in arms_lib.rows(session.task, settings.arms, list(policies)).items():
        plain = _Plain(run, arm, policies[arm.learner], contexts)
        if not arm.learns:
            outcomes.append(Outcome(name, arm, [[plain.answers[c.id]] for c in contexts]))
        elif settings.form == "corpus":
            recipe = recipes.corpus(name, arm)
            stage = Stage(kind="arm", split="eval", what=name)
            found, trained = pretrain(run, policies[arm.learner], sources, arm, recipe, stage=stage)
            marks = [[found[context.id]] for context in contexts]
            outcomes.append(Outcome(name, arm, marks, recipe=trained))
        else:
            outcomes.append(_adapted(run, name, arm, policies, sources, recipes, plain))
    return outcomes


class _Plain:
    """What an arm's learner answers as it is; asked when it is first needed."""

    def __init__(self, run: Run, arm: Arm, policy: Policy, contexts: Sequence[Context]):
        self._run, self._arm, self._policy, self._contexts = run, arm, policy, contexts
        self._answers: dict[str, Record] | None = None

    @property
    def answers(self) -> dict[str, Record]:
        """By context id."""
        if self._answers is None:
            view: View = "reading" if self._arm.view == "reading" else "unadapted"
            what = "prompt" if view == "reading" else self._arm.learner
            self._answers = attempt.answer(
                self._run,
                self._policy,
                self._contexts,
                stage=Stage(kind="unadapted", split="eval", what=what),
                width=self._run.session.width(self._contexts, view),
                view=view,
            )
        return self._answers


def _adapted(
    run: Run,
    name: str,
    arm: Arm,
    policies: Mapping[str, Policy],
    sources: Sources,
    recipes: tuning.Recipes,
    plain: _Plain,
) -> Outcome:
    """An arm with a delta for each context and lesson."""
    session, contexts = run.session, sources.contexts
    rate, epochs = recipes.inner(name, arm)
    lessons = sources.of(arm)
    others = None
    if len(contexts) > 1:
        others = [contexts[i] for i in arms_lib.derangement(contexts)]
    tried = attempt.candidates(
        session, contexts, lessons, others=others, learning_rate=rate, epochs=epochs
    )
    records, tokens = attempt.attempt(
        run,
        policies[arm.learner],
        tried,
        stage=Stage(kind="arm", split="eval", what=name),
        width=session.width(contexts),
        draw=DRAW,
    )
    recipe: Record = {"trained_tokens": tokens.real, "computed_tokens": tokens.computed}
    if not any(record.get("head") for record in records):
        inner = session.settings.inner
        recipe |= {"learning_rate": rate or inner.learning_rate, "epochs": epochs or inner.epochs}
    count = len(lessons[0])
    by_context = [records[i : i + count] for i in range(0, len(records), count)]
    failed = any(not record["answers"] for record in records)
    needed = failed or any(metric.failed is not None for metric in session.task.metrics)
    return results.of_trials(
        name, arm, contexts, by_context, plain.answers if needed else {}, recipe, session.task
    )
