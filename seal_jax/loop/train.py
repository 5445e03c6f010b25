"""The main job: ReST-EM rounds, then the evaluation of every arm on held-out contexts.

Numbered comments are the steps of SEAL's outer loop, in the notation of arXiv 2506.10943, section
3.1; the numbers are ours.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, Unpack

import numpy as np

from seal_jax.core import restem
from seal_jax.loop import arms, attempt, evaluate, preflight, rewards
from seal_jax.loop import sample as sampling
from seal_jax.loop.job import How, run_job
from seal_jax.loop.m_step import m_step
from seal_jax.loop.policies import Policy
from seal_jax.loop.prune import Earn, prune
from seal_jax.loop.run import Run
from seal_jax.loop.select import examples, select
from seal_jax.loop.stage import Line, Stage
from seal_jax.settings import Settings
from seal_jax.tasks.protocol import Context, Lesson

Record = dict[str, Any]


def train(settings: Settings, workdir: str, **how: Unpack[How]) -> dict[str, Any]:
    """Runs or continues the main job in `workdir`; see `job.run_job`."""

    def work(run: Run) -> dict[str, Any]:
        rounds = settings.restem.rounds
        controls = arms.controls(settings.evaluation.arms) if rounds else []
        known = ["base", "policy", *controls] if rounds else ["base"]
        ready = preflight.check(run, rounds=rounds, known=known)
        policies = {"base": Policy(run, 0)}
        learned: list[Record] = []
        selections: list[Record] = []
        if rounds:
            policies["policy"], learned = restem_rounds(run, ready.rounds)
            selections = evaluate.selections(run.ledger, rounds)
            for control in controls:
                policies[control], _ = restem_rounds(run, ready.rounds, control)
        return evaluate.compare(run, policies, ready, selections) | {"rounds": learned}

    return run_job(settings, workdir, work, **how)


def restem_rounds(
    run: Run, rounds: Sequence[Sequence[Context]], control: Line = ""
) -> tuple[Policy, list[Record]]:
    """ReST-EM: each round samples from, adapts and trains the policy of the round before.

    Args:
      control: "random" keeps one self-edit of a context by chance, "longest" the longest: a
        selection that knows no reward, so that no inner loop is run. Of a policy gradient the
        self-edits' rewards are 1 to M, dealt out by chance, or their lengths.

    Returns:
      The last policy, and a summary of each round.
    """
    policy, keep_data = Policy(run, 0), run.session.settings.restem.keep_data
    # One shape for all rounds, so that later ones compile nothing.
    width = run.session.width([context for contexts in rounds for context in contexts])
    summaries: list[Record] = []
    kept: list[restem.SftExample] = []
    for number, contexts in enumerate(rounds, start=1):  # 1: for t = 1, 2, ...
        stage = Stage(kind="round", round=number, line=control)
        learned, summary = e_step(run, policy, contexts, stage=stage, width=width)
        kept = learned if keep_data == "round" else kept + learned
        policy = m_step(run, policy, kept, stage=stage)  # 7: theta <- SFT(theta, kept SE)
        summaries.append(summary)
    return policy, summaries


def e_step(
    run: Run, policy: Policy, contexts: Sequence[Context], *, stage: Stage, width: int
) -> tuple[list[restem.SftExample], Record]:
    """Samples, reads, tries, scores and selects; returns the kept examples and a summary.

    A control tries and scores nothing. Its first round selects from SEAL's own self-edits; later
    ones are sampled from its own policy, with the same keys.
    """
    session, settings = run.session, run.session.settings
    own = dataclasses.replace(stage, line="")
    prompts = sampling.edit_prompts(session, contexts)
    edits = sampling.sample(  # 2: sample SE ~ LM_theta(. | C)
        run,
        policy,
        prompts,
        stage=own if stage.round == 1 else stage,
        samples=settings.edits.samples,
        draw=own.name,
        automaton=session.automaton,
    )
    texts = [[edit.text for edit in of] for of in edits]
    lessons = [
        [session.task.read(context, text, 0) for text in of]
        for context, of in zip(contexts, texts, strict=True)
    ]
    rule, baselines_C, heads = settings.restem.selection_rule(), None, []
    described: Record = {}
    earn: Earn = functools.partial(_read_off, run)
    if settings.reward.needs_inner_loop and not stage.line:
        plain = attempt.answer(run, policy, contexts, stage=stage, width=width)
        main = session.task.metrics[0].name
        baselines_C = [rewards.value(plain[c.id], settings.reward, main) for c in contexts]
        pairs = zip(contexts, arms.derangement(contexts), strict=True)
        others = {context.id: contexts[i] for context, i in pairs}
        earn = functools.partial(
            _tried, run, policy, plain=plain, others=others, width=width, draw=stage.name
        )
        if label := rewards.labelled(settings.reward, contexts):
            run.say(f"{stage}: the reward is {label}")
            described["reward"] = label
        if session.task.directs:
            described["directives"] = session.task.describe(lessons)
            heads = [[getattr(lesson, "head", "") for lesson in of] for of in lessons]
    if stage.line:
        rule = restem.SelectionRule(stage.line)
        earned_CxM = np.array([[float(m + 1) for m in range(len(of))] for of in texts])
    else:
        earned_CxM = earn(contexts, texts, stage)
    teaches_CxM = [[isinstance(lesson, Lesson) for lesson in of] for of in lessons]
    rewards_CxM = np.where(teaches_CxM, earned_CxM, np.nan)
    # 6: keep the SE that earn the most
    weights_CxM, summary = select(
        run,
        prompts,
        edits,
        rewards_CxM,
        baselines_C,
        rule,
        update=settings.restem.update,
        stage=stage,
        rewarded=not stage.line,
        heads=heads,
    )
    if settings.restem.lines != "all" and not stage.line:  # and of these the lines that helped
        edits, lines = prune(run, contexts, edits, rewards_CxM, weights_CxM, earn, stage=stage)
        described |= lines
    return examples(session, prompts, edits, weights_CxM), summary | described


def _read_off(
    run: Run, contexts: Sequence[Context], texts: Sequence[Sequence[str]], stage: Stage
) -> np.ndarray:
    """Rewards [C, M] of texts that need no inner loop; NaN for none."""
    return np.array(rewards.of_texts(run, contexts, texts, stage), float)


def _tried(
    run: Run,
    policy: Policy,
    contexts: Sequence[Context],
    texts: Sequence[Sequence[str]],
    stage: Stage,
    *,
    plain: Mapping[str, Record],
    others: Mapping[str, Context],
    width: int,
    draw: str,
) -> np.ndarray:
    """Rewards [C, M] of texts by what they teach; NaN for none.

    Args:
      plain, others: by context id, what the unadapted model answers, and whose questions tell what
        was forgotten.
      draw: texts with the same one start from the same deltas.
    """
    session, reward = run.session, run.session.settings.reward
    main = session.task.metrics[0].name
    replicates = range(reward.replicates)
    lessons = [  # 3: what each SE says, once for each inner loop
        [session.task.read(context, text, r) for text in of for r in replicates]
        for context, of in zip(contexts, texts, strict=True)
    ]
    indices, numbers = zip(*((m, r) for m in range(len(texts[0])) for r in replicates), strict=True)
    tried = attempt.candidates(
        session,
        contexts,
        lessons,
        indices=indices,
        replicates=numbers,
        others=[others[context.id] for context in contexts] if reward.retention else None,
    )
    # 4: theta' <- SFT(theta, SE); 5: evaluate theta' on tau
    records, _ = attempt.attempt(run, policy, tried, stage=stage, width=width, draw=draw)
    lost = [of for of in run.ungraded.values() if of.stage == stage.name]
    attempt.check_needless(lost, run, stage)
    left = iter(records)

    def earned(context: Context) -> float | None:
        own = [next(left) for _ in replicates]
        found = rewards.score(own, reward, main)
        if not reward.retention or found is None:
            return found
        before = plain[others[context.id].id]["answers"]
        lost = rewards.forgetting(own, [a["gold_log_likelihood"] for a in before])
        return None if lost is None else found - reward.retention * lost

    found = [[earned(c) for _ in of] for c, of in zip(contexts, texts, strict=True)]
    return np.array(found, float)
