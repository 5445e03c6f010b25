"""Architecture of a decoder language model, read from a Hugging Face `config.json`."""

import dataclasses
import difflib
from collections.abc import Callable, Mapping
from typing import Any, Literal

from seal_jax.core.model import rope as rope_lib
from seal_jax.core.model.rope import Rope

Implementation = Literal["blockwise", "cudnn"]  # of attention
# Something about a layer, from a config.json and the layer's number from 0.
LayerRule = Callable[[Mapping[str, Any], int], bool]


def _turned(config: Mapping[str, Any], layer: int) -> bool:
    """By no_rope_layers, which has 1 for a layer with rope; else all but every n-th."""
    listed, interval = config.get("no_rope_layers"), config["no_rope_layer_interval"]
    return bool(listed[layer]) if listed else (layer + 1) % interval != 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Family:
    """What a family of models has beside the layers that all share.

    Attributes:
      architecture: its class in transformers, which exported checkpoints name.
      defaults: what keys mean that its `config.json` leaves out.
      bias: which attention projections have one: "none"; "qkv"; or all four where `config.json`
        says attention_bias, "configured".
      qk_norm: whether queries and keys are normalised.
      norms: where they are: "before" attention and MLP, or "around", before and after.
      norm_offset: what is added to a norm's scale; 1.0 where the file has it less 1.
      scaled_embeddings: whether embeddings are multiplied by the root of their width.
      rope: which layers have rotary positions.
      window: which layers look no further back than sliding_window, where neither layer_types nor
        use_sliding_window says otherwise; None for a family that has no windows.
    """

    architecture: str
    defaults: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    bias: Literal["none", "qkv", "configured"] = "none"
    qk_norm: bool = False
    norms: Literal["before", "around"] = "before"
    norm_offset: float = 0.0
    scaled_embeddings: bool = False
    rope: LayerRule = lambda config, layer: True
    window: LayerRule | None = None


_LAST_LAYERS: dict[str, Any] = {
    "defaults": {"use_sliding_window": False, "sliding_window": 4096, "max_window_layers": 28},
    "window": lambda config, layer: layer >= config["max_window_layers"],
}

_GEMMA: dict[str, Any] = {
    "bias": "configured",
    "norms": "around",
    "norm_offset": 1.0,
    "scaled_embeddings": True,
    "window": lambda config, layer: (layer + 1) % config["sliding_window_pattern"] != 0,
}
_GEMMA_DEFAULTS: dict[str, Any] = {
    "head_dim": 256,
    "hidden_activation": "gelu_pytorch_tanh",
    "query_pre_attn_scalar": 256,
    "sliding_window": 4096,
    "tie_word_embeddings": True,
}

