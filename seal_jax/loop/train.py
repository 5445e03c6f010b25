"""The main job: ReST-EM rounds, then the evaluation of every arm on other articles."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from seal_jax.core import restem
from seal_jax.loop import (
    arms,
    comparison,
    contexts,
    plan,
    policies,
    rewards,
    selection,
    stages,
    writing,
)
from seal_jax.loop.job import run_job
from seal_jax.loop.policies import Policy
from seal_jax.loop.run import Run
from seal_jax.loop.writing import Edit
from seal_jax.settings import Settings
from seal_jax.tasks.protocol import Context

Record = dict[str, Any]


def train(
    settings: Settings, workdir: str, *, overwrite: bool = False, quiet: bool = False
) -> dict[str, Any]:
    """Runs or continues the main job in `workdir`; see `job.run_job`."""

    def work(run: Run) -> dict[str, Any]:
        arms.check_format(run.session, settings.restem.rounds)
        available = {split: contexts.available(run.session, split) for split in ("train", "eval")}
        rounds = contexts.training_rounds(run.session, available["train"])
        held_out = contexts.held_out(run.session, available["eval"])
        run.say(plan.describe(run.session, rounds, held_out))
        training = [context for chosen in rounds for context in chosen]
        run.session.check_positions([*training, *held_out])
        run.session.check_positions(held_out, passage="prompt" in settings.evaluation.arms)
        width = run.session.query_width(training)
        found = {"base": Policy(run, 0)}
        found["policy"], learned = restem_rounds(run, rounds, width)
        for control in arms.controls(settings.evaluation.arms):
            found[control] = control_rounds(run, rounds, control)
        return comparison.compare_policies(run, found, held_out) | {
            "rounds": learned,
            "left_out": {split: known.left_out for split, known in available.items()},
            "differs_from_paper_split": run.session.task.difference("eval"),
        }

    return run_job(settings, workdir, work, overwrite=overwrite, quiet=quiet)


def restem_rounds(
    run: Run, rounds: Sequence[Sequence[Context]], width: int
) -> tuple[Policy, list[Record]]:
    """ReST-EM: each round samples from, adapts and trains the policy of the round before.

    Returns:
      The last policy, and a summary of each round.
    """
    policy = Policy(run, 0)
    summaries: list[Record] = []
    kept: list[restem.Row] = []
    for number, chosen in enumerate(rounds, start=1):
        stage = f"round {number}"
        rows, summary = e_step(run, policy, chosen, stage=stage, width=width)
        kept = rows if run.session.settings.restem.keep_data == "round" else [*kept, *rows]
        policy = policies.m_step(run, policy, kept, stage=stage)
        summaries.append(summary)
    return policy, summaries


def control_rounds(run: Run, rounds: Sequence[Sequence[Context]], control: arms.Control) -> Policy:
    """The rounds once more with a selection that knows no reward; no inner loop is run.

    The first round selects from SEAL's own self-edits; later ones sample from the control's policy.

    Args:
      control: "random" keeps one self-edit of a context by chance, "longest" the longest.
    """
    settings = run.session.settings
    policy = Policy(run, 0)
    kept: list[restem.Row] = []
    for number, chosen in enumerate(rounds, start=1):
        own = f"round {number}"
        stage = f"{control} {own}"
        prompts = writing.edit_prompts(run.session, chosen)
        edits = stages.sample(
            run,
            policy.params,
            prompts,
            stage=own if number == 1 else stage,
            samples=settings.edits.samples,
            draw=own,
        )
        # No reward is known; only what cannot be trained on is never kept.
        known_CxM = np.where(_says_something(run, chosen, edits), 0.0, np.nan)
        rule = restem.SelectionRule(control)
        rows, _ = selection.select(run, prompts, edits, known_CxM, None, rule, stage=stage)
        kept = rows if settings.restem.keep_data == "round" else [*kept, *rows]
        policy = policies.m_step(run, policy, kept, stage=stage, line=control)
    return policy


def e_step(
    run: Run, policy: Policy, contexts: Sequence[Context], *, stage: str, width: int
) -> tuple[list[restem.Row], Record]:
    """Samples, tries, scores and selects; returns the kept rows and a summary of the round."""
    session, settings = run.session, run.session.settings
    count, reward = settings.edits.samples, settings.reward
    prompts = writing.edit_prompts(session, contexts)
    edits = stages.sample(
        run,
        policy.params,
        prompts,
        stage=stage,
        samples=count,
    )
    baselines_C = None
    if reward.needs_inner_loop:
        plain = stages.answer(run, lambda: policy.params, contexts, stage=stage, width=width)
        baselines_C = [rewards.score([{"answers": plain[c.id]}], reward) for c in contexts]
        others = [contexts[i] for i in arms.derangement(contexts)] if reward.retention else None
        candidates = stages.candidates_of(
            session,
            contexts,
            [
                [session.task.sequences(context, edit.text) for edit in of_context]
                for context, of_context in zip(contexts, edits, strict=True)
            ],
            replicates=reward.replicates,
            ask=others,
        )
        records, _ = stages.try_all(run, policy.params, candidates, stage=stage, width=width)
        scores = [
            rewards.score(records[i : i + reward.replicates], reward)
            for i in range(0, len(records), reward.replicates)
        ]
        rewards_CxM = np.array(scores).reshape(len(contexts), count)
        if others:
            lost = [
                rewards.forgetting(
                    records[i : i + reward.replicates],
                    plain[others[i // (count * reward.replicates)].id],
                )
                for i in range(0, len(records), reward.replicates)
            ]
            rewards_CxM -= reward.retention * np.reshape(lost, rewards_CxM.shape)
    else:
        if reward.kind == "rubric":
            scored = stages.score_by_rubric(run, contexts, edits, stage=stage)
        else:
            scored = rewards.text_scores(reward, edits)
        rewards_CxM = np.where(_says_something(run, contexts, edits), scored, np.nan)
    rule = settings.restem.selection_rule()
    rows, weights_CxM = selection.select(
        run, prompts, edits, rewards_CxM, baselines_C, rule, stage=stage
    )
    summary = selection.summarize(
        run,
        [context.id for context in contexts],
        rewards_CxM,
        weights_CxM,
        float(np.nanmean(baselines_C)) if baselines_C else None,
        stage=stage,
    )
    return rows, summary


def _says_something(
    run: Run, contexts: Sequence[Context], edits: Sequence[Sequence[Edit]]
) -> np.ndarray:
    """[C, M]: whether a self-edit holds anything to train on; others have no reward."""
    return np.array(
        [
            [bool(run.session.task.sequences(context, edit.text)) for edit in of_context]
            for context, of_context in zip(contexts, edits, strict=True)
        ]
    )
