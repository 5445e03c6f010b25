"""Attention: which implementation a program uses, decided in one place, and what they do.

Dims: B rows, T query tokens, S key tokens, H query heads, G key/value heads, Dh head width.
"""

import functools

import jax
import jax.numpy as jnp

from seal_jax.core.model.config import Implementation, ModelConfig
from seal_jax.core.model.soft_cap import capped

CUDNN = 90800  # what JAX 0.10 asks of cuDNN (9.8)
_BLACKWELL_ULTRA = ((10, 3), 91100)  # what JAX asks for compute capability 10.3


def implementation(
    config: ModelConfig,
    *,
    platform: str,
    capability: tuple[int, int] = (0, 0),
    cudnn_version: int = 0,
    dtype="float32",
    model_axis: int = 1,
) -> Implementation:
    """What attends in training and in prefill; docs/scaling.md has it as a table.

    "cudnn" keeps no logits in memory, takes no mask but the causal one, and must not be mapped
    over its gradient (`vmap(grad)`; K candidates are rows of one call). "blockwise" runs
    everywhere. Everything is given: asking JAX would answer for the default backend, which need
    not be what a program is compiled for.

    Args:
      config: of the model.
      platform: of the devices, as `jax.Device.platform` has it.
      capability: the GPU's compute capability; (0, 0) where there is none.
      cudnn_version: such as 90800; 0 without cuDNN.
      dtype: of the weights, and so of queries, keys and values.
      model_axis: over how many devices heads are split. JAX's partitioner of cuDNN's attention
        fails in a `shard_map` that leaves an axis to the compiler, as the inner update's does.

    >>> import dataclasses
    >>> config = ModelConfig(family="llama", vocab_size=8, hidden_size=128, num_layers=1,
    ...     intermediate_size=8, num_heads=2, num_kv_heads=1, head_dim=64)
    >>> h100 = dict(platform="gpu", capability=(9, 0), cudnn_version=90800, dtype="bfloat16")
    >>> implementation(config, **h100), implementation(config, **h100 | {"dtype": "float32"})
    ('cudnn', 'blockwise')
    """
    least = max(CUDNN, _BLACKWELL_ULTRA[1] if capability == _BLACKWELL_ULTRA[0] else 0)
    fused = (
        platform == "gpu"
        and capability >= (8, 0)
        and cudnn_version >= least
        and jnp.dtype(dtype) == jnp.bfloat16
        and config.head_dim <= 128
        and config.head_dim % 8 == 0
        and model_axis == 1
        and all(kind.window is None for kind in config.pattern)
        and config.query_scale is None
        and config.attention_cap is None
    )
    return "cudnn" if fused else "blockwise"


def causal_mask(config: ModelConfig, tokens: int, attended_B=None, window: int | None = None):
    """The mask [B or 1, 1, T, T] of right-padded rows, or None where attention needs none.

    Args:
      window: how many tokens a token looks at, itself among them; None is all before it.
      attended_B: how many tokens of each row may be looked at; None is all.
    """
    if config.attention == "cudnn" and attended_B is None:
        return None
    mask = jnp.tril(jnp.ones((1, 1, tokens, tokens), bool))
    if window is not None:
        mask = mask & ~jnp.tril(mask, -window)
    if attended_B is not None:
        mask = mask & (jnp.arange(tokens) < attended_B[:, None])[:, None, None]
    return mask


def attend(q_BxTxHxDh, k_BxSxGxDh, v_BxSxGxDh, mask, *, scale=None, cap=None):
    """Attention under a mask [B, 1, T, S]; None is the causal one, by cuDNN.

    Logits are scaled by `scale` (None is 1/sqrt(Dh)), and held in ±cap by a tanh.

    Under a mask it goes in blocks of queries where T = S: a block reads no key that lies behind
    it. At most 8 blocks of at least 64 queries; the causal half of the work that they save is most
    of it from 4 blocks on.
    """
    if mask is None:
        return jax.nn.dot_product_attention(
            q_BxTxHxDh, k_BxSxGxDh, v_BxSxGxDh, is_causal=True, implementation="cudnn"
        )
    product = functools.partial(jax.nn.dot_product_attention, scale=scale)
    if cap is not None:
        product = functools.partial(_capped, scale=scale, cap=cap)
    tokens, keys = q_BxTxHxDh.shape[1], k_BxSxGxDh.shape[1]
    block = max(64, -(-tokens // 8)) if tokens == keys else tokens
    if tokens <= block:
        return product(q_BxTxHxDh, k_BxSxGxDh, v_BxSxGxDh, mask=mask)
    blocks = []
    for first in range(0, tokens, block):
        last = min(first + block, tokens)
        blocks.append(
            product(
                q_BxTxHxDh[:, first:last],
                k_BxSxGxDh[:, :last],
                v_BxSxGxDh[:, :last],
                mask=mask[:, :, first:last, :last],
            )
        )
    return jnp.concatenate(blocks, axis=1)


def _capped(q_BxTxHxDh, k_BxSxGxDh, v_BxSxGxDh, *, mask, scale, cap):
    """`jax.nn.dot_product_attention`, which caps nothing, with capped logits."""
    heads = (*q_BxTxHxDh.shape[:2], k_BxSxGxDh.shape[2], -1, q_BxTxHxDh.shape[3])
    f32 = {"preferred_element_type": jnp.float32}
    logits = jnp.einsum("btgrd,bsgd->bgrts", q_BxTxHxDh.reshape(heads), k_BxSxGxDh, **f32)
    logits = capped(logits * (heads[-1] ** -0.5 if scale is None else scale), cap)
    logits = jnp.where(mask[:, :, None], logits, jnp.finfo(jnp.float32).min)
    weights = jax.nn.softmax(logits, axis=-1).astype(v_BxSxGxDh.dtype)
    return jnp.einsum("bgrts,bsgd->btgrd", weights, v_BxSxGxDh).reshape(q_BxTxHxDh.shape)
