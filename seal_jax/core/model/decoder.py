"""The decoder language model as functions over a parameter tree.

The tree is plain nested dicts; the layers' leaves are stacked on a leading axis L:

    {"embed": {"embedding": [V, D]},
     "layers": {"attn_norm", "attn": {"q_proj": {"kernel": [L, D, H*Dh]}, ...}, "mlp_norm", "mlp"},
     "final_norm": {"scale": [D]},
     "head": {"kernel": [D, V]}}            # absent when the embeddings are tied

`delta` arguments are the variables of `seal_jax.core.delta.variables`: a tree with the same module
paths. Training and prefill scan over the stacked layers; decoding loops over split ones. Of
parameters whose layers are arrays of their own (`per_layer`) every program loops over these.
"""

import functools
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from seal_jax.core.model import attention, per_layer, soft_cap, token_loss
from seal_jax.core.model import packing as packing_lib
from seal_jax.core.model import rope as rope_lib
from seal_jax.core.model.config import ModelConfig
from seal_jax.core.model.layers import Block, Embed, Head, RMSNorm
from seal_jax.core.model.packing import Packing
from seal_jax.core.specs import Remat

Params = dict[str, Any]


class KVCache(flax.struct.PyTreeNode):
    """Keys and values of every layer. Prompts are right-aligned, so all rows share one slot.

    A layer with a window has no more slots than that: slot s is kept in its place s % S, over what
    lies a window back.

    Attributes:
      keys, values: L-tuples of [B, S, G, Dh].
      starts_B: the first used slot of each row; the position of slot s is s - start.
    """

    keys: tuple[jax.Array, ...]
    values: tuple[jax.Array, ...]
    starts_B: jax.Array

    def grown(self, config: ModelConfig, slots: int) -> "KVCache":
        """With room for so many slots, or for their windows."""

        def padded(part):
            sizes = zip(part, _sizes(config, slots), strict=True)
            return tuple(_cached(of, size) for of, size in sizes)

        return self.replace(keys=padded(self.keys), values=padded(self.values))


def init(config: ModelConfig, key, dtype=jnp.float32) -> Params:
    """Random parameters of the tree that the module's docstring shows."""
    key_embed, key_layers, key_head = jax.random.split(key, 3)
    tokens = jnp.zeros((1, 1), jnp.int32)
    x = jnp.zeros((1, 1, config.hidden_size), jnp.float32)
    rope = rope_lib.angles(None, config.head_dim, tokens)
    mask = jnp.ones((1, 1, 1, 1), bool)

    def init_layer(key_layer):
        return Block(config).init(key_layer, x, rope, mask)["params"]

    params = {
        "embed": Embed(config).init(key_embed, tokens)["params"],
        "layers": jax.vmap(init_layer)(jax.random.split(key_layers, config.num_layers)),
        "final_norm": RMSNorm(config).init(key_head, x)["params"],
    }
    if not config.tie_embeddings:
        params["head"] = Head(config).init(key_head, x)["params"]
    return jax.tree.map(lambda leaf: leaf.astype(dtype), params)


@functools.cache
def param_shapes(config: ModelConfig) -> Params:
    """The parameter tree with the shape of each leaf in its place."""
    shapes = jax.eval_shape(functools.partial(init, config), jax.random.key(0))
    return jax.tree.map(lambda leaf: leaf.shape, shapes)


def hidden_states(
    config,
    params,
    tokens_BxT,
    *,
    delta=None,
    packing: Packing | None = None,
    attended_B=None,
    remat: Remat = "none",
):
    """Final hidden states of right-padded rows; a row's padding cannot reach its real tokens.

    Args:
      tokens_BxT: token ids.
      delta: None, or delta variables (one candidate's, or K candidates' grouped rows).
      packing: of the rows, to compute on their real tokens only; None computes on all B x T.
      attended_B: how many tokens of each row, from the first on, may be looked at, as with
        transformers' attention_mask; None is all.
      remat: what the backward pass computes anew: nothing, everything of a layer but the outputs
        of its large matrix products ("dots"), or the layer ("full"; the least memory).

    Returns:
      [B, T, D], or [P, D] with a packing, after the final norm.
    """
    tokens = tokens_BxT.shape[1]
    mask = functools.partial(attention.causal_mask, config, tokens, attended_B)
    positions = jnp.broadcast_to(jnp.arange(tokens), tokens_BxT.shape)
    x, _ = _scan_layers(
        config, params, tokens_BxT, positions, mask, delta, packing=packing, remat=remat
    )
    return x


