"""Verb: M-step. The policy learns the kept self-edits; continued pretraining learns a corpus."""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np

from seal_jax.core import delta as delta_lib
from seal_jax.core import parallel, policy_gradient, restem
from seal_jax.core.randomness import key_for
from seal_jax.loop import memory
from seal_jax.loop.policies import Policy
from seal_jax.loop.run import Run
from seal_jax.loop.session import Session
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
            delta, steps = train(
                run,
                start.params,
                examples,
                sft,
                stage=stage,
                name="M-step",
                gradient=settings.gradient(),
            )
            tree = delta.tree
            checkpoints.save(version, tree)
            checkpoints.wait()
    tree = run.hosts.first_tree(f"{stage}: M-step", lambda: tree, like)
    made = {"version": version, "kept": len(examples), "steps": steps}
    done = run.once("policy", stage.name, lambda: made, stage=stage)
    if steps:  # trained now: otherwise the state may be a later round's
        run.forget_steps()
    trained = done["steps"]
    before = sum(
        len(segment.record["steps"])
        for segment in run.ledger.segments("policy")
        if segment.record["stage"].get("line", "") == stage.line
        and segment.record["version"] < version
    )
    for number, step in enumerate(trained, start=before):
        figures = {name.replace("_", " "): value for name, value in step.items()}
        run.measure(stage, figures, what="M-step", step=number)
    first, last = trained[0], trained[-1]
    run.say(
        f"{stage}: policy {version} trained on {len(examples)} self-edits in {len(trained)} steps; "
        f"loss {first['loss']:.3f} to {last['loss']:.3f}"
        + (f", KL from the start {last['kl']:.4f}" if "kl" in last else "")
        + " nats a token"
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
    gradient: policy_gradient.PolicyGradient | None = None,
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
      gradient: by advantages, or None for ReST-EM. The examples' log-likelihoods at the start are
        computed first; of pairs, the two of each come one after the other.

    Returns:
      The trained delta, and the metrics of each step.

    Raises:
      SettingsError: it diverged, or the device has too little memory.
      Interrupted: a signal asked for the end; the state after the last step is kept.
    """
    opened, rows = run.session, gradient.rows if gradient else 1
    of_epoch = math.ceil(len(examples) / (rows * recipe.batch_size))
    total = recipe.epochs * of_epoch
    lower = (f"{key}.microbatch", f"the largest of {key}.buckets", f"{key}.lora.rank")
    shown = ("loss", *(gradient.measured if gradient else ()))

    def figures(step: Record) -> Record:
        return {of: float(step[of]) for of in shown}

    with memory.needed_by(f"{stage}: the {name}", *lower):
        static = (opened.model, recipe.m_step_settings(opened.settings.model.remat, gradient))
        seed, devices = opened.settings.seed, opened.devices
        first = key_for(seed, "policy", stage.name)

        def start() -> restem.MStepState:
            return opened.place(restem.init(first, params, recipe.spec(), static[1]))

        update, learned = parallel.m_step(devices, static), list(examples)
        if gradient:
            with run.stage(stage, "log-likelihoods", len(learned), "self-edit") as progress:
                # By the program of the steps, so that the first step's ratios are 1 to the bit.
                learned = [dataclasses.replace(one, start_lls=()) for one in learned]
                for places, batch in _epoch(opened, learned, recipe, stage, 0, rows):
                    _, step = update(params, start(), devices.split(batch), np.int32(total))
                    lls_BxT1 = np.asarray(step["log_likelihoods"])
                    for i, lls_T1 in zip(places, lls_BxT1, strict=False):  # without padding rows
                        one = learned[i]
                        own = lls_T1[one.prompt_length - 1 : len(one.tokens) - 1]
                        learned[i] = dataclasses.replace(one, start_lls=tuple(own.tolist()))
                    progress.update(len(places))
                    interruption.check()
        state = start()
        with run.stage(stage, name, total, "step") as progress:
            kept: Any = None
            metrics: list[Record] = []
            if recipe.checkpoint_steps:
                names = static[1].metrics
                kept = run.steps.training(recipe, examples, stage.name, total, names)
                state, metrics = kept.resume(state)
            done = len(metrics)
            batches = (
                batch
                for epoch in range(recipe.epochs)
                for _, batch in _epoch(opened, learned, recipe, stage, epoch, rows)
            )
            for number, batch in enumerate(batches, start=1):
                if number > done:
                    state, step = update(params, state, devices.split(batch), np.int32(total))
                    step.pop("log_likelihoods", None)
                    metrics.append(step)
                if number > 1:  # one step late, so that the device does not wait for the terminal
                    progress.update(1, replayed=number - 1 <= done, **figures(metrics[number - 2]))
                if number > done and kept:
                    kept.after_step(state, metrics)
                if number < total:
                    interruption.check()
            steps = [
                {of: float(value) for of, value in step.items()} for step in jax.device_get(metrics)
            ]
            progress.update(1, replayed=total <= done, **figures(steps[-1]))
    if not (delta_lib.is_finite(state.delta) and all(np.isfinite(s["loss"]) for s in steps)):
        raise SettingsError(
            f"{stage}: the {name} became non-finite; lower {key}.learning_rate and start again "
            "with --overwrite or another --workdir."
        )
    return state.delta, steps


def _epoch(
    opened: Session,
    examples: Sequence[restem.SftExample],
    recipe: Sft,
    stage: Stage,
    epoch: int,
    rows: int,
) -> Iterator[tuple[np.ndarray, restem.Batch]]:
    """An epoch's batches, each with the places of its examples; `rows` of these stay together."""
    key = key_for(opened.settings.seed, "epoch", stage.name, epoch)
    order_P = np.asarray(jax.random.permutation(key, len(examples) // rows))
    order = (order_P[:, None] * rows + np.arange(rows)).ravel()
    size = rows * recipe.batch_size
    batches = restem.epoch_batches(
        list(examples),
        batch_size=size,
        multiple=opened.devices.data_shards * recipe.microbatch * rows,
        buckets=recipe.buckets,
        order=order,
    )
    for number, batch in enumerate(batches):
        yield order[number * size : (number + 1) * size], batch
