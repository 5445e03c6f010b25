"""The main job: ReST-EM rounds, then the evaluation of every arm on held-out contexts.

Numbered comments are the steps of SEAL's outer loop, in the notation of arXiv 2506.10943, section
3.1; the numbers are ours.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from seal_jax.core import restem
from seal_jax.loop import arms, attempt, evaluate, preflight, rewards
from seal_jax.loop import sample as sampling
from seal_jax.loop.job import run_job
from seal_jax.loop.m_step import m_step
from seal_jax.loop.policies import Policy
from seal_jax.loop.run import Run
from seal_jax.loop.sample import Edit
from seal_jax.loop.select import select
from seal_jax.loop.stage import Stage
from seal_jax.settings import Settings, SettingsError
from seal_jax.tasks.protocol import Context, Lesson, Refusal

Record = dict[str, Any]


def train(
    settings: Settings,
    workdir: str,
    *,
    reuse: Sequence[str] = (),
    overwrite: bool = False,
    quiet: bool = False,
) -> dict[str, Any]:
    """Runs or continues the main job in `workdir`; see `job.run_job`."""

    def work(run: Run) -> dict[str, Any]:
        rounds = settings.restem.rounds
        known = ["base", "policy"] if rounds else ["base"]
        ready = preflight.check(run, rounds=rounds, known=known)
        policies = {"base": Policy(run, 0)}
        learned: list[Record] = []
        if ready.rounds:
            policies["policy"], learned = restem_rounds(run, ready.rounds)
        for control in arms.controls(settings.evaluation.arms) if ready.rounds else ():
            policies[control] = control_rounds(run, ready.rounds, control)
        return (
            evaluate.compare(run, policies, ready.held_out) | ready.results() | {"rounds": learned}
        )

    return run_job(settings, workdir, work, reuse=reuse, overwrite=overwrite, quiet=quiet)


def restem_rounds(run: Run, rounds: Sequence[Sequence[Context]]) -> tuple[Policy, list[Record]]:
    """ReST-EM: each round samples from, adapts and trains the policy of the round before.

    Returns:
      The last policy, and a summary of each round.
    """
    policy = Policy(run, 0)
    # One shape for all rounds, so that later ones compile nothing.
    width = run.session.width([context for contexts in rounds for context in contexts])
    summaries: list[Record] = []
    kept: list[restem.SftExample] = []
    for number, contexts in enumerate(rounds, start=1):  # 1: for t = 1, 2, ...
        stage = Stage(kind="round", round=number)
        examples, summary = e_step(run, policy, contexts, stage=stage, width=width)
        kept = examples if run.session.settings.restem.keep_data == "round" else kept + examples
        policy = m_step(run, policy, kept, stage=stage)  # 7: theta <- SFT(theta, kept SE)
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
    kept: list[restem.SftExample] = []
    for number, contexts in enumerate(rounds, start=1):
        own = Stage(kind="round", round=number)
        stage = Stage(kind="round", round=number, line=control)
        prompts = sampling.edit_prompts(run.session, contexts)
        edits = sampling.sample(
            run,
            policy,
            prompts,
            stage=own if number == 1 else stage,
            samples=settings.edits.samples,
            draw=own.name,
            automaton=run.session.automaton,
        )
        # No reward is known; only what cannot be trained on is never kept.
        known_CxM = np.where(_teaches(run, contexts, edits), 0.0, np.nan)
        rule = restem.SelectionRule(control)
        examples, _ = select(run, prompts, edits, known_CxM, None, rule, stage=stage)
        kept = examples if settings.restem.keep_data == "round" else kept + examples
        policy = m_step(run, policy, kept, stage=stage)
    return policy


def e_step(
    run: Run, policy: Policy, contexts: Sequence[Context], *, stage: Stage, width: int
) -> tuple[list[restem.SftExample], Record]:
    """Samples, reads, tries, scores and selects; returns the kept examples and a summary."""
    session, settings = run.session, run.session.settings
    prompts = sampling.edit_prompts(session, contexts)
    edits = sampling.sample(  # 2: sample SE ~ LM_theta(. | C)
        run,
        policy,
        prompts,
        stage=stage,
        samples=settings.edits.samples,
        automaton=session.automaton,
    )
    baselines_C, described = None, {}
    if settings.reward.needs_inner_loop:
        rewards_CxM, baselines_C, lessons = _tried(run, policy, contexts, edits, stage, width)
        if session.task.directs:
            described = {"directives": session.task.describe(lessons)}
    else:
        scored: Sequence[Sequence[float | None]]
        texts = [[edit.text for edit in of] for of in edits]
        if settings.reward.kind == "rubric":
            scored = _by_rubric(run, contexts, texts, stage)
        else:
            scored = rewards.of_texts(settings.reward, texts)
        rewards_CxM = np.where(_teaches(run, contexts, edits), np.array(scored, float), np.nan)
    rule = settings.restem.selection_rule()  # 6: keep the SE that earn the most
    examples, summary = select(run, prompts, edits, rewards_CxM, baselines_C, rule, stage=stage)
    return examples, summary | described


def _tried(
    run: Run,
    policy: Policy,
    contexts: Sequence[Context],
    edits: Sequence[Sequence[Edit]],
    stage: Stage,
    width: int,
) -> tuple[np.ndarray, list[float | None], list[list[Lesson | Refusal]]]:
    """Rewards [C, M] of self-edits by what they teach, the unadapted model's [C], and lessons."""
    session, reward = run.session, run.session.settings.reward
    main = session.task.metrics[0].name
    plain = attempt.answer(run, policy, contexts, stage=stage, width=width)
    baselines = [rewards.value(plain[context.id], reward, main) for context in contexts]
    others = None
    if reward.retention:
        others = [contexts[i] for i in arms.derangement(contexts)]
    replicates = range(reward.replicates)
    read = [  # 3: what each SE says, once for each inner loop
        [[session.task.read(context, edit.text, r) for r in replicates] for edit in of]
        for context, of in zip(contexts, edits, strict=True)
    ]
    candidates = [
        attempt.candidate(
            session, context, lesson, index=m, replicate=r, other=others[c] if others else None
        )
        for c, context in enumerate(contexts)
        for m, of_edit in enumerate(read[c])
        for r, lesson in enumerate(of_edit)
    ]
    # 4: theta' <- SFT(theta, SE); 5: evaluate theta' on tau
    records, _ = attempt.attempt(run, policy, candidates, stage=stage, width=width)
    ungraded = sum(of.exams for of in run.ungraded.values() if of.stage == stage.name)
    if ungraded and reward.kind != "gold_log_likelihood":
        raise SettingsError(
            f"{stage}: {ungraded} exams could not be graded for want of a judge, "
            "and the reward needs them. Mend what the judge needs; the same command continues the "
            "run, without an inner loop done twice."
        )
    found = []
    for c in range(len(contexts)):
        row: list[float | None] = []
        for m in range(len(edits[c])):
            first = (c * len(edits[c]) + m) * reward.replicates
            own = records[first : first + reward.replicates]
            earned = rewards.score(own, reward, main)
            if others and earned is not None:
                before = plain[others[c].id]["answers"]
                lost = rewards.forgetting(own, [a["gold_log_likelihood"] for a in before])
                earned = None if lost is None else earned - reward.retention * lost
            row.append(earned)
        found.append(row)
    lessons = [[of_edit[0] for of_edit in of] for of in read]
    return np.array(found, float), baselines, lessons


def _by_rubric(
    run: Run, contexts: Sequence[Context], texts: Sequence[Sequence[str]], stage: Stage
) -> list[list[float | None]]:
    """The rubric's scores of self-edits [C][M]; None where the judge gave none."""

    def work() -> Record:
        pairs = [(c, text) for c, of in zip(contexts, texts, strict=True) for text in of]
        found = iter(run.session.rubric.score(pairs))
        scored = [[next(found) for _ in of] for of in texts]
        return {
            "scores": [[score for score, _ in of] for of in scored],
            "reasons": [[reason for _, reason in of] for of in scored],
        }

    return run.once("rubric", stage.name, work, stage=stage)["scores"]


def _teaches(run: Run, contexts: Sequence[Context], edits: Sequence[Sequence[Edit]]) -> np.ndarray:
    """[C, M]: whether a self-edit gives a lesson; others have no reward."""
    return np.array(
        [
            [isinstance(run.session.task.read(context, edit.text, 0), Lesson) for edit in of]
            for context, of in zip(contexts, edits, strict=True)
        ]
    )