# By model_type. docs/extending.md says how another one is added.
FAMILIES: Mapping[str, Family] = {
    "llama": Family(architecture="LlamaForCausalLM", bias="configured"),
    "mistral": Family(
        architecture="MistralForCausalLM",
        defaults={"sliding_window": 4096},
        window=lambda config, layer: True,
    ),
    "qwen2": Family(architecture="Qwen2ForCausalLM", bias="qkv", **_LAST_LAYERS),
    "qwen3": Family(
        architecture="Qwen3ForCausalLM", bias="configured", qk_norm=True, **_LAST_LAYERS
    ),
    "smollm3": Family(
        architecture="SmolLM3ForCausalLM",
        defaults={
            "tie_word_embeddings": True,
            "rope_theta": 2e6,
            "no_rope_layer_interval": 4,
            "use_sliding_window": False,
        },
        bias="configured",
        rope=_turned,
        window=lambda config, layer: not _turned(config, layer),
    ),
    "gemma3_text": Family(
        architecture="Gemma3ForCausalLM",
        defaults=_GEMMA_DEFAULTS
        | {
            "rope_theta": 1e6,
            "rope_local_base_freq": 1e4,
            "sliding_window_pattern": 6,
            "max_position_embeddings": 131072,
        },
        qk_norm=True,
        **_GEMMA,
    ),
}


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
    """What the decoder needs to know of a checkpoint of one of FAMILIES.

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
    qk_norm: bool = False
    norms: Literal["before", "around"] = "before"
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
        return self.norms == "around" or not name.endswith("_post_norm")

    @classmethod
    def from_hf(cls, config: Mapping[str, Any]) -> "ModelConfig":
        """Reads the dict of a `config.json` (transformers 4 or 5 key names).

        Raises:
          ValueError: the model type or one of its features is not supported, or a key is missing.
        """
        name: Any = config.get("model_type")
        if not isinstance(name, str) or name not in FAMILIES:
            near = difflib.get_close_matches(str(name), FAMILIES, n=1, cutoff=0.0)[0]
            raise ValueError(
                f"model_type {name!r} is not supported: expected one of {', '.join(FAMILIES)}. The "
                f"nearest is {near}; docs/extending.md says how a family is added."
            )
        family = FAMILIES[name]
        config = {**family.defaults, **config}
        missing = [key for key in REQUIRED if key not in config]
        if missing:
            raise ValueError(f"config.json lacks {', '.join(missing)}.")
        _refuse_unsupported(config)
        num_heads = config["num_attention_heads"]
        head_dim = config.get("head_dim") or config["hidden_size"] // num_heads
        scalar = config.get("query_pre_attn_scalar")
        configured = family.bias == "configured" and bool(config.get("attention_bias", False))
        return cls(
            family=name,
            vocab_size=config["vocab_size"],
            hidden_size=config["hidden_size"],
            intermediate_size=config["intermediate_size"],
            num_layers=config["num_hidden_layers"],
            num_heads=num_heads,
            num_kv_heads=config.get("num_key_value_heads") or num_heads,
            head_dim=head_dim,
            pattern=_pattern(config, family),
            norm_eps=config.get("rms_norm_eps", 1e-6),
            tie_embeddings=bool(config.get("tie_word_embeddings", False)),
            attention_bias=family.bias == "qkv" or configured,
            attention_out_bias=configured,
            qk_norm=family.qk_norm,
            norms=family.norms,
            norm_offset=family.norm_offset,
            scaled_embeddings=family.scaled_embeddings,
            activation=_activation(config),
            query_scale=None if scalar in (None, head_dim) else scalar**-0.5,
            max_positions=config.get("max_position_embeddings", 2048),
        )


LAYER_TYPES = ("full_attention", "sliding_attention")
REQUIRED = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
)


def _refuse_unsupported(config: Mapping[str, Any]) -> None:
    """Features that would silently change the logits."""
    for key in ("mlp_bias", "use_bidirectional_attention"):
        if config.get(key):
            raise ValueError(f"{key}={config[key]!r} is not supported: expected false.")


def _activation(config: Mapping[str, Any]) -> Literal["silu", "gelu"]:
    key = "hidden_activation" if config.get("hidden_activation") else "hidden_act"
    match config.get(key, "silu"):
        case "silu" | "swish":
            return "silu"
        case "gelu_pytorch_tanh":
            return "gelu"
        case other:
            raise ValueError(
                f"{key} {other!r} is not supported: expected 'silu' or 'gelu_pytorch_tanh'."
            )


def _pattern(config: Mapping[str, Any], family: Family) -> tuple[LayerKind, ...]:
    """The shortest pattern of kinds of layers whose repetition is that of all layers."""
    count, types = config["num_hidden_layers"], config.get("layer_types")
    size = config.get("sliding_window") if family.window else None
    if not config.get("use_sliding_window", True) and "use_sliding_window" in family.defaults:
        size = None
    if size and size >= config.get("max_position_embeddings", 2048):
        size = None  # it holds all positions
    ropes = {name: rope_lib.from_hf(config, name) for name in LAYER_TYPES}
    numbers, kinds = [], {}
    for layer in range(count):
        windowed = family.window is not None and family.window(config, layer)
        if types and family.window:
            windowed = types[layer] == "sliding_attention"
        kind = LayerKind(
            rope=ropes[LAYER_TYPES[windowed]] if family.rope(config, layer) else None,
            window=size if windowed else None,
        )
        numbers.append(kinds.setdefault(kind, len(kinds)))
    period = next(
        n for n in range(1, count + 1) if numbers == (numbers[:n] * (count // n + 1))[:count]
    )
    return tuple(list(kinds)[number] for number in numbers[:period])
