"""Verb: M-step. The policy learns the kept self-edits; continued pretraining learns a corpus."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from seal_jax.core import delta as delta_lib
from seal_jax.core import parallel, restem
from seal_jax.core.randomness import key_for
from seal_jax.loop import memory
from seal_jax.loop.policies import Policy
from seal_jax.loop.run import Run
from seal_jax.loop.stage import Stage
from seal_jax.runs.checkpoints import CheckpointError
from seal_jax.runtime import interruption
from seal_jax.settings import SettingsError, Sft

Record = dict[str, Any]


def m_step(
    run: Run, policy: Policy, examples: Sequence[restem.SftExample], *, stage: Stage
) -> Policy:
    """Trains the next policy on the kept self-edits, or restores it from its checkpoint.

    With nothing kept, the next policy is the same one.
    """
    settings = run.session.settings.restem
    version = policy.version + 1
    if not examples:
        run.say(f"{stage}: no self-edit was kept, so the M-step is skipped and the policy stays")
        same = {"version": version, "kept": 0, "steps": []}
        run.once("policy", stage.name, lambda: same, stage=stage)
        return dataclasses.replace(policy, version=version)
    start = policy if settings.start_from == "previous" else Policy(run, 0)
    spec = settings.sft.spec()
    like = run.session.delta_shapes(spec)
    tree: Any = None
    steps: list[Record] = []
    if run.hosts.rank == 0:  # a batch of examples is too small to be spread over hosts
        checkpoints = run.checkpoints(stage.line)
        if run.ledger.find("policy", stage.name) is not None:
            try:
                tree = checkpoints.restore(version, like)
            except CheckpointError as error:
                run.say(f"{stage}: {error} The M-step is done again.")
        if tree is None:
            sft = settings.sft
            delta, steps = train(run, start.params, examples, sft, stage=stage, name="M-step")
            tree = delta.tree
            checkpoints.save(version, tree)
            checkpoints.wait()
    tree = run.hosts.first_tree(f"{stage}: M-step", lambda: tree, like)
    made = {"version": version, "kept": len(examples), "steps": steps}
    done = run.once("policy", stage.name, lambda: made, stage=stage)
    if steps:  # trained now: otherwise the state may be a later round's
        run.forget_steps()
    losses = [step["loss"] for step in done["steps"]]
    before = sum(
        len(segment.record["steps"])
        for segment in run.ledger.segments("policy")
        if segment.record["stage"].get("line", "") == stage.line
        and segment.record["version"] < version
    )
    for number, loss in enumerate(losses, start=before):
        run.measure(stage, {"loss": loss}, what="M-step", step=number)
    run.say(
        f"{stage}: policy {version} trained on {len(examples)} self-edits in {len(losses)} steps; "
        f"loss {losses[0]:.3f} to {losses[-1]:.3f} nats a token"
    )
    return Policy(run, version, (*start.deltas, delta_lib.Delta(tree, spec)))


def train(
    run: Run,
    params,
    examples: Sequence[restem.SftExample],
    recipe: Sft,
    *,
    stage: Stage,
    name: str,
    key: str = "restem.sft",
) -> tuple[delta_lib.Delta, list[Record]]:
    """Trains one delta on examples, data-parallel, with progress on the terminal.

    Its state is kept every recipe.checkpoint_steps steps and at the end, in `run.steps`, until that
    is cleared or another training keeps one: a training that was stopped goes on from there.

    Args:
      params: the parameters that it starts from; they do not change.
      examples: at least one, none longer than the recipe's last bucket.
      recipe: settings.restem.sft or settings.corpus.
      stage: names the initial delta and the order of the examples in the keys.
      name: what the terminal calls it.
      key: the recipe's group of settings, for errors.

    Returns:
      The trained delta, and the metrics of each step.

    Raises:
      SettingsError: it diverged, or the device has too little memory.
      Interrupted: a signal asked for the end; the state after the last step is kept.
    """
    opened, total = run.session, recipe.epochs * math.ceil(len(examples) / recipe.batch_size)
    lower = (f"{key}.microbatch", f"the largest of {key}.buckets", f"{key}.lora.rank")
    with (
        run.stage(stage, name, total, "step") as progress,
        memory.needed_by(f"{stage}: the {name}", *lower),
    ):
        static = (opened.model, recipe.m_step_settings(opened.settings.model.remat))
        seed, devices = opened.settings.seed, opened.devices
        first = key_for(seed, "policy", stage.name)
        state = opened.place(restem.init(first, params, recipe.spec(), static[1]))
        update = parallel.m_step(devices, static)
        kept: Any = None
        metrics: list[Record] = []
        if recipe.checkpoint_steps:
            kept = run.steps.training(recipe, examples, stage.name, total)
            state, metrics = kept.resume(state)
        done = len(metrics)
        for number, batch in enumerate(_batches(opened, examples, recipe, stage), start=1):
            if number > done:
                state, step = update(params, state, devices.split(batch), np.int32(total))
                metrics.append(step)
            if number > 1:  # one step late, so that the device does not wait for the terminal
                loss = float(metrics[number - 2]["loss"])
                progress.update(1, replayed=number - 1 <= done, loss=loss)
            if number > done and kept:
                kept.after_step(state, metrics)
            if number < total:
                interruption.check()
        steps = [
            {of: float(value) for of, value in step.items()} for step in jax.device_get(metrics)
        ]
        progress.update(1, replayed=total <= done, loss=steps[-1]["loss"])
    if not (delta_lib.is_finite(state.delta) and all(np.isfinite(s["loss"]) for s in steps)):
        raise SettingsError(
            f"{stage}: the {name} became non-finite; lower {key}.learning_rate and start again "
            "with --overwrite or another --workdir."
        )
    return state.delta, steps


def _batches(opened, examples: Sequence[restem.SftExample], recipe: Sft, stage: Stage):
    """The batches of all epochs, in order."""
    for epoch in range(recipe.epochs):
        key = key_for(opened.settings.seed, "epoch", stage.name, epoch)
        yield from restem.epoch_batches(
            list(examples),
            batch_size=recipe.batch_size,
            multiple=opened.devices.data_shards * recipe.microbatch,
            buckets=recipe.buckets,
            order=np.asarray(jax.random.permutation(key, len(examples))),
        )
