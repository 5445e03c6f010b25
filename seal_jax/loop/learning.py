"""Training one delta on many texts, data-parallel: the M-step, and continued pretraining."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from seal_jax.core import batching, parallel, restem
from seal_jax.core.delta import Delta
from seal_jax.core.randomness import key_for
from seal_jax.loop.opened_model import OpenedModel
from seal_jax.runs.step_checkpoints import StepCheckpoints
from seal_jax.runtime import interruption
from seal_jax.settings import Sft

Record = dict[str, Any]


def train_rows(
    opened: OpenedModel,
    params,
    rows: Sequence[restem.Row],
    recipe: Sft,
    *,
    stage: str,
    report: Callable[[Record], None] | None = None,
    kept: StepCheckpoints | None = None,
) -> tuple[Delta, list[Record]]:
    """Trains a delta on rows of tokens.

    Args:
      opened: the model and the settings.
      params: the parameters that it starts from; they do not change.
      rows: at least one, none longer than the recipe's last bucket.
      recipe: settings.restem.sft or settings.corpus.
      stage: names the initial delta and the order of the rows in the keys.
      report: called with each step's metrics, one step late.
      kept: where the state is kept every recipe.checkpoint_steps steps and at the end; a training
        that was stopped goes on from there.

    Returns:
      The trained delta, and the metrics of each step.

    Raises:
      Interrupted: a signal asked for the end; the state after the last step is kept.
    """
    devices = opened.devices
    static = (opened.model, recipe.m_step_settings(opened.settings.model.remat))
    longest = max(len(row.tokens) for row in rows)
    length = recipe.buckets[batching.bucket_index(longest, recipe.buckets)]
    seed = opened.settings.seed
    state = opened.place(
        restem.init(key_for(seed, "policy", stage), params, recipe.spec(), static[1])
    )
    update = parallel.m_step(devices, static)
    total = steps(recipe, len(rows))
    metrics: list[Any] = []
    keeper = kept.training(recipe, rows, stage, total) if kept and recipe.checkpoint_steps else None
    if keeper:
        state, metrics = keeper.resume(state)
    done, number = len(metrics), 0
    for epoch in range(recipe.epochs):
        order = jax.random.permutation(key_for(seed, "epoch", stage, epoch), len(rows))
        for batch in restem.epoch_batches(
            list(rows),
            batch_size=recipe.batch_size,
            multiple=devices.data_shards * recipe.microbatch,
            length=length,
            order=np.asarray(order),
        ):
            number += 1
            if number > done:
                state, step_metrics = update(params, state, devices.split(batch), np.int32(total))
                metrics.append(step_metrics)
            if number > 1 and report:
                report(metrics[number - 2])
            if number > done and keeper:
                keeper.after_step(state, metrics)
            if number < total:
                interruption.check()
    return state.delta, [
        {name: float(value) for name, value in step.items()} for step in jax.device_get(metrics)
    ]


def steps(recipe: Sft, rows: int) -> int:
    """Optimizer steps of a recipe on so many rows."""
    return recipe.epochs * math.ceil(rows / recipe.batch_size)