def prefill(config, params, tokens_BxT, lengths_B, cache_len: int, *, delta=None):
    """Runs right-aligned prompts and opens a cache for what follows them.

    Args:
      tokens_BxT: prompts, right-aligned (padding on the left).
      lengths_B: their true lengths; padding is masked by length.
      cache_len: S, at least T plus the number of tokens to come.

    Returns:
      (logits [B, V] float32 of the token after each prompt, KVCache).
    """
    tokens = tokens_BxT.shape[1]
    starts_B = tokens - lengths_B
    slots = jnp.arange(tokens)
    causal = functools.partial(attention.causal_mask, config, tokens)
    if causal() is None:  # and no other is taken: prompts go to the left, what they gave back again
        positions_BxT = jnp.broadcast_to(slots, tokens_BxT.shape)
        x, keys_values = _scan_layers(
            config, params, _rolled(tokens_BxT, -starts_B), positions_BxT, causal, delta
        )
        x = _rolled(x, starts_B)
        keys, values = (_rolled(of, starts_B, axis=1) for of in keys_values)
    else:
        positions_BxT = jnp.maximum(slots[None] - starts_B[:, None], 0)
        real_Bx1x1xT = (slots[None] >= starts_B[:, None])[:, None, None]
        x, (keys, values) = _scan_layers(
            config,
            params,
            tokens_BxT,
            positions_BxT,
            lambda window: causal(window=window) & real_Bx1x1xT,
            delta,
        )
    cache = KVCache(keys=tuple(keys), values=tuple(values), starts_B=starts_B)
    return logits(config, params, x[:, -1], delta=delta), cache.grown(config, cache_len)


def _sizes(config: ModelConfig, slots: int) -> list[int]:
    """Of each layer's cache for so many slots."""
    return [min(kind.window or slots, slots) for kind in config.layer_kinds]


def _cached(of_BxTxGxDh, size: int):
    """The last tokens of prompts, as many as there are slots, each in its own (see `KVCache`)."""
    tokens = of_BxTxGxDh.shape[1]
    if tokens <= size:
        return jnp.pad(of_BxTxGxDh, [(0, 0), (0, size - tokens), (0, 0), (0, 0)])
    return jnp.roll(of_BxTxGxDh[:, tokens - size :], tokens % size, axis=1)


def _rolled(x, shifts_B, axis: int = 0):
    """Rows, which `axis` counts, each turned to the right along the axis behind it."""
    turn = functools.partial(jnp.roll, axis=axis)
    return jax.vmap(turn, in_axes=(axis, 0), out_axes=axis)(x, shifts_B)


def split_layers(config: ModelConfig, tree: Params | None) -> list[Params]:
    """Per-layer trees of the `layers` part of parameters or delta variables.

    `{"attn": {"q_proj": {"kernel": [L, D, F]}}}` becomes L times
    `{"attn": {"q_proj": {"kernel": [D, F]}}}`. Slicing once before a decode loop keeps the loop
    from copying every layer at every token.
    """
    layers = (tree or {}).get("layers", {})
    return [per_layer.layer(layers, number) for number in range(config.num_layers)]


