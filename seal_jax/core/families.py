"""Families of models: what each has, and the `ModelConfig` of its Hugging Face `config.json`."""

import dataclasses
import difflib
import math
from collections.abc import Callable, Mapping
from typing import Any, Literal

from seal_jax.core.model.config import LayerKind, ModelConfig
from seal_jax.core.model.rope import Rope, RopeScaling

# Keys that say something by null; to the others a null is as if they were left out.
_NULL = ("sliding_window", "attn_logit_softcapping", "final_logit_softcapping")
LAYER_TYPES = ("full_attention", "sliding_attention")
_REQUIRED = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
)
# Something about a layer, from a config.json and the layer's number from 0.
LayerRule = Callable[[Mapping[str, Any], int], bool]


def _turned(config: Mapping[str, Any], layer: int) -> bool:
    """By no_rope_layers, which has 1 for a layer with rope; else all but every n-th."""
    listed, interval = config.get("no_rope_layers"), config["no_rope_layer_interval"]
    return bool(listed[layer]) if listed else (layer + 1) % interval != 0


def _but_every(count: int) -> LayerRule:
    return lambda config, layer: (layer + 1) % config.get("sliding_window_pattern", count) != 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Family:
    """What a family of models has beside the layers that all share.

    Attributes:
      architecture: its class in transformers, which exported checkpoints name.
      defaults: what keys mean that its `config.json` leaves out.
      bias: which attention projections have one: "none"; "qkv"; or all four where `config.json`
        says attention_bias, "configured".
      qk_norm: over what queries and keys are normalised: nothing, each head, or all heads at once.
      norms: where they are: "before" attention and MLP, "after", or "around" them.
      fused: whether q, k and v are one projection, and so gate and up.
      norm_offset: what is added to a norm's scale; 1.0 where the file has it less 1.
      scaled_embeddings: whether embeddings are multiplied by the root of their width.
      rope: which layers have rotary positions.
      window: which layers look no further back than sliding_window, where neither layer_types nor
        use_sliding_window says otherwise; None for a family that has no windows.
    """

    architecture: str
    defaults: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    bias: Literal["none", "qkv", "configured"] = "none"
    qk_norm: Literal["none", "head", "all"] = "none"
    norms: Literal["before", "around", "after"] = "before"
    fused: bool = False
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
        architecture="Qwen3ForCausalLM", bias="configured", qk_norm="head", **_LAST_LAYERS
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
    "olmo2": Family(
        architecture="Olmo2ForCausalLM",
        defaults={"rms_norm_eps": 1e-5},
        bias="configured",
        qk_norm="all",
        norms="after",
    ),
    "phi3": Family(
        architecture="Phi3ForCausalLM",
        defaults={
            "rms_norm_eps": 1e-5,
            "partial_rotary_factor": 1.0,
            "original_max_position_embeddings": 4096,
            "max_position_embeddings": 4096,
        },
        fused=True,
        window=lambda config, layer: True,
    ),
    "gemma2": Family(
        architecture="Gemma2ForCausalLM",
        defaults=_GEMMA_DEFAULTS
        | {
            "max_position_embeddings": 8192,
            "attn_logit_softcapping": 50.0,
            "final_logit_softcapping": 30.0,
        },
        window=_but_every(2),
        **_GEMMA,
    ),
    "gemma3_text": Family(
        architecture="Gemma3ForCausalLM",
        defaults=_GEMMA_DEFAULTS
        | {
            "rope_theta": 1e6,
            "rope_local_base_freq": 1e4,
            "max_position_embeddings": 131072,
            "final_logit_softcapping": None,
        },
        qk_norm="head",
        window=_but_every(6),
        **_GEMMA,
    ),
}


