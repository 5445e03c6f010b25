"""Which dimension of each parameter is split over the model axis: tensor parallelism.

As in Megatron-LM (Shoeybi et al., 2019): q, k, v, gate and up projections are split by their
outputs, o and down projections by their inputs, so that a layer needs one sum over the axis after
its attention and one after its feed-forward part. Embeddings and the head are split by vocabulary.
Of a low-rank delta's factors the one that has the split dimension of its kernel is split with it.

Attention is split by whole heads: where the axis does not divide the heads, or for k and v the
key/value heads, their projections are replicated; other dimensions that it does not divide too.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

import jax
from jax.sharding import PartitionSpec

from seal_jax.core.model.config import ModelConfig

MODEL = "model"


class Rule(NamedTuple):
    """How the parameters are split whose path a regular expression matches.

    Attributes:
      pattern: matched against the whole path, such as "layers/attn/q_proj/kernel" or, of a
        low-rank delta, "layers/attn/q_proj/b".
      units: the field of `ModelConfig` that counts what is shared out, and that the axis must
        divide; "" replicates.
      dimension: that is split, from the end: leading axes (candidates, layers) do not count.
    """

    pattern: str
    units: str = ""
    dimension: int = -1


# The first that matches holds.
RULES = (
    Rule("embed/embedding", "vocab_size", -2),
    Rule("head/kernel", "vocab_size", -1),
    Rule("layers/attn/q_proj/(kernel|bias|b)", "num_heads", -1),
    Rule("layers/attn/[kv]_proj/(kernel|bias|b)", "num_kv_heads", -1),
    Rule("layers/attn/o_proj/(kernel|a)", "num_heads", -2),
    Rule("layers/mlp/(gate|up)_proj/(kernel|b)", "intermediate_size", -1),
    Rule("layers/mlp/down_proj/(kernel|a)", "intermediate_size", -2),
    Rule("layers/(attn/qkv|mlp/gate_up)_proj/kernel"),  # a part of each would be on each device
    Rule("layers/(attn|mlp)/[a-z_]+_proj/[ab]"),
    Rule("layers/attn/o_proj/bias"),
    Rule("layers/(attn|mlp)(_post)?_norm/scale"),
    Rule("layers/attn/[qk]_norm/scale"),
    Rule("final_norm/scale"),
)


def rule_of(path: str, rules: Sequence[Rule] = RULES) -> Rule:
    """The first rule that a parameter's path matches.

    Raises:
      ValueError: none does; the message names the parameter.
    """
    for rule in rules:
        if re.fullmatch(rule.pattern, path):
            return rule
    raise ValueError(
        f"no sharding rule covers the parameter {path!r}: add one to sharding.RULES that says "
        "along which dimension it is split over the model axis, or that it is replicated."
    )


def spec(
    config: ModelConfig, path: str, ndim: int, model_axis: int, first: str | None = None
) -> PartitionSpec:
    """How one parameter lies on the mesh.

    Args:
      config: of the model.
      path: of the parameter, or of a delta's leaf; "" is no parameter and is replicated.
      ndim: number of its dimensions.
      model_axis: size of the axis.
      first: the mesh axis that the leading dimension is spread over, if any.

    >>> from seal_jax.core.model.config import ModelConfig
    >>> config = ModelConfig(family="llama", vocab_size=49152, hidden_size=576, num_layers=30,
    ...                      intermediate_size=1536, num_heads=8, num_kv_heads=2, head_dim=64)
    >>> tuple(spec(config, "layers/attn/q_proj/kernel", 3, model_axis=4))
    (None, None, 'model')
    >>> tuple(spec(config, "layers/attn/k_proj/kernel", 3, model_axis=4))  # it has 2 heads
    ()
    >>> tuple(spec(config, "layers/mlp/down_proj/a", 4, model_axis=4, first="data"))
    ('data', None, 'model')
    """
    rule = rule_of(path) if path else Rule("")
    axes = [first, *[None] * (ndim - 1)] if ndim else []
    if rule.units and model_axis > 1 and getattr(config, rule.units) % model_axis == 0:
        axes[rule.dimension] = MODEL
    while axes and axes[-1] is None:
        axes.pop()
    return PartitionSpec(*axes)


def specs(config: ModelConfig, tree, model_axis: int, first: str | None = None):
    """`spec` of every leaf of parameters, of deltas, or of an optimizer's state over them.

    Raises:
      ValueError: no rule covers a leaf.
    """
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: spec(config, _name(path), leaf.ndim, model_axis, first), tree
    )


def _name(path) -> str:
    """The dict keys at the end of a leaf's path: what lies round the parameter tree is no part,
    nor a layer's number behind them."""
    keys: list[str] = []
    for part in path:
        if isinstance(part, jax.tree_util.FlattenedIndexKey):
            continue
        keys = [*keys, part.key] if isinstance(part, jax.tree_util.DictKey) else []
    return "/".join(keys)