def decode_step(config, params, layers, tokens_B, slot, cache: KVCache, *, delta=None, deltas=None):
    """One token further for every row.

    Args:
      params: the whole tree (its embedding, final norm and head are used).
      layers: `split_layers(params)`; deltas: `split_layers(delta)`, or None.
      tokens_B: the tokens to read; slot: the scalar cache slot they are written to.

    Returns:
      (logits [B, V] float32, updated cache).
    """
    positions_Bx1 = (slot - cache.starts_B)[:, None]

    def tables(kind, size):
        """(rope, mask) of a kind of layers with so many slots; each holds its newest."""
        held_S = jnp.arange(size)
        if kind.window is not None:
            held_S = slot - (slot - held_S) % size
        seen_BxS = (held_S[None] >= cache.starts_B[:, None]) & (held_S <= slot)
        mask_Bx1x1xS = seen_BxS[:, None, None]
        return rope_lib.angles(kind.rope, config.head_dim, positions_Bx1), mask_Bx1x1xS

    kinds, sizes = config.layer_kinds, [keys.shape[1] for keys in cache.keys]
    tables_of = {key: tables(*key) for key in dict.fromkeys(zip(kinds, sizes, strict=True))}
    x = _embed(config, params, tokens_B[:, None], delta)
    keys, values = [], []
    for i, layer in enumerate(layers):
        variables = {"params": layer, "delta": deltas[i] if deltas else {}}
        layer_cache = (cache.keys[i], cache.values[i])
        place = slot if kinds[i].window is None else slot % sizes[i]
        x, (k, v) = Block(config).apply(
            variables, x, *tables_of[kinds[i], sizes[i]], layer_cache, place
        )
        keys.append(k)
        values.append(v)
    x = _final_norm(config, params, x, delta)
    cache = cache.replace(keys=tuple(keys), values=tuple(values))
    return logits(config, params, x[:, 0], delta=delta), cache


def logits(config: ModelConfig, params: Params, hidden, *, delta=None):
    """[..., V] float32 logits of final hidden states [..., D]."""
    if config.tie_embeddings:
        variables = {"params": params["embed"], "delta": (delta or {}).get("embed", {})}
        scores = Embed(config).apply(variables, hidden, method=Embed.attend)
    else:
        variables = {"params": params["head"], "delta": (delta or {}).get("head", {})}
        scores = Head(config).apply(variables, hidden)
    return soft_cap.capped(scores, config.final_cap)


def log_likelihoods(
    config,
    params,
    tokens_BxT,
    *,
    loss_mask_BxT=None,
    delta=None,
    packing: Packing | None = None,
    attended_B=None,
    soft_BxT: token_loss.SoftTargets | None = None,
    remat: Remat = "none",
):
    """[B, T-1] float32: log p(token t+1 | tokens ..t) of right-padded rows.

    Args:
      tokens_BxT, delta, packing, attended_B, remat: see `hidden_states`.
      loss_mask_BxT: bool; where false, the log-likelihood *of* that token is not computed but 0.
        The first column means nothing. None is everywhere.
      soft_BxT: what a teacher expects in the place of each token, or None; see `token_loss`.
    """
    how = {"delta": delta, "packing": packing, "attended_B": attended_B, "remat": remat}
    hidden = hidden_states(config, params, tokens_BxT, **how)
    loss_mask = jnp.ones(tokens_BxT.shape, bool) if loss_mask_BxT is None else loss_mask_BxT
    targets, loss_mask = next_tokens(tokens_BxT, loss_mask)
    if packing is not None:
        targets = packing_lib.pack(packing, targets)
        loss_mask = packing_lib.pack(packing, loss_mask)
    soft = jax.tree.map(lambda of: jnp.roll(of, -1, axis=1), soft_BxT)
    if soft is not None and packing is not None:
        soft = jax.tree.map(functools.partial(packing_lib.pack, packing), soft)
    lls = log_likelihoods_of_hidden(
        config, params, hidden, targets, loss_mask, delta=delta, soft=soft
    )
    lls_BxT = lls if packing is None else packing_lib.unpack(packing, lls)
    return lls_BxT[:, :-1]


def next_tokens(tokens_BxT, loss_mask_BxT):
    """What each position predicts, and whether that counts; after the last one comes nothing."""
    loss_mask_BxT = jnp.roll(loss_mask_BxT, -1, axis=1).at[:, -1].set(False)
    return jnp.roll(tokens_BxT, -1, axis=1), loss_mask_BxT


