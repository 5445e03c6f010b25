"""Rotary positions (Su et al., 2021): pairs of a head's numbers that turn with the position.

Dims: B rows, T tokens, H heads, Dh head width.
"""

import dataclasses

import jax.numpy as jnp


@dataclasses.dataclass(frozen=True, kw_only=True)
class RopeScaling:
    """Llama 3 frequency scaling of rotary embeddings (Llama 3.1 report, section 3)."""

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_max_positions: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rope:
    """How fast each pair turns.

    Attributes:
      theta: base of the frequencies.
      scaling: Llama 3's, or None.
      divisors: of the frequencies, one for all or one a pair: linear scaling, YaRN, LongRoPE.
      magnitude: that cosines and sines are multiplied by (YaRN's and LongRoPE's attention factor).
      share: of a head that is turned, from its beginning.
    """

    theta: float = 10000.0
    scaling: RopeScaling | None = None
    divisors: tuple[float, ...] = (1.0,)
    magnitude: float = 1.0
    share: float = 1.0


def angles(rope: Rope | None, head_dim: int, positions_BxT):
    """Cosines and sines of positions, each [B, T, share * Dh/2] float32; None turns nothing."""
    half = int(head_dim * (1.0 if rope is None else rope.share)) // 2
    if rope is None:
        still = jnp.ones((*positions_BxT.shape, half), jnp.float32)
        return still, jnp.zeros_like(still)
    inverse = rope.theta ** (-jnp.arange(half, dtype=jnp.float32) / half)
    if rope.scaling is not None:
        inverse = _scale_frequencies(inverse, rope.scaling)
    if rope.divisors != (1.0,):
        inverse = inverse / jnp.array(rope.divisors, jnp.float32)
    turned = positions_BxT[..., None].astype(jnp.float32) * inverse
    if rope.magnitude == 1.0:
        return jnp.cos(turned), jnp.sin(turned)
    return rope.magnitude * jnp.cos(turned), rope.magnitude * jnp.sin(turned)


def _scale_frequencies(inverse, scaling: RopeScaling):
    """Llama 3's: long wavelengths are stretched by `factor`, short ones kept, blended between."""
    turns = scaling.original_max_positions * inverse / (2 * jnp.pi)
    blend = (turns - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor)
    blend = jnp.clip(blend, 0.0, 1.0)
    return (1 - blend) * inverse / scaling.factor + blend * inverse


def rotate(x_BxTxHxDh, cos_BxTxDh2, sin_BxTxDh2):
    """Rotates the two halves of each head (the Hugging Face layout), or of its turned share."""
    turned = 2 * cos_BxTxDh2.shape[-1]
    first, second = jnp.split(x_BxTxHxDh[..., :turned].astype(jnp.float32), 2, axis=-1)
    cos, sin = cos_BxTxDh2[:, :, None], sin_BxTxDh2[:, :, None]
    rotated = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
    rotated = rotated.astype(x_BxTxHxDh.dtype)
    if turned == x_BxTxHxDh.shape[-1]:
        return rotated
    return jnp.concatenate([rotated, x_BxTxHxDh[..., turned:]], axis=-1)
