"""Flax Linen layers of the decoder. Each reads its `delta` variables when they are present.

Dims: B rows, T query tokens, S key tokens, D model width, H query heads, G key/value heads,
Dh head width, F features out, R rank, K candidates.

Where a `packing` is given, x is the packed row [P, D] of the B rows (see `model.packing`).
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from seal_jax.core.model import attention
from seal_jax.core.model import packing as packing_lib
from seal_jax.core.model.config import ModelConfig
from seal_jax.core.model.packing import Packing
from seal_jax.core.model.rope import rotate
from seal_jax.core.precision import exact_product

_init_kernel = nn.initializers.lecun_normal()


def low_rank(x, a, b):
    """The low-rank part of a projection, in float32 (as PEFT keeps adapters on a bf16 base).

    Args:
      x: [B, T, in].
      a: [in, R], or [K, in, R] where row r belongs to candidate r // (B / K).
      b: [R, out] or [K, R, out].

    Returns:
      [B, T, out] float32.
    """
    x = x.astype(jnp.float32)
    rows = x if a.ndim == 2 else x.reshape(a.shape[0], -1, x.shape[-1])
    changes = exact_product(exact_product(rows, a), b)
    return changes.reshape(*x.shape[:-1], b.shape[-1])


def _changed(module: nn.Module, name: str, value):
    """A parameter plus its dense delta, if it has one."""
    change = module.get_variable("delta", name)
    return value if change is None else (value + change).astype(value.dtype)


class Projection(nn.Module):
    """A linear map with optional bias, dense delta and low-rank delta."""

    features: int
    use_bias: bool = False

    @nn.compact
    def __call__(self, x, packing: Packing | None = None):
        kernel = self.param("kernel", _init_kernel, (x.shape[-1], self.features))
        y = x @ _changed(self, "kernel", kernel)
        a, b = self.get_variable("delta", "a"), self.get_variable("delta", "b")
        if a is not None and (packing is None or a.ndim == 2 or a.shape[0] == 1):
            y = y + low_rank(x, a, b).astype(y.dtype)
        elif a is not None:
            change = low_rank(packing_lib.unpack(packing, x), a, b)
            y = y + packing_lib.pack(packing, change).astype(y.dtype)
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros_init(), (self.features,))
            y = y + _changed(self, "bias", bias)
        return y


class RMSNorm(nn.Module):
    """Root-mean-square norm (Zhang and Sennrich, 2019), computed in float32."""

    config: ModelConfig

    @nn.compact
    def __call__(self, x):
        c = self.config
        start = nn.initializers.constant(1.0 - c.norm_offset)
        scale = _changed(self, "scale", self.param("scale", start, (x.shape[-1],)))
        x_f32 = x.astype(jnp.float32)
        y = x_f32 * jax.lax.rsqrt(jnp.mean(x_f32**2, axis=-1, keepdims=True) + c.norm_eps)
        if c.norm_offset:  # a scale near 0 is exact in bfloat16, and one near 1 is not
            return (y * (c.norm_offset + scale.astype(jnp.float32))).astype(x.dtype)
        return y.astype(x.dtype) * scale


class Embed(nn.Module):
    """Token embedding; `attend` is the output head of models with tied embeddings."""

    config: ModelConfig

    def setup(self):
        shape = (self.config.vocab_size, self.config.hidden_size)
        table = self.param("embedding", nn.initializers.normal(0.02), shape)
        self.table_VxD = _changed(self, "embedding", table)

    def __call__(self, tokens):
        x = self.table_VxD[tokens]
        return x * jnp.asarray(x.shape[-1] ** 0.5, x.dtype) if self.config.scaled_embeddings else x

    def attend(self, x):
        return jnp.einsum("...d,vd->...v", x, self.table_VxD, preferred_element_type=jnp.float32)


class Head(nn.Module):
    """The output head of models with untied embeddings; logits are float32."""

    config: ModelConfig

    @nn.compact
    def __call__(self, x):
        shape = (x.shape[-1], self.config.vocab_size)
        kernel = _changed(self, "kernel", self.param("kernel", _init_kernel, shape))
        return jnp.einsum("...d,dv->...v", x, kernel, preferred_element_type=jnp.float32)


class Attention(nn.Module):
    """Causal grouped-query attention with rotary positions and an optional key/value cache."""

    config: ModelConfig

    @nn.compact
    def __call__(self, x, rope, mask, cache=None, slot=None, packing: Packing | None = None):
        """Attends over the block's own tokens, or over a cache into which they are written.

        Args:
          x: [B, T, D], or [P, D] with a packing.
          rope: (cos, sin), each [B, T, Dh/2] float32, of the tokens' positions.
          mask: [B, 1, T, S] bool, true where a query may look at a key; or None (see `attention`).
          cache: None (S = T), or (keys, values), each [B, S, G, Dh].
          slot: scalar; where in the cache the T tokens are written.
          packing: of the B rows, without a cache.

        Returns:
          (y like x, (keys, values)): the updated cache, or the tokens' own keys and values.
        """
        c = self.config
        counts = {"q": c.num_heads, "k": c.num_kv_heads, "v": c.num_kv_heads}

        def projected(name, count):
            features = count * c.head_dim
            return Projection(features, c.attention_bias, name=f"{name}_proj")(x, packing)

        if c.fused:
            qkv = projected("qkv", sum(counts.values()))
            ends = (c.num_heads * c.head_dim, (c.num_heads + c.num_kv_heads) * c.head_dim)
            parts = dict(zip(counts, jnp.split(qkv, ends, axis=-1), strict=True))
        else:
            parts = {name: projected(name, count) for name, count in counts.items()}

        def heads(name):
            y = parts[name]
            over = "none" if name == "v" else c.qk_norm
            y = RMSNorm(c, name=f"{name}_norm")(y) if over == "all" else y
            y = y if packing is None else packing_lib.unpack(packing, y)
            y = y.reshape(*y.shape[:2], counts[name], c.head_dim)
            return RMSNorm(c, name=f"{name}_norm")(y) if over == "head" else y

        q_BxTxHxDh, k_BxTxGxDh, v_BxTxGxDh = map(heads, "qkv")
        q_BxTxHxDh = rotate(q_BxTxHxDh, *rope)
        k, v = rotate(k_BxTxGxDh, *rope), v_BxTxGxDh
        if cache is not None:
            k = jax.lax.dynamic_update_slice(cache[0], k, (0, slot, 0, 0))
            v = jax.lax.dynamic_update_slice(cache[1], v, (0, slot, 0, 0))
        y = attention.attend(q_BxTxHxDh, k, v, mask, scale=c.query_scale, cap=c.attention_cap)
        y = y.reshape(*y.shape[:2], c.num_heads * c.head_dim)
        y = y if packing is None else packing_lib.pack(packing, y)
        return Projection(c.hidden_size, c.attention_out_bias, name="o_proj")(y, packing), (k, v)


class MLP(nn.Module):
    """SwiGLU or GeGLU feed-forward layer (Shazeer, 2020)."""

    config: ModelConfig

    @nn.compact
    def __call__(self, x, packing: Packing | None = None):
        activation = nn.silu if self.config.activation == "silu" else nn.gelu
        size = self.config.intermediate_size
        if self.config.fused:
            both = Projection(2 * size, name="gate_up_proj")(x, packing)
            gate, up = jnp.split(both, 2, axis=-1)
        else:
            gate = Projection(size, name="gate_proj")(x, packing)
            up = Projection(size, name="up_proj")(x, packing)
        return Projection(self.config.hidden_size, name="down_proj")(activation(gate) * up, packing)


class Block(nn.Module):
    """One decoder layer, with norms round its parts. See `Attention` for the arguments."""

    config: ModelConfig

    @nn.compact
    def __call__(self, x, rope, mask, cache=None, slot=None, packing: Packing | None = None):
        c = self.config

        def norm(name, x):
            return RMSNorm(c, name=name)(x) if c.has_norm(name) else x

        y = norm("attn_norm", x)
        y, keys_values = Attention(c, name="attn")(y, rope, mask, cache, slot, packing)
        x = x + norm("attn_post_norm", y)
        y = MLP(c, name="mlp")(norm("mlp_norm", x), packing)
        return x + norm("mlp_post_norm", y), keys_values
