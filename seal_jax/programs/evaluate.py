"""Evaluation alone: the arms of the base model and, if asked, of a policy that a run trained."""

import dataclasses
from typing import Any

from seal_jax.programs import arms, contexts, stages
from seal_jax.programs.job import run_job
from seal_jax.programs.stages import Run
from seal_jax.settings import Settings


def evaluate(
    settings: Settings,
    workdir: str,
    *,
    policy_from: str = "",
    overwrite: bool = False,
    quiet: bool = False,
) -> dict[str, Any]:
    """Runs or continues an evaluation in `workdir`; see `job.run_job`.

    Args:
      policy_from: the directory of a run whose last policy is the one "after RL"; without it that
        arm is left out.
    """
    if not policy_from:
        kept = tuple(arm for arm in settings.evaluation.arms if arm != "edit_after")
        evaluation = dataclasses.replace(settings.evaluation, arms=kept)
        settings = dataclasses.replace(settings, evaluation=evaluation)

    def work(run: Run) -> dict[str, Any]:
        held_out = contexts.held_out(run.session)
        base = stages.merged(run, 0, ())
        policy = stages.restore_policy(run, policy_from) if policy_from else base
        width = run.session.query_width(held_out)
        return arms.evaluate_policies(run, base, policy, held_out, width=width)

    return run_job(
        settings, workdir, work, overwrite=overwrite, quiet=quiet, policy_from=policy_from
    )
