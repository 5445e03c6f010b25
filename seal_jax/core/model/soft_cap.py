"""Soft-capping (Gemma 2 report, section 2): a tanh holds logits in ±cap; None caps nothing."""

import jax.numpy as jnp


def capped(logits, cap: float | None):
    """The logits, capped."""
    return logits if cap is None else cap * jnp.tanh(logits / cap)


def slope(capped_logits, cap: float | None):
    """How much capped logits grow with the plain ones."""
    return 1.0 if cap is None else 1.0 - (capped_logits / cap) ** 2
