"""Evaluation alone: the arms of the base model and, if asked, of a policy that a run trained."""

import dataclasses
from typing import Any

from seal_jax.loop import arms, comparison, contexts, policies
from seal_jax.loop.job import run_job
from seal_jax.loop.policies import Policy
from seal_jax.loop.run import Run
from seal_jax.settings import Settings, SettingsError


def evaluate(
    settings: Settings,
    workdir: str,
    *,
    policy_from: str = "",
    policy_version: int = 0,
    overwrite: bool = False,
    quiet: bool = False,
) -> dict[str, Any]:
    """Runs or continues an evaluation in `workdir`; see `job.run_job`.

    Args:
      policy_from: the directory of a finished run whose last policy is the one "after RL"; without
        it that arm is left out.
      policy_version: the policy after that round instead of the last one.

    Raises:
      SettingsError: nothing is left to evaluate; and as `run_job` does.
    """
    if not policy_from:
        kept = tuple(arms.rows(settings.evaluation.arms, ["base"]))
        if not kept or settings.reward.kind == "pattern":
            raise SettingsError(
                "there is nothing to evaluate without a trained policy: give --policy_from=RUN, or "
                "another of evaluation.arms (and no planted reward)."
            )
        held = dataclasses.replace(settings.evaluation, arms=kept)
        settings = dataclasses.replace(settings, evaluation=held)

    def work(run: Run) -> dict[str, Any]:
        arms.check_format(run.session, rounds=0)
        available = contexts.available(run.session, "eval")
        held_out = contexts.held_out(run.session, available)
        run.session.check_positions(held_out, passage="prompt" in settings.evaluation.arms)
        found = {"base": Policy(run, 0)}
        if policy_from:
            found["policy"] = policies.restore_policy(run, policy_from, policy_version)
        return comparison.compare_policies(run, found, held_out) | {
            "left_out": {"eval": available.left_out},
            "differs_from_paper_split": run.session.task.difference("eval"),
        }

    return run_job(
        settings,
        workdir,
        work,
        overwrite=overwrite,
        quiet=quiet,
        policy_from=policy_from,
        policy_version=policy_version,
    )