def model_config(config: Mapping[str, Any]) -> ModelConfig:
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
    said = {key: value for key, value in config.items() if value is not None or key in _NULL}
    config = {**family.defaults, **said}
    missing = [key for key in _REQUIRED if key not in config]
    if missing:
        raise ValueError(f"config.json lacks {', '.join(missing)}.")
    _refuse_unsupported(config)
    num_heads = config["num_attention_heads"]
    head_dim = _head_dim(config)
    of_family = {key: config[key] for key in family.defaults}  # to others they mean nothing
    scalar = of_family.get("query_pre_attn_scalar")
    configured = family.bias == "configured" and bool(config.get("attention_bias", False))
    return ModelConfig(
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
        fused=family.fused,
        norm_offset=family.norm_offset,
        scaled_embeddings=family.scaled_embeddings,
        activation=_activation(config),
        query_scale=None if scalar in (None, head_dim) else scalar**-0.5,
        attention_cap=of_family.get("attn_logit_softcapping"),
        final_cap=of_family.get("final_logit_softcapping"),
        max_positions=_positions(config),
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
    ropes = {name: _rope(config, name, family) for name in LAYER_TYPES}
    numbers: list[int] = []
    kinds: dict[LayerKind, int] = {}
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


# What parameters of each kind of rope must have.
_ORIGINAL = "original_max_position_embeddings"
_ROPES = {
    "default": (),
    "linear": ("factor",),
    "dynamic": ("factor",),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor", _ORIGINAL),
    "yarn": ("factor", _ORIGINAL),
    "longrope": ("short_factor",),
}


def _rope(config: Mapping[str, Any], layer_type: str, family: Family) -> Rope:
    """From `rope_parameters` (transformers 5) of a config.json, or the older keys.

    Where a file has both, transformers goes by `rope_scaling`. A base of their own have the layers
    with a window where there is a rope_local_base_freq or parameters by the types of layers.
    Dynamic scaling changes nothing within max_position_embeddings, and nobody goes beyond.
    """
    said = config.get("rope_scaling") or config.get("rope_parameters") or {}
    theta = config.get("rope_theta") or 10000.0
    if layer_type == "sliding_attention" and config.get("rope_local_base_freq"):
        said, theta = config.get("rope_parameters") or {}, config["rope_local_base_freq"]
        said = said if layer_type in said else {}
    said = said.get(layer_type) or said
    share = said.get("partial_rotary_factor", config.get("partial_rotary_factor")) or 1.0
    turned = _head_dim(config) * share
    if share != 1.0 and ("partial_rotary_factor" not in family.defaults or turned % 2 or share > 1):
        raise ValueError(
            f"partial_rotary_factor={share} is not supported for model_type "
            f"{config['model_type']}: expected rotary embeddings of whole heads."
        )
    kind = said.get("rope_type", said.get("type", "default"))
    if not isinstance(kind, str) or kind not in _ROPES:
        raise ValueError(f"rope_type {kind!r} is not supported: expected {_or(list(_ROPES))}.")
    missing = [key for key in _ROPES[kind] if said.get(key) is None]
    if missing:
        raise ValueError(f"the {kind} rope scaling of config.json lacks {', '.join(missing)}.")
    plain = Rope(theta=float(said.get("rope_theta", theta)), share=float(share))
    match kind:
        case "linear":
            return dataclasses.replace(plain, divisors=(float(said["factor"]),))
        case "llama3":
            scaling = RopeScaling(
                factor=said["factor"],
                low_freq_factor=said["low_freq_factor"],
                high_freq_factor=said["high_freq_factor"],
                original_max_positions=said[_ORIGINAL],
            )
            return dataclasses.replace(plain, scaling=scaling)
        case "yarn":
            return _yarn(plain, said, int(turned))
        case "longrope":
            return _longrope(plain, said, config, int(turned))
    return plain


def _yarn(rope: Rope, said: Mapping[str, Any], dims: int) -> Rope:
    """YaRN (Peng et al., 2023): slow pairs are stretched, fast ones kept, blended between."""

    def pair(turns: float) -> float:
        """The pair that makes so many turns over the original positions."""
        rounds = said[_ORIGINAL] / (turns * 2 * math.pi)
        return dims * math.log(rounds) / (2 * math.log(rope.theta))

    def stretch(weight) -> float:
        return 0.1 * weight * math.log(factor) + 1.0 if factor > 1 else 1.0

    if rope.theta <= 1:
        raise ValueError(f"rope_theta of config.json must be above 1 for yarn, not {rope.theta}.")
    factor = said["factor"]
    low, high = pair(said.get("beta_fast") or 32), pair(said.get("beta_slow") or 1)
    if said.get("truncate", True):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, dims - 1)
    high += 0.001 * (low == high)
    blends = [min(max((i - low) / (high - low), 0.0), 1.0) for i in range(dims // 2)]
    magnitude = said.get("attention_factor")
    if magnitude is None:
        scales = said.get("mscale"), said.get("mscale_all_dim")
        magnitude = stretch(scales[0]) / stretch(scales[1]) if all(scales) else stretch(1.0)
    divisors = tuple(1 / (blend / factor + 1 - blend) for blend in blends)
    return dataclasses.replace(rope, divisors=divisors, magnitude=float(magnitude))


def _longrope(rope: Rope, said: Mapping[str, Any], config: Mapping[str, Any], dims: int) -> Rope:
    """LongRoPE (Ding et al., 2024) for texts no longer than the original positions."""
    short, original = said["short_factor"], _positions(config)
    fits = isinstance(short, list) and len(short) == dims // 2
    if not fits or not all(type(one) in (int, float) and one > 0 for one in short):
        raise ValueError(f"short_factor of config.json must be a list of {dims // 2} numbers.")
    factor = said.get("factor") or config.get("max_position_embeddings", 2048) / original
    magnitude = said.get("attention_factor")
    if magnitude is None:
        more = math.log(factor) / math.log(original) if factor > 1 and original > 1 else 0.0
        magnitude = math.sqrt(1 + more)
    divisors = tuple(map(float, short))
    return dataclasses.replace(rope, divisors=divisors, magnitude=float(magnitude))


def _positions(config: Mapping[str, Any]) -> int:
    """How long a text may be; longer ones have another rope where it is LongRoPE."""
    said = config.get("rope_scaling") or config.get("rope_parameters") or {}
    original = said.get(_ORIGINAL) or config.get(_ORIGINAL)
    if said.get("rope_type", said.get("type")) == "longrope" and original:
        return original
    return config.get("max_position_embeddings", 2048)


def _head_dim(config: Mapping[str, Any]) -> int:
    return config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]


def _or(words: list[str]) -> str:
    return f"{', '.join(map(repr, words[:-1]))} or {words[-1]!r}"
