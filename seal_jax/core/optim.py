"""The optimizer that the inner and the outer update share: AdamW with a traced learning rate."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from seal_jax.core.specs import DECAYS, AdamW

State = Any  # of an optax transformation


def transform(constants: AdamW) -> optax.GradientTransformation:
    """Gradients to descent directions; multiply by -learning_rate and add."""
    return optax.chain(
        optax.clip_by_global_norm(constants.max_grad_norm),
        optax.scale_by_adam(constants.b1, constants.b2, constants.eps),
        optax.add_decayed_weights(constants.weight_decay),
    )


def init(constants: AdamW, tree) -> State:
    """The state before the first step."""
    return transform(constants).init(tree)


def apply(constants: AdamW, gradient, state: State, tree, rate, decayed):
    """One step: the new tree and the new state.

    Args:
      decayed: what weight decay draws to 0, a tree like `tree` (see `delta.decayed`).
    """
    direction, state = transform(constants).update(gradient, state, decayed)
    return jax.tree.map(lambda leaf, change: leaf - rate * change, tree, direction), state


def learning_rate(peak, step, *, total, warmup, decay):
    """Learning rate of optimizer step `step` (from 0), as transformers' schedulers define it.

    Args:
      peak: the rate after warm-up.
      step: steps taken so far.
      total: number of steps of the whole training.
      warmup: steps of linear warm-up from 0.
      decay: index into DECAYS; linear and cosine end at 0.

    Returns:
      The rate, with the broadcast shape of the arguments, all of which may be arrays.
    """
    step, total, warmup = (jnp.asarray(value, jnp.float32) for value in (step, total, warmup))
    rising = step / jnp.maximum(warmup, 1.0)
    progress = jnp.clip((step - warmup) / jnp.maximum(total - warmup, 1.0), 0.0, 1.0)
    falling = jnp.select(
        [jnp.equal(decay, index) for index in range(len(DECAYS))],
        [jnp.ones_like(progress), 1 - progress, (1 + jnp.cos(jnp.pi * progress)) / 2],
    )
    return peak * jnp.where(step < warmup, rising, falling)
