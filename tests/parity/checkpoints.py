"""Tiny random checkpoints of every family, the same for both sides without a file.

Weights come from a seeded numpy generator in Hugging Face names and layout; nothing here needs
PyTorch.
"""

import functools
import zlib

import numpy as np

from seal_jax.core.model.config import ModelConfig
from seal_jax.weights import names

_SMALL = {
    "vocab_size": 80,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-5,
    "hidden_act": "silu",
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}

# The keys of a `config.json`. Both ways of writing the rotary settings occur. The llama3 scaling's
# original length is such that of the four frequencies one is kept, one blended and two stretched.
CONFIGS = {
    "llama": _SMALL
    | {
        "model_type": "llama",
        "tie_word_embeddings": False,
        "rope_theta": 100.0,
        "rope_scaling": {
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 32,
        },
    },
    "llama-biased": _SMALL
    | {
        "model_type": "llama",
        "tie_word_embeddings": True,
        "attention_bias": True,
        "num_key_value_heads": 4,
        "rope_theta": 10000.0,
    },
    "mistral": _SMALL
    | {
        "model_type": "mistral",
        "tie_word_embeddings": False,
        "head_dim": 10,
        "sliding_window": None,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0},
    },
    "qwen2": _SMALL
    | {
        "model_type": "qwen2",
        "tie_word_embeddings": True,
        "num_hidden_layers": 3,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0},
    },
    "qwen3": _SMALL
    | {
        "model_type": "qwen3",
        "tie_word_embeddings": True,
        "head_dim": 16,
        "num_key_value_heads": 1,
        "rope_parameters": {"rope_type": "default", "rope_theta": 5000.0},
    },
    # Every third layer is without rope, and two come after the only whole period.
    "smollm3": _SMALL
    | {
        "model_type": "smollm3",
        "tie_word_embeddings": True,
        "num_hidden_layers": 5,
        "no_rope_layer_interval": 3,
        "rope_theta": 5000.0,
    },
    "smollm3-near": _SMALL
    | {
        "model_type": "smollm3",
        "tie_word_embeddings": False,
        "num_hidden_layers": 3,
        "no_rope_layers": [1, 0, 0],
        "use_sliding_window": True,
        "sliding_window": 5,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
        "rope_theta": 5000.0,
    },
    "phi3-windows": _SMALL
    | {
        "model_type": "phi3",
        "tie_word_embeddings": False,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "sliding_window": 6,
        "rope_theta": 5000.0,
        "original_max_position_embeddings": 64,
        "partial_rotary_factor": 0.75,
        "rope_scaling": {
            "type": "longrope",
            "short_factor": [1.0, 1.1, 1.3, 1.7, 2.5, 4.0],
            "long_factor": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
        },
    },
    "phi3-tied": _SMALL
    | {
        "model_type": "phi3",
        "tie_word_embeddings": True,
        "rope_theta": 1000.0,
    },
    "olmo2-near": _SMALL
    | {
        "model_type": "olmo2",
        "tie_word_embeddings": False,
        "rope_parameters": {"rope_type": "default", "rope_theta": 500.0},
    },
    "olmo2-tied": _SMALL
    | {
        "model_type": "olmo2",
        "tie_word_embeddings": True,
        "attention_bias": True,
        "num_key_value_heads": 4,
        "rope_theta": 5000.0,
    },
    "gemma2": _SMALL
    | {
        "model_type": "gemma2",
        "tie_word_embeddings": True,
        "num_hidden_layers": 3,
        "head_dim": 8,
        "query_pre_attn_scalar": 16,
        "sliding_window": 5,
        "attn_logit_softcapping": 1.5,
        "final_logit_softcapping": 2.0,
        "rope_theta": 1000.0,
    },
    "gemma3-short": _SMALL
    | {
        "model_type": "gemma3_text",
        "tie_word_embeddings": True,
        "num_hidden_layers": 5,
        "head_dim": 10,
        "query_pre_attn_scalar": 24,
        "sliding_window": 5,
        "sliding_window_pattern": 3,
        "rope_theta": 5000.0,
        "rope_local_base_freq": 100.0,
    },
    "gemma3-2": _SMALL
    | {
        "model_type": "gemma3_text",
        "tie_word_embeddings": False,
        "attention_bias": True,
        "head_dim": 8,
        "query_pre_attn_scalar": 8,
        "sliding_window": 6,
        "layer_types": ["full_attention", "sliding_attention"],
        "rope_parameters": {
            "full_attention": {"rope_type": "linear", "rope_theta": 5000.0, "factor": 3.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 50.0},
        },
    },
    "mistral-sliding": _SMALL
    | {
        "model_type": "mistral",
        "tie_word_embeddings": False,
        "sliding_window": 6,
        "rope_parameters": {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 4.0},
    },
    "qwen2-window": _SMALL
    | {
        "model_type": "qwen2",
        "tie_word_embeddings": True,
        "num_hidden_layers": 3,
        "use_sliding_window": True,
        "sliding_window": 4,
        "max_window_layers": 1,
        "rope_theta": 100.0,
        "rope_scaling": {
            "type": "yarn",
            "factor": 4.0,
            "original_max_position_embeddings": 32,
            "beta_fast": 4.0,
        },
    },
}


