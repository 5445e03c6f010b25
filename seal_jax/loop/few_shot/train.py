"""The main job of few-shot learning: ReST-EM on training tasks, then every arm on other tasks."""

from typing import Any

import numpy as np

from seal_jax.core import restem
from seal_jax.loop import policies, selection
from seal_jax.loop.few_shot import arms, recipes, session, stages
from seal_jax.loop.few_shot.session import FewShotSession
from seal_jax.loop.few_shot.trials import Examples
from seal_jax.loop.job import run_job
from seal_jax.loop.policies import Policy
from seal_jax.loop.run import Run
from seal_jax.settings import Settings, SettingsError

Record = dict[str, Any]


def train(
    settings: Settings, workdir: str, *, overwrite: bool = False, quiet: bool = False
) -> dict[str, Any]:
    """Runs or continues the main job in `workdir`; see `job.run_job`."""

    def work(run: Run[FewShotSession]) -> dict[str, Any]:
        check_tasks(run, needs_training=bool(settings.restem.rounds))
        examples = Examples(run.session)
        policy, learned = restem_rounds(run, examples)
        found = {"base": Policy(run, 0)}
        if settings.restem.rounds:
            found["policy"] = policy
        return arms.evaluate(run, found, examples) | {
            "rounds": learned,
            "left_out": run.session.left_out,
        }

    return run_job(
        settings,
        workdir,
        work,
        overwrite=overwrite,
        quiet=quiet,
        open_session=session.open_session,
    )


def evaluate(
    settings: Settings,
    workdir: str,
    *,
    policy_from: str = "",
    policy_version: int = 0,
    overwrite: bool = False,
    quiet: bool = False,
) -> dict[str, Any]:
    """Runs or continues an evaluation alone in `workdir`; see `evaluate.evaluate`."""
    if not policy_from and not arms.rows(settings.few_shot.arms, ["base"]):
        raise SettingsError(
            "there is nothing to evaluate without a trained policy: give --policy_from=RUN, or "
            "another of few_shot.arms."
        )

    def work(run: Run[FewShotSession]) -> dict[str, Any]:
        check_tasks(run, needs_training="fixed" in settings.few_shot.arms)
        found = {"base": Policy(run, 0)}
        if policy_from:
            found["policy"] = policies.restore_policy(run, policy_from, policy_version)
        return arms.evaluate(run, found, Examples(run.session)) | {"left_out": run.session.left_out}

    return run_job(
        settings,
        workdir,
        work,
        overwrite=overwrite,
        quiet=quiet,
        open_session=session.open_session,
        policy_from=policy_from,
        policy_version=policy_version,
    )


def check_tasks(run: Run[FewShotSession], *, needs_training: bool) -> None:
    """Refuses a run without tasks, and says which were left out.

    Raises:
      SettingsError: a split has no task that fits, or the splits share one.
    """
    opened = run.session
    for split, reasons in opened.left_out.items():
        if reasons:
            id, reason = next(iter(reasons.items()))
            run.say(f"{len(reasons)} tasks to {split} are left out, such as {id}: {reason}")
        needed = needs_training or split == "eval"
        if needed and not opened.tasks[split]:
            raise SettingsError(
                f"no task of few_shot.{split} fits this run: name others in "
                f"few_shot.{split}_tasks, or raise the limits named above."
            )
    shared = {t.id for t in opened.tasks["train"]} & {t.id for t in opened.tasks["eval"]}
    if needs_training and shared:
        raise SettingsError(
            f"task {min(shared)} is both trained on and evaluated: set few_shot.train_tasks and "
            "few_shot.eval_tasks to different ones."
        )


def restem_rounds(run: Run[FewShotSession], examples: Examples) -> tuple[Policy, list[Record]]:
    """ReST-EM: each round samples from, adapts and trains the policy of the round before.

    Every round has all training tasks, as in SEAL.

    Returns:
      The last policy, and a summary of each round.
    """
    settings = run.session.settings.restem
    policy = Policy(run, 0)
    summaries: list[Record] = []
    kept: list[restem.Row] = []
    for number in range(1, settings.rounds + 1):
        stage = f"round {number}"
        rows, summary = e_step(run, policy, examples, stage=stage)
        kept = rows if settings.keep_data == "round" else [*kept, *rows]
        policy = policies.m_step(run, policy, kept, stage=stage)
        summaries.append(summary)
    return policy, summaries


def e_step(
    run: Run[FewShotSession], policy: Policy, examples: Examples, *, stage: str
) -> tuple[list[restem.Row], Record]:
    """Samples, tries, scores and selects recipes; returns the kept rows and a summary."""
    opened, settings = run.session, run.session.settings
    tasks = opened.tasks["train"]
    count, replicates = settings.edits.samples, settings.reward.replicates
    edits = stages.sample(run, policy.params, tasks, stage=stage, samples=count)
    wanted = stages.read(run, edits)
    candidates = [
        examples.candidate(task, one, index=m, replicate=replicate)
        for task, of_task in zip(tasks, wanted, strict=True)
        for m, one in enumerate(of_task)
        for replicate in range(replicates)
    ]
    records, _ = stages.try_all(run, policy.params, candidates, stage=stage)
    plain = stages.answer(run, lambda: policy.params, tasks, stage=stage)
    rewards = [stages.reward(record, settings.few_shot) for record in records]
    rewards_CxMxR = np.array(rewards, float).reshape(len(tasks), count, replicates)
    known_CxM = (~np.isnan(rewards_CxMxR)).sum(axis=2)
    sums_CxM = np.nansum(rewards_CxMxR, axis=2)
    rewards_CxM = np.where(known_CxM, sums_CxM / np.maximum(known_CxM, 1), np.nan)
    baselines = [
        stages.reward({**plain[task.id], "reason": None}, settings.few_shot) for task in tasks
    ]
    rows, weights_CxM = selection.select(
        run,
        opened.edit_prompts(tasks),
        edits,
        rewards_CxM,
        [float("nan") if value is None else value for value in baselines],
        settings.restem.selection_rule(),
        stage=stage,
        automaton=opened.automaton,
    )
    summary = selection.summarize(
        run,
        [task.id for task in tasks],
        rewards_CxM,
        weights_CxM,
        float(np.mean(np.array(baselines, float))),
        stage=stage,
    )
    return rows, summary | {"recipes": recipes.describe(wanted)}
