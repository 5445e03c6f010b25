"""A model's config.json, which may say anything, as a `ModelConfig`."""

from collections.abc import Mapping
from typing import Any

from seal_jax.core import families
from seal_jax.core.families import FAMILIES, LAYER_TYPES
from seal_jax.core.model.config import ModelConfig

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
    "sliding_window_pattern": 10**4,
    "no_rope_layer_interval": 10**4,
}
_NUMBERS = (
    "rope_theta",
    "rope_local_base_freq",
    "rms_norm_eps",
    "query_pre_attn_scalar",
    "attn_logit_softcapping",
    "final_logit_softcapping",
    "attention_factor",
    "beta_fast",
    "beta_slow",
    "mscale",
    "mscale_all_dim",
    "factor",
    "low_freq_factor",
    "high_freq_factor",
)
_FLAGS = ("tie_word_embeddings", "attention_bias", "mlp_bias", "use_sliding_window")


def model_config(config: Mapping[str, Any]) -> ModelConfig:
    """`families.model_config` of what nobody has looked at.

    Raises:
      ValueError: see there; or a value is not of its key's type, or a number that no model has.
    """
    name = config.get("model_type")
    if isinstance(name, str) and name in FAMILIES:
        _refuse_absurd(config)
        _refuse_short_lists(config)
    return families.model_config(config)


def _refuse_absurd(config: Mapping[str, Any]) -> None:
    for key, value in config.items():
        if value is None:
            continue  # as if it were left out
        if key in ("rope_parameters", "rope_scaling", *LAYER_TYPES):
            if not isinstance(value, Mapping):
                raise ValueError(f"{key} of config.json must be an object, not {value!r:.40}.")
            _refuse_absurd(value)
        elif key in _MOST and not (type(value) is int and 1 <= value <= _MOST[key]):
            raise ValueError(
                f"{key} of config.json must be a whole number from 1 to {_MOST[key]:,}, not "
                f"{value!r:.40}."
            )
        elif key == "max_window_layers" and not (type(value) is int and value >= 0):
            raise ValueError(f"{key} of config.json must be a whole number, not {value!r:.40}.")
        elif key in _NUMBERS and not (type(value) in (int, float) and 0 < value < 1e12):
            raise ValueError(f"{key} of config.json must be a number above 0, not {value!r:.40}.")
        elif key in _FLAGS and not isinstance(value, bool):
            raise ValueError(f"{key} of config.json must be true or false, not {value!r:.40}.")


def _refuse_short_lists(config: Mapping[str, Any]) -> None:
    """Lists of something of each layer."""
    for key, allowed in (("layer_types", LAYER_TYPES), ("no_rope_layers", (0, 1))):
        value = config.get(key)
        if value is None:
            continue
        if not isinstance(value, list) or len(value) < (config.get("num_hidden_layers") or 0):
            raise ValueError(f"{key} of config.json must be a list with an entry a layer.")
        odd = [entry for entry in value if entry not in allowed]
        if odd:
            raise ValueError(
                f"{key} of config.json has {odd[0]!r:.40}, which is not supported: expected "
                f"{allowed[0]!r} or {allowed[1]!r}."
            )