def log_likelihoods_of_hidden(
    config: ModelConfig, params, hidden, targets, loss_mask, *, allowed=None, delta=None, soft=None
):
    """[...] float32: log p(target) under final hidden states [..., D]; 0 outside the mask.

    The logits exist block by block only (`token_loss`), unless the delta may change the head.

    Args:
      allowed: [..., A] the tokens that p is renormalised over, padded with -1; None is all.
      soft: what a teacher expects in the place of targets; of deltas of the layers alone.
    """
    if set(delta or {}) <= {"layers"}:
        tied = config.tie_embeddings
        return token_loss.log_likelihoods(
            tied,
            params["embed"]["embedding"] if tied else params["head"]["kernel"],
            hidden.reshape(-1, hidden.shape[-1]),
            targets.reshape(-1),
            loss_mask.reshape(-1),
            *jax.tree.map(lambda of: of.reshape(-1, of.shape[-1]), (allowed, soft)),
            config.final_cap,
        ).reshape(targets.shape)
    assert soft is None, "a delta that changes the head is not taught by a teacher"
    scores = logits(config, params, hidden, delta=delta)
    if allowed is None:
        lls = target_log_probs(scores, targets)
    else:
        scores = jnp.take_along_axis(scores, jnp.maximum(allowed, 0), axis=-1)
        scores = jnp.where(allowed >= 0, scores, -jnp.inf)
        chosen = jnp.where(allowed == targets[..., None], scores, -jnp.inf).max(axis=-1)
        lls = chosen - jax.nn.logsumexp(scores, axis=-1)
    return jnp.where(loss_mask, lls, 0.0)


def target_log_probs(logits, targets):
    """[...] log-probabilities of targets [...] under logits [..., V], by a gather and one sum."""
    chosen = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    return chosen - jax.nn.logsumexp(logits, axis=-1)


def _embed(config, params, tokens, delta):
    variables = {"params": params["embed"], "delta": (delta or {}).get("embed", {})}
    return Embed(config).apply(variables, tokens)


def _final_norm(config, params, x, delta):
    variables = {"params": params["final_norm"], "delta": (delta or {}).get("final_norm", {})}
    return RMSNorm(config).apply(variables, x)


def _scan_layers(
    config, params, tokens, positions, mask_of, delta, *, packing=None, remat: Remat = "none"
):
    """Embeds and runs all layers; returns normed states and stacked keys and values.

    A step of the scan is one layer, whatever its kind: what kinds differ in are tables (rotary
    angles, and masks by `mask_of(window)`), of which a step picks its own.
    """
    separated = per_layer.is_separated(params["layers"])
    kinds = list(dict.fromkeys(config.pattern))
    tables = [
        (rope_lib.angles(kind.rope, config.head_dim, positions), mask_of(window=kind.window))
        for kind in kinds
    ]
    kind_L = None
    if len(kinds) > 1:
        kind_L = jnp.array([kinds.index(kind) for kind in config.layer_kinds])
        stacked = jax.tree.map(lambda *of: jnp.stack(of), *tables)

    def layer(x, layer_trees):
        layer_params, layer_delta, kind = layer_trees
        rope, mask = tables[0] if kind is None else jax.tree.map(lambda of: of[kind], stacked)
        variables = {"params": layer_params, "delta": layer_delta}
        return Block(config).apply(variables, x, rope, mask, packing=packing)

    if remat != "none":
        policies = jax.checkpoint_policies
        saved = policies.dots_with_no_batch_dims_saveable if remat == "dots" else None
        # In a scan nothing can be merged with what the forward pass computed. Elsewhere a barrier
        # round x prevents it; one round the parameters would have the compiler copy them.
        layer = jax.checkpoint(layer, policy=saved, prevent_cse=(separated, False))
    tokens = tokens if packing is None else packing_lib.pack(packing, tokens)
    x = _embed(config, params, tokens, delta)
    trees = (params["layers"], (delta or {}).get("layers", {}), kind_L)
    if separated:
        found = []
        for number in range(config.num_layers):
            x, of_layer = layer(x, per_layer.layer(trees, number))
            found.append(of_layer)
        keys_values = jax.tree.map(lambda *of: jnp.stack(of), *found)
    else:
        x, keys_values = jax.lax.scan(layer, x, trees)
    return _final_norm(config, params, x, delta), keys_values
