"""Architecture of a decoder language model, read from a Hugging Face `config.json`."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

Implementation = Literal["blockwise", "cudnn"]  # of attention


@dataclasses.dataclass(frozen=True, kw_only=True)
class Family:
    """What a family of models has beside the layers that all share.

    Attributes:
      architecture: its class in transformers, which exported checkpoints name.
      bias: which attention projections have one: "none"; "qkv"; or all four where `config.json`
        says attention_bias, "configured".
      qk_norm: whether queries and keys are normalised.
      window: the sliding window, in tokens, that its `config.json` means where it names none; None
        for full attention.
    """

    architecture: str
    bias: Literal["none", "qkv", "configured"] = "none"
    qk_norm: bool = False
    window: int | None = None


# By model_type. docs/extending.md says how another one is added.
FAMILIES: Mapping[str, Family] = {
    "llama": Family(architecture="LlamaForCausalLM", bias="configured"),
    "mistral": Family(architecture="MistralForCausalLM", window=4096),
    "qwen2": Family(architecture="Qwen2ForCausalLM", bias="qkv"),
    "qwen3": Family(architecture="Qwen3ForCausalLM", bias="configured", qk_norm=True),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class RopeScaling:
    """Llama 3 frequency scaling of rotary embeddings (Llama 3.1 report, section 3)."""

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_max_positions: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """What the decoder needs to know of a checkpoint of one of FAMILIES.

    And of the devices that its programs are for: `attention`, see `DeviceMesh.with_attention`.
    """

    family: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    rope_theta: float = 10000.0
    rope_scaling: RopeScaling | None = None
    norm_eps: float = 1e-6
    tie_embeddings: bool = False
    attention_bias: bool = False
    attention_out_bias: bool = False
    qk_norm: bool = False
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

    @classmethod
    def from_hf(cls, config: Mapping[str, Any]) -> "ModelConfig":
        """Reads the dict of a `config.json` (transformers 4 or 5 key names).

        Raises:
          ValueError: the model type or one of its features is not supported, or a key is missing or
            says what no model is.
        """
        name: Any = config.get("model_type")
        if not isinstance(name, str) or name not in FAMILIES:
            raise ValueError(
                f"model_type {name!r} is not supported: expected one of {', '.join(FAMILIES)}."
            )
        family = FAMILIES[name]
        missing = [key for key in _REQUIRED if key not in config]
        if missing:
            raise ValueError(f"config.json lacks {', '.join(missing)}.")
        _refuse_absurd(config)
        _refuse_unsupported(config, family)
        num_heads = config["num_attention_heads"]
        rope_theta, rope_scaling = _rope(config)
        configured = family.bias == "configured" and bool(config.get("attention_bias", False))
        return cls(
            family=name,
            vocab_size=config["vocab_size"],
            hidden_size=config["hidden_size"],
            intermediate_size=config["intermediate_size"],
            num_layers=config["num_hidden_layers"],
            num_heads=num_heads,
            num_kv_heads=config.get("num_key_value_heads") or num_heads,
            head_dim=config.get("head_dim") or config["hidden_size"] // num_heads,
            rope_theta=rope_theta,
            rope_scaling=rope_scaling,
            norm_eps=config.get("rms_norm_eps", 1e-6),
            tie_embeddings=bool(config.get("tie_word_embeddings", False)),
            attention_bias=family.bias == "qkv" or configured,
            attention_out_bias=configured,
            qk_norm=family.qk_norm,
            max_positions=config.get("max_position_embeddings", 2048),
        )


# The most that a whole number may be: far above any model.
_MOST = {
    "vocab_size": 10**7,
    "hidden_size": 10**6,
    "intermediate_size": 10**7,
    "num_hidden_layers": 10**4,
    "num_attention_heads": 10**4,
    "num_key_value_heads": 10**4,
    "head_dim": 10**5,
    "max_position_embeddings": 10**9,
    "original_max_position_embeddings": 10**9,
    "sliding_window": 10**9,
}
_NUMBERS = ("rope_theta", "rms_norm_eps", "factor", "low_freq_factor", "high_freq_factor")
_FLAGS = ("tie_word_embeddings", "attention_bias", "mlp_bias", "use_sliding_window")
_REQUIRED = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
)


_LLAMA3_ROPE = (
    "factor",
    "low_freq_factor",
    "high_freq_factor",
    "original_max_position_embeddings",
)


def _refuse_absurd(config: Mapping[str, Any]) -> None:
    """Values of another type, and numbers that no model has."""
    for key, value in config.items():
        if value is None and key not in _REQUIRED:
            continue
        if key in ("rope_parameters", "rope_scaling"):
            if not isinstance(value, Mapping):
                raise ValueError(f"{key} of config.json must be an object, not {value!r:.40}.")
            _refuse_absurd(value)
        elif key in _MOST and not (type(value) is int and 1 <= value <= _MOST[key]):
            raise ValueError(
                f"{key} of config.json must be a whole number from 1 to {_MOST[key]:,}, not "
                f"{value!r:.40}."
            )
        elif key in _NUMBERS and not (type(value) in (int, float) and 0 < value < 1e12):
            raise ValueError(f"{key} of config.json must be a number above 0, not {value!r:.40}.")
        elif key in _FLAGS and not isinstance(value, bool):
            raise ValueError(f"{key} of config.json must be true or false, not {value!r:.40}.")


def _refuse_unsupported(config: Mapping[str, Any], family: Family) -> None:
    """Features that would silently change the logits."""
    activation = config.get("hidden_act", "silu")
    if activation not in ("silu", "swish"):
        raise ValueError(f"hidden_act {activation!r} is not supported: expected 'silu'.")
    if config.get("mlp_bias"):
        raise ValueError("mlp_bias=true is not supported: expected MLP projections without bias.")
    if config.get("use_sliding_window"):
        raise ValueError(
            "use_sliding_window=true is not supported: set it to false in config.json (full "
            "attention), which is exact for sequences shorter than sliding_window."
        )
    window = config.get("sliding_window", family.window) if family.window else None
    if window and window < config.get("max_position_embeddings", 2048):
        raise ValueError(
            f"sliding_window={window} is not supported: set it to null in config.json (full "
            "attention), which is exact for sequences no longer than that."
        )


def _rope(config: Mapping[str, Any]) -> tuple[float, RopeScaling | None]:
    """Base and scaling, from `rope_parameters` (transformers 5) or the older pair of keys.

    Where a file has both, transformers goes by `rope_scaling`.
    """
    rope = config.get("rope_scaling") or config.get("rope_parameters") or {}
    share = rope.get("partial_rotary_factor", config.get("partial_rotary_factor")) or 1.0
    if share != 1.0:
        raise ValueError(
            f"partial_rotary_factor={share} is not supported: expected rotary embeddings of whole "
            "heads."
        )
    theta = float(rope.get("rope_theta", config.get("rope_theta") or 10000.0))
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind == "default":
        return theta, None
    if kind != "llama3":
        raise ValueError(f"rope_type {kind!r} is not supported: expected 'default' or 'llama3'.")
    missing = [key for key in _LLAMA3_ROPE if key not in rope]
    if missing:
        raise ValueError(f"the llama3 rope scaling of config.json lacks {', '.join(missing)}.")
    return theta, RopeScaling(
        factor=rope["factor"],
        low_freq_factor=rope["low_freq_factor"],
        high_freq_factor=rope["high_freq_factor"],
        original_max_positions=rope["original_max_position_embeddings"],
    )
