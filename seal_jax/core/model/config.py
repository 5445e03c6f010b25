"""Architecture of a decoder language model."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

from seal_jax.core.model.rope import Rope

Implementation = Literal["blockwise", "cudnn"]  # of attention

_PLAIN = Rope()


@dataclasses.dataclass(frozen=True, kw_only=True)
class LayerKind:
    """In what the layers of a model differ; their parameters have the same shapes.

    Attributes:
      rope: rotary positions; None for none.
      window: how many tokens a token looks at, itself among them; None for all before it.
    """

    rope: Rope | None = _PLAIN
    window: int | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """What the decoder needs to know of a checkpoint of one of `families.FAMILIES`.

    Layer i is of the kind pattern[i % len(pattern)]. Of the devices that its programs are for it
    knows `attention`, see `DeviceMesh.with_attention`.
    """

    family: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    pattern: tuple[LayerKind, ...] = (LayerKind(),)
    norm_eps: float = 1e-6
    tie_embeddings: bool = False
    attention_bias: bool = False
    attention_out_bias: bool = False
    qk_norm: Literal["none", "head", "all"] = "none"
    norms: Literal["before", "around", "after"] = "before"
    fused: bool = False
    norm_offset: float = 0.0
    scaled_embeddings: bool = False
    activation: Literal["silu", "gelu"] = "silu"
    query_scale: float | None = None
    attention_cap: float | None = None
    final_cap: float | None = None
    max_positions: int = 2048
    attention: Implementation = "blockwise"

    def __post_init__(self):
        if self.num_heads % self.num_kv_heads:
            raise ValueError(
                f"num_attention_heads ({self.num_heads}) must be a multiple of "
                f"num_key_value_heads ({self.num_kv_heads})."
            )
        if self.head_dim % 2:
            raise ValueError(f"head_dim must be even for rotary embeddings, not {self.head_dim}.")

    @property
    def layer_kinds(self) -> list[LayerKind]:
        """The kind of each layer."""
        return [self.pattern[layer % len(self.pattern)] for layer in range(self.num_layers)]

    def has_norm(self, name: str) -> bool:
        """Whether a layer has attn_norm, attn_post_norm, mlp_norm or mlp_post_norm."""
        return self.norms == "around" or name.endswith("_post_norm") == (self.norms == "after")

    @classmethod
    def from_hf(cls, config: Mapping[str, Any]) -> "ModelConfig":
        """Reads the dict of a `config.json`; see `families.model_config`."""
        from seal_jax.core import families  # which knows this class

        return families.model_config(config)
