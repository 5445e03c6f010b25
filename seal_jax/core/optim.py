"""The optimizer that the inner and the outer update share: AdamW with a traced learning rate."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import optax

State = Any  # of an optax transformation

DECAYS = ("constant", "linear", "cosine")


@dataclasses.dataclass(frozen=True)
class AdamW:
    """AdamW (Loshchilov and Hutter, 2019) after clipping to a global gradient norm.

    The learning rate is left out, so that it can be an array that differs between candidates.
    """

    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0

    def __post_init__(self):
        if not (0 <= self.b1 < 1 and 0 <= self.b2 < 1):
            raise ValueError(f"b1 and b2 must be in [0, 1), not {self.b1} and {self.b2}.")
        for name in ("eps", "max_grad_norm"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, not {getattr(self, name)}.")
        if not 0 <= self.weight_decay < math.inf:
            raise ValueError(f"weight_decay must be 0 or more, not {self.weight_decay}.")

    def transform(self) -> optax.GradientTransformation:
        """Gradients to descent directions; multiply by -learning_rate and add."""
        return optax.chain(
            optax.clip_by_global_norm(self.max_grad_norm),
            optax.scale_by_adam(self.b1, self.b2, self.eps),
            optax.add_decayed_weights(self.weight_decay),
        )

    def init(self, tree) -> State:
        """The state before the first step."""
        return self.transform().init(tree)

    def apply(self, gradient, state: State, tree, rate, decayed):
        """One step: the new tree and the new state.

        Args:
          decayed: what weight decay draws to 0, a tree like `tree` (see `delta.decayed`).
        """
        direction, state = self.transform().update(gradient, state, decayed)
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
