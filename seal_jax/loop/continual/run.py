"""The continual experiment: sequences of passages, one after another, under each mitigation."""

import functools
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from seal_jax.loop import contexts, memory, policies, preflight, questions, rewards
from seal_jax.loop.arms import without_self_edit
from seal_jax.loop.continual import bounds, outcomes, updates
from seal_jax.loop.continual.mitigations import Mitigation
from seal_jax.loop.continual.outcomes import Arm
from seal_jax.loop.continual.updates import Group
from seal_jax.loop.job import run_job
from seal_jax.loop.policies import Policy
from seal_jax.loop.run import Run
from seal_jax.runtime import hosts
from seal_jax.settings import Settings, SettingsError
from seal_jax.tasks import splits
from seal_jax.tasks.protocol import Context

# Settings on which the memory of a group depends.
_OF_GROUPS = (
    "inner.candidates",
    "continual.passages",
    "inner.lora.rank",
    "the largest of inner.buckets",
)


def continual(
    settings: Settings,
    workdir: str,
    *,
    policy_from: str = "",
    policy_version: int = 0,
    overwrite: bool = False,
    quiet: bool = False,
) -> dict[str, Any]:
    """Runs or continues the continual experiment in `workdir`; see `job.run_job`.

    Args:
      policy_from: the directory of a finished run whose policy every sequence starts from; "" is
        the base model.
      policy_version: the policy after that round instead of the last one.

    Returns:
      What it wrote to results.json; see `outcomes.results`. "sequences" has the passages' ids.

    Raises:
      SettingsError: too few passages, or no self-edits to write; and as `run_job` does.
    """
    if not hosts.join().alone:
        raise SettingsError(
            "continual runs on one host: each of its updates starts from the one before."
        )

    def work(run: Run) -> dict[str, Any]:
        if not run.session.task.writes:
            raise SettingsError(f"{without_self_edit(run.session.task)}, which continual writes.")
        if run.session.task.directs and "joint" in settings.continual.bounds:
            raise SettingsError(
                "continual.bounds: 'joint' learns the self-edits of several contexts in one "
                "update, and here each says how it is learned: leave it out."
            )
        start = Policy(run, 0)
        if policy_from:
            start = policies.restore_policy(run, policy_from, policy_version)
        return _experiment(run, start.params)

    return run_job(
        settings,
        workdir,
        work,
        overwrite=overwrite,
        quiet=quiet,
        policy_from=policy_from,
        policy_version=policy_version,
    )


def draw_sequences(
    asked: Sequence[Context], *, sequences: int, passages: int, seed: int
) -> list[list[Context]]:
    """Sequences of contexts that are asked; further sequences change none of the others.

    Raises:
      SettingsError: there are too few passages.
    """
    if passages > len(asked):
        raise SettingsError(
            f"continual.passages is {passages}, but there are {len(asked)} passages with "
            "questions: lower it, or give more evaluation contexts."
        )
    name = zlib.crc32(b"continual sequences")
    orders = [np.random.default_rng([seed, name, s]) for s in range(sequences)]
    return [[asked[i] for i in of.permutation(len(asked))[:passages]] for of in orders]


def _experiment(run: Run, params) -> dict[str, Any]:
    settings, own = run.session.settings, run.session.settings.continual
    found = questions.written(
        run, contexts.available(run.session, "eval").contexts, "eval", run.session.task.questioner
    )
    drawn = draw_sequences(
        contexts.asked(run.session, [c for c in found if not run.session.unfit(c)]),
        sequences=own.sequences,
        passages=own.passages,
        seed=settings.seed,
    )
    if own.answers:
        preflight.ask_judge(run, drawn[0][0])
    groups = _groups(run, params, drawn)
    run.say(
        f"{own.sequences} sequences of {own.passages} passages; "
        f"mitigations: {', '.join(own.mitigations)}; bounds: {', '.join(own.bounds) or 'none'}"
    )
    counts = dict.fromkeys(own.mitigations, ("update", own.sequences * own.passages))
    counts = {"start": ("group", len(groups))} | counts
    counts |= {name: ("group", len(groups)) for name in own.bounds}
    run.whole.planned = {f"continual {name}": of for name, of in counts.items()}
    names = [metric.name for metric in rewards.metrics(run.session.task)]
    start = bounds.bound("start", groups)
    arms = [_mitigated(run, groups, Mitigation(name, own)) for name in own.mitigations]
    results = outcomes.results(
        start,
        arms,
        [bounds.bound(name, groups) for name in own.bounds],
        metrics=names if own.answers else ["gold_log_likelihood"],
        seed=settings.seed,
        draws=settings.evaluation.bootstrap_draws,
    )
    run.say("\n" + outcomes.table(results))
    return results | {"sequences": [[context.id for context in sequence] for sequence in drawn]}


def _groups(run: Run, params, drawn: Sequence[list[Context]]) -> list[Group]:
    """The sequences, inner.candidates at a time."""
    session, own = run.session, run.session.settings.continual
    texts = splits.choose(
        list(session.task.reference_texts("train")),
        own.unrelated,
        seed=None,
        name="unrelated texts",
    )
    make = functools.partial(
        Group,
        run=run,
        params=params,
        width=session.width([context for sequence in drawn for context in sequence]),
        unrelated=[session.encode(text)[: own.unrelated_tokens] for text in texts],
    )
    size = session.settings.inner.candidates
    return [
        make(number=number, sequences=list(drawn[first : first + size]))
        for number, first in enumerate(range(0, len(drawn), size))
    ]


def _mitigated(run: Run, groups: Sequence[Group], mitigation: Mitigation) -> Arm:
    """The sequences under a mitigation."""
    stage, steps = mitigation.stage, range(groups[0].steps)
    total = len(steps) * sum(len(group.sequences) for group in groups)
    with (
        run.stage(stage, "", total, "update") as progress,
        memory.needed_by(str(stage), *_OF_GROUPS),
    ):
        records = [updates.run_group(group, mitigation, progress) for group in groups]
    keys = [f"{mitigation.name}/{group.number}/{step}" for group in groups for step in steps]
    learned = run.records("learned", keys)
    return Arm(
        name=mitigation.name,
        steps=[[row for of in records for row in of[step]["rows"]] for step in steps],
        unrelated_S=[loss for of in records for loss in of[-1]["unrelated"]],
        keeps_old_data=mitigation.has("replay"),
        trained_tokens=sum(record["real_tokens"] for record in learned),
        failed=sum(one["reason"] is not None for record in learned for one in record["updates"]),
    )