@functools.cache
def model_config(name: str) -> ModelConfig:
    return ModelConfig.from_hf(CONFIGS[name])


def _slots(name: str):
    """(layer, name, leaf) of every tensor, in the order of the names' table.

    Leaves outside the layers count as of layer 0.
    """

    def place(leaf):
        module, kind = leaf.path.rsplit("/", 1)
        listed = {**names.MODULES, **names.AROUND}
        return list(listed).index(module), kind == "bias"

    for leaf in sorted(names.leaves(model_config(name), "hf"), key=place):
        for layer, tensor in enumerate(leaf.tensors):
            yield layer, tensor, leaf


@functools.cache
def tensors(name: str) -> dict[str, np.ndarray]:
    """Every tensor of the checkpoint, in Hugging Face names and layout.

    Kernels are wide enough that greedy choices are clear and that gradients exceed the norm they
    are clipped to; a separate head is narrower, so that there some are clipped and some are not.
    """
    found = {}
    for _, tensor_name, leaf in _slots(name):
        rng = np.random.default_rng(zlib.crc32(f"{name} {tensor_name}".encode()))
        uniform = rng.random(leaf.tensor_shape) * 2 - 1
        if leaf.path.endswith("scale"):
            array = 1 - model_config(name).norm_offset + 0.4 * uniform
        elif leaf.path.endswith("bias"):
            array = 0.5 * uniform
        elif leaf.path == "embed/embedding":
            # Not so wide, where it is scaled, that every token is followed by itself.
            array = uniform * (0.25 if model_config(name).scaled_embeddings else 1)
        elif leaf.path == "head/kernel":
            array = uniform * np.sqrt(0.5 / leaf.tensor_shape[-1])
        else:
            array = uniform * np.sqrt(6 / leaf.tensor_shape[-1])
        found[tensor_name] = array.astype(np.float32)
    return found


def _copy_from(stored):
    def copy(key, index, target):
        target[...] = stored[key][index]

    return copy


@functools.cache
def params(name: str):
    """The checkpoint as our parameter tree."""
    stored = tensors(name)
    return names.assemble(
        model_config(name),
        "hf",
        {key: tensor.shape for key, tensor in stored.items()},
        _copy_from(stored),
        np.float32,
        source=name,
        advice="",
    )


def prompts(name: str, lengths: tuple[int, ...] = (1, 4, 9, 17)) -> list[list[int]]:
    """Random prompts of different lengths; token 0 may occur in them."""
    rng = np.random.default_rng(zlib.crc32(f"{name} prompts".encode()))
    vocab_size = model_config(name).vocab_size
    return [[int(rng.random() * vocab_size) for _ in range(length)] for length in lengths]


def lora_tensors(name: str, modules: tuple[str, ...], rank: int, *, seed: int, zero_b: bool):
    """LoRA factors by (layer, module, "A" or "B") in PEFT's layout: A [R, in], B [out, R].

    A is uniform in ±1/sqrt(in), as PEFT starts it; B is zero, or of a size that moves the logits.
    """
    factors = {}
    for layer, tensor_name, leaf in _slots(name):
        module = leaf.path.split("/")[-2]
        if module not in modules or not leaf.transposed:
            continue
        features_out, features_in = leaf.tensor_shape
        rng = np.random.default_rng([seed, zlib.crc32(tensor_name.encode())])
        a = (rng.random((rank, features_in)) * 2 - 1) / np.sqrt(features_in)
        b = np.zeros((features_out, rank)) if zero_b else rng.random((features_out, rank)) - 0.5
        factors[layer, module, "A"] = a.astype(np.float32)
        factors[layer, module, "B"] = b.astype(np.float32)
    return factors


def delta_tree(factors) -> dict:
    """The same factors as the tree of a delta: a [L, in, R], b [L, R, out]."""
    tree: dict = {"attn": {}, "mlp": {}}
    for module in dict.fromkeys(module for _, module, _ in factors):
        group = "mlp" if module in ("gate_proj", "up_proj", "gate_up_proj", "down_proj") else "attn"
        layers = sorted({layer for layer, other, _ in factors if other == module})
        tree[group][module] = {
            factor.lower(): np.stack([factors[layer, module, factor].T for layer in layers])
            for factor in "AB"
        }
    return {"layers": {group: modules for group, modules in tree.items() if modules}}


def lora_factors(tree) -> dict:
    """The inverse of `delta_tree`, for comparison tensor by tensor."""
    return {
        (layer, module, factor.upper()): matrix.T
        for modules in tree["layers"].values()
        for module, factors in modules.items()
        for factor, leaf in factors.items()
        for layer, matrix in enumerate(np.asarray(leaf))
    }
