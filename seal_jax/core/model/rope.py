"""Rotary positions (Su et al., 2021): pairs of a head's numbers that turn with the position.

Dims: B rows, T tokens, H heads, Dh head width.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

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
    """

    theta: float = 10000.0
    scaling: RopeScaling | None = None


_LLAMA3 = (
    "factor",
    "low_freq_factor",
    "high_freq_factor",
    "original_max_position_embeddings",
)


def from_hf(config: Mapping[str, Any], layer_type: str = "full_attention") -> Rope:
    """From `rope_parameters` (transformers 5) of a config.json, or the older keys.

    Where a file has both, transformers goes by `rope_scaling`. A base of their own have the layers
    with a window where there is a rope_local_base_freq or parameters by the types of layers.

    Raises:
      ValueError: of a kind that is not supported, or a key is missing.
    """
    said = config.get("rope_scaling") or config.get("rope_parameters") or {}
    theta = config.get("rope_theta") or 10000.0
    if layer_type == "sliding_attention" and config.get("rope_local_base_freq"):
        said, theta = config.get("rope_parameters") or {}, config["rope_local_base_freq"]
        said = said if layer_type in said else {}
    said = said.get(layer_type) or said
    share = said.get("partial_rotary_factor", config.get("partial_rotary_factor")) or 1.0
    if share != 1.0:
        raise ValueError(
            f"partial_rotary_factor={share} is not supported: expected rotary embeddings of whole "
            "heads."
        )
    theta = float(said.get("rope_theta", theta))
    kind = said.get("rope_type", said.get("type", "default"))
    if kind == "default":
        return Rope(theta=theta)
    if kind != "llama3":
        raise ValueError(f"rope_type {kind!r} is not supported: expected 'default' or 'llama3'.")
    missing = [key for key in _LLAMA3 if key not in said]
    if missing:
        raise ValueError(f"the llama3 rope scaling of config.json lacks {', '.join(missing)}.")
    scaling = RopeScaling(
        factor=said["factor"],
        low_freq_factor=said["low_freq_factor"],
        high_freq_factor=said["high_freq_factor"],
        original_max_positions=said["original_max_position_embeddings"],
    )
    return Rope(theta=theta, scaling=scaling)


def angles(rope: Rope | None, head_dim: int, positions_BxT):
    """Cosines and sines of positions, each [B, T, Dh/2] float32; None turns nothing."""
    half = head_dim // 2
    if rope is None:
        still = jnp.ones((*positions_BxT.shape, half), jnp.float32)
        return still, jnp.zeros_like(still)
    inverse = rope.theta ** (-jnp.arange(half, dtype=jnp.float32) / half)
    if rope.scaling is not None:
        inverse = _scale_frequencies(inverse, rope.scaling)
    turned = positions_BxT[..., None].astype(jnp.float32) * inverse
    return jnp.cos(turned), jnp.sin(turned)


def _scale_frequencies(inverse, scaling: RopeScaling):
    """Llama 3's: long wavelengths are stretched by `factor`, short ones kept, blended between."""
    turns = scaling.original_max_positions * inverse / (2 * jnp.pi)
    blend = (turns - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor)
    blend = jnp.clip(blend, 0.0, 1.0)
    return (1 - blend) * inverse / scaling.factor + blend * inverse


def rotate(x_BxTxHxDh, cos_BxTxDh2, sin_BxTxDh2):
    """Rotates the two halves of each head (the Hugging Face layout)."""
    first, second = jnp.split(x_BxTxHxDh.astype(jnp.float32), 2, axis=-1)
    cos, sin = cos_BxTxDh2[:, :, None], sin_BxTxDh2[:, :, None]
    rotated = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
    return rotated.astype(x_BxTxHxDh.dtype)
