"""The main job: ReST-EM rounds, then the evaluation of every arm on other articles."""

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from seal_jax import restem
from seal_jax.programs import comparison, contexts, stages
from seal_jax.programs.job import run_job
from seal_jax.programs.session import Session
from seal_jax.programs.stages import Policy, Run
from seal_jax.programs.trials import Record
from seal_jax.settings import Settings
from seal_jax.tasks.base import Context


def train(
    settings: Settings, workdir: str, *, overwrite: bool = False, quiet: bool = False
) -> dict[str, Any]:
    """Runs or continues the main job in `workdir`; see `job.run_job`."""

    def work(run: Run) -> dict[str, Any]:
        rounds = contexts.training_rounds(run.session)
        held_out = contexts.held_out(run.session)
        run.say(plan(run.session, rounds, held_out))
        training = [context for chosen in rounds for context in chosen]
        run.session.check_lengths([*training, *held_out])
        policy, learned = restem_rounds(run, rounds, run.session.query_width(training))
        base = stages.merged(run, 0, ())
        return comparison.compare_policies(run, base, policy, held_out) | {"rounds": learned}

    return run_job(settings, workdir, work, overwrite=overwrite, quiet=quiet)


def restem_rounds(
    run: Run, rounds: Sequence[Sequence[Context]], width: int
) -> tuple[Policy, list[Record]]:
    """ReST-EM: each round samples from, adapts and trains the policy of the round before.

    Returns:
      The last policy, and a summary of each round.
    """
    policy = stages.merged(run, 0, ())
    summaries: list[Record] = []
    kept: list[restem.Row] = []
    for number, chosen in enumerate(rounds, start=1):
        stage = f"round {number}"
        rows, summary = e_step(run, policy, chosen, stage=stage, width=width)
        kept = rows if run.session.settings.restem.keep_data == "round" else [*kept, *rows]
        policy = stages.m_step(run, policy, kept, stage=stage)
        summaries.append(summary)
    return policy, summaries


def e_step(
    run: Run, policy: Policy, contexts: Sequence[Context], *, stage: str, width: int
) -> tuple[list[restem.Row], Record]:
    """Samples, tries, scores and selects; returns the kept rows and a summary of the round."""
    settings = run.session.settings
    count = settings.edits.samples
    edits = stages.sample(run, policy, contexts, stage=stage, samples=count)
    baselines_C = None
    if settings.reward.kind == "pattern":
        rewards_CxM = np.array(stages.pattern_scores(settings.reward.pattern, edits))
    else:
        plain = stages.unadapted(run, policy, contexts, stage=stage, width=width)
        baselines_C = [
            stages.score([{"answers": plain[c.id]}], settings.reward.kind) for c in contexts
        ]
        candidates = stages.candidates_of(
            run.session,
            contexts,
            [[edit.text for edit in of_context] for of_context in edits],
            replicates=settings.reward.replicates,
        )
        records = stages.try_all(run, policy, candidates, stage=stage, width=width)
        replicates = settings.reward.replicates
        rewards = [
            stages.score(records[i : i + replicates], settings.reward.kind)
            for i in range(0, len(records), replicates)
        ]
        rewards_CxM = np.array(rewards).reshape(len(contexts), count)
    selection_seed = zlib.crc32(f"{settings.seed} select {stage}".encode())
    weights_CxM = restem.select(
        rewards_CxM,
        settings.restem.selection_rule(),
        baselines_C=baselines_C if baselines_C else np.zeros(len(contexts)),
        seed=selection_seed,
    )
    selection = run.once(
        "selection",
        stage,
        lambda: {
            "contexts": [context.id for context in contexts],
            "rewards": [[None if np.isnan(r) else float(r) for r in row] for row in rewards_CxM],
            "weights": weights_CxM.tolist(),
        },
    )
    rows = [
        restem.Row(tokens=(*prompt, *edits[c][m].tokens), prompt_length=len(prompt), weight=weight)
        for c, context in enumerate(contexts)
        for prompt in [run.session.edit_prompt(context)]
        for m, weight in enumerate(selection["weights"][c])
        if weight > 0
    ]
    valid = rewards_CxM[~np.isnan(rewards_CxM)]
    chosen = rewards_CxM[np.array(selection["weights"]) > 0]
    summary = {
        "contexts": [context.id for context in contexts],
        "self_edits": rewards_CxM.size,
        "without_reward": int(np.isnan(rewards_CxM).sum()),
        "kept": len(rows),
        "mean_reward": float(valid.mean()) if valid.size else None,
        "mean_kept_reward": float(chosen.mean()) if chosen.size else None,
        "mean_unadapted": float(np.mean(baselines_C)) if baselines_C else None,
    }
    if valid.size and chosen.size:
        run.say(
            f"{stage}: mean reward {summary['mean_reward']:.3f} of {valid.size} self-edits, "
            f"{summary['mean_kept_reward']:.3f} of the {len(rows)} kept"
        )
    return rows, summary


def plan(opened: Session, rounds: list[list[Context]], held_out: list[Context]) -> str:
    """What the job will do, and about how many tokens its inner loops will train on."""
    settings = opened.settings
    inner, held = settings.inner, settings.evaluation

    def tokens(contexts: Sequence[Context], edits: int, edit_tokens: int) -> int:
        own = sum(
            len(opened.encode(text)) for c in contexts for text in opened.task.passage_sequences(c)
        )
        return inner.epochs * edits * (own + edit_tokens * len(contexts))

    planted = settings.reward.kind == "pattern"
    each = "" if planted else f" x {settings.reward.replicates} inner loops"
    total = 0
    longest = settings.edits.max_new_tokens
    loops = settings.edits.samples * settings.reward.replicates
    if not planted:
        total += sum(tokens(chosen, loops, longest) for chosen in rounds)
        arms_of_edits = len({"edit_before", "edit_after"} & set(held.arms))
        total += tokens(held_out, arms_of_edits * held.edits, longest)
        total += tokens(held_out, "passage" in held.arms, 0)
    lines = [
        f"plan: {len(rounds)} rounds of {settings.restem.contexts_per_round} contexts x "
        f"{settings.edits.samples} self-edits{each}, then {len(held_out)} evaluation contexts"
    ]
    if total:
        lines.append(
            f"plan: about {total:,} inner-loop tokens, if every self-edit is {longest} tokens long"
        )
    return "\n".join(lines)
