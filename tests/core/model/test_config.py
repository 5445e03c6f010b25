"""Configurations of published checkpoints, and what is refused."""

import dataclasses
import math

import jax
import pytest

from seal_jax.core.model import decoder
from seal_jax.core.model.config import LayerKind, ModelConfig
from seal_jax.core.model.rope import Rope, RopeScaling

LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 128000,
    "eos_token_id": 128001,
    "head_dim": 64,
    "hidden_act": "silu",
    "hidden_size": 2048,
    "initializer_range": 0.02,
    "intermediate_size": 8192,
    "max_position_embeddings": 131072,
    "mlp_bias": False,
    "model_type": "llama",
    "num_attention_heads": 32,
    "num_hidden_layers": 16,
    "num_key_value_heads": 8,
    "pretraining_tp": 1,
    "rms_norm_eps": 1e-05,
    "rope_scaling": {
        "factor": 32.0,
        "high_freq_factor": 4.0,
        "low_freq_factor": 1.0,
        "original_max_position_embeddings": 8192,
        "rope_type": "llama3",
    },
    "rope_theta": 500000.0,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "use_cache": True,
    "vocab_size": 128256,
}
MISTRAL = {  # 7B, v0.3
    "architectures": ["MistralForCausalLM"],
    "hidden_act": "silu",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "max_position_embeddings": 32768,
    "model_type": "mistral",
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 8,
    "rms_norm_eps": 1e-05,
    "rope_theta": 1000000.0,
    "sliding_window": None,
    "tie_word_embeddings": False,
    "vocab_size": 32768,
}
QWEN2 = {
    "architectures": ["Qwen2ForCausalLM"],
    "attention_dropout": 0.0,
    "bos_token_id": 151643,
    "eos_token_id": 151643,
    "hidden_act": "silu",
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "max_position_embeddings": 131072,
    "max_window_layers": 28,
    "model_type": "qwen2",
    "num_attention_heads": 28,
    "num_hidden_layers": 28,
    "num_key_value_heads": 4,
    "rms_norm_eps": 1e-06,
    "rope_theta": 1000000.0,
    "sliding_window": 131072,
    "tie_word_embeddings": False,
    "use_mrope": False,
    "use_sliding_window": False,
    "vocab_size": 152064,
}
QWEN3 = {
    "architectures": ["Qwen3ForCausalLM"],
    "attention_bias": False,
    "head_dim": 128,
    "hidden_act": "silu",
    "hidden_size": 1024,
    "intermediate_size": 3072,
    "max_position_embeddings": 40960,
    "max_window_layers": 28,
    "model_type": "qwen3",
    "num_attention_heads": 16,
    "num_hidden_layers": 28,
    "num_key_value_heads": 8,
    "rms_norm_eps": 1e-06,
    "rope_scaling": None,
    "rope_theta": 1000000,
    "sliding_window": None,
    "tie_word_embeddings": True,
    "use_sliding_window": False,
    "vocab_size": 151936,
}
SMOLLM2 = {
    "architectures": ["LlamaForCausalLM"],
    "attention_bias": False,
    "hidden_act": "silu",
    "hidden_size": 576,
    "intermediate_size": 1536,
    "is_llama_config": True,
    "max_position_embeddings": 8192,
    "mlp_bias": False,
    "model_type": "llama",
    "num_attention_heads": 9,
    "num_hidden_layers": 30,
    "num_key_value_heads": 3,
    "rms_norm_eps": 1e-05,
    "rope_interleaved": False,
    "rope_scaling": None,
    "rope_theta": 100000,
    "tie_word_embeddings": True,
    "vocab_size": 49152,
}


LONG = {"type": "longrope", "short_factor": [1.5] * 64, "long_factor": [9.0] * 64}
SMOLLM3 = {  # 3B
    "architectures": ["SmolLM3ForCausalLM"],
    "attention_bias": False,
    "hidden_act": "silu",
    "hidden_size": 2048,
    "intermediate_size": 11008,
    "max_position_embeddings": 65536,
    "mlp_bias": False,
    "model_type": "smollm3",
    "no_rope_layer_interval": 4,
    "no_rope_layers": [1, 1, 1, 0] * 9,
    "num_attention_heads": 16,
    "num_hidden_layers": 36,
    "num_key_value_heads": 4,
    "rms_norm_eps": 1e-06,
    "rope_scaling": None,
    "rope_theta": 5000000.0,
    "sliding_window": None,
    "use_sliding_window": False,
    "vocab_size": 128256,
}


GEMMA3 = {  # 1B
    "architectures": ["Gemma3ForCausalLM"],
    "attention_bias": False,
    "attn_logit_softcapping": None,
    "final_logit_softcapping": None,
    "head_dim": 256,
    "hidden_activation": "gelu_pytorch_tanh",
    "hidden_size": 1152,
    "intermediate_size": 6912,
    "max_position_embeddings": 32768,
    "model_type": "gemma3_text",
    "num_attention_heads": 4,
    "num_hidden_layers": 26,
    "num_key_value_heads": 1,
    "query_pre_attn_scalar": 256,
    "rms_norm_eps": 1e-06,
    "rope_local_base_freq": 10000,
    "rope_scaling": None,
    "rope_theta": 1000000,
    "sliding_window": 512,
    "sliding_window_pattern": 6,
    "vocab_size": 262144,
}


def _without(config, *names):
    return {key: value for key, value in config.items() if key not in names}


def test_llama_3_2_1b():
    assert ModelConfig.from_hf(LLAMA) == ModelConfig(
        family="llama",
        vocab_size=128256,
        hidden_size=2048,
        intermediate_size=8192,
        num_layers=16,
        num_heads=32,
        num_kv_heads=8,
        head_dim=64,
        pattern=(
            LayerKind(
                rope=Rope(
                    theta=500000.0,
                    scaling=RopeScaling(
                        factor=32.0,
                        low_freq_factor=1.0,
                        high_freq_factor=4.0,
                        original_max_positions=8192,
                    ),
                )
            ),
        ),
        norm_eps=1e-5,
        tie_embeddings=True,
        max_positions=131072,
    )


def test_qwen2_5_7b_has_biases_on_its_inputs_only():
    assert ModelConfig.from_hf(QWEN2) == ModelConfig(
        family="qwen2",
        vocab_size=152064,
        hidden_size=3584,
        intermediate_size=18944,
        num_layers=28,
        num_heads=28,
        num_kv_heads=4,
        head_dim=128,
        pattern=(LayerKind(rope=Rope(theta=1e6)),),
        norm_eps=1e-6,
        attention_bias=True,
        attention_out_bias=False,
        max_positions=131072,
    )


def test_qwen3_0_6b_normalises_queries_and_keys():
    assert ModelConfig.from_hf(QWEN3) == ModelConfig(
        family="qwen3",
        vocab_size=151936,
        hidden_size=1024,
        intermediate_size=3072,
        num_layers=28,
        num_heads=16,
        num_kv_heads=8,
        head_dim=128,
        pattern=(LayerKind(rope=Rope(theta=1e6)),),
        norm_eps=1e-6,
        tie_embeddings=True,
        qk_norm="head",
        max_positions=40960,
    )


def test_mistral_7b_has_no_biases():
    expected = ModelConfig(
        family="mistral",
        vocab_size=32768,
        hidden_size=4096,
        intermediate_size=14336,
        num_layers=32,
        num_heads=32,
        num_kv_heads=8,
        head_dim=128,
        pattern=(LayerKind(rope=Rope(theta=1e6)),),
        norm_eps=1e-5,
        max_positions=32768,
    )
    assert ModelConfig.from_hf(MISTRAL) == expected
    assert ModelConfig.from_hf(MISTRAL | {"attention_bias": True}) == expected


def test_a_window_that_no_position_leaves_is_full_attention():
    short = MISTRAL | {"max_position_embeddings": 4096}
    assert ModelConfig.from_hf(short | {"sliding_window": 4096}) == ModelConfig.from_hf(short)


def test_smollm2_is_a_llama():
    assert ModelConfig.from_hf(SMOLLM2) == ModelConfig(
        family="llama",
        vocab_size=49152,
        hidden_size=576,
        intermediate_size=1536,
        num_layers=30,
        num_heads=9,
        num_kv_heads=3,
        head_dim=64,
        pattern=(LayerKind(rope=Rope(theta=1e5)),),
        norm_eps=1e-5,
        tie_embeddings=True,
        max_positions=8192,
    )


def test_smollm3_3b_has_no_rope_in_every_fourth_layer():
    config = ModelConfig.from_hf(SMOLLM3)
    turned = LayerKind(rope=Rope(theta=5e6))
    assert config.pattern == (turned, turned, turned, LayerKind(rope=None))
    assert config.layer_kinds == 9 * list(config.pattern) and config.tie_embeddings
    assert ModelConfig.from_hf(_without(SMOLLM3, "no_rope_layers")) == config


def test_gemma3_1b_has_two_bases_and_norms_round_its_parts():
    config = ModelConfig.from_hf(GEMMA3)
    near = LayerKind(rope=Rope(theta=1e4), window=512)
    assert config.pattern == 5 * (near,) + (LayerKind(rope=Rope(theta=1e6)),)
    assert config.tie_embeddings and config.scaled_embeddings and config.activation == "gelu"
    assert (config.norms, config.norm_offset, config.query_scale) == ("around", 1.0, None)
    large = ModelConfig.from_hf(GEMMA3 | {"query_pre_attn_scalar": 168})
    assert large.query_scale == 168**-0.5
    # The keys that may be left out, and how transformers 5 writes them.
    short = ("head_dim", "hidden_activation", "query_pre_attn_scalar", "sliding_window_pattern")
    assert ModelConfig.from_hf(_without(GEMMA3, *short, "rope_theta")) == config
    rope = {
        "full_attention": {"rope_type": "default", "rope_theta": 1e6},
        "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
    }
    types = (5 * [*5 * ["sliding_attention"], "full_attention"])[:26]
    kinds = {"rope_parameters": rope, "layer_types": types}
    written = _without(GEMMA3, "rope_theta", "rope_local_base_freq", "sliding_window_pattern")
    assert ModelConfig.from_hf(written | kinds) == config


def test_gemma2_caps_its_logits():
    named = ("rope_theta", "sliding_window_pattern")
    capped = ("attn_logit_softcapping", "final_logit_softcapping")
    config = ModelConfig.from_hf(_without(GEMMA3, *named, *capped) | {"model_type": "gemma2"})
    rope = Rope(theta=1e4)
    assert config.pattern == (LayerKind(rope=rope, window=512), LayerKind(rope=rope))
    assert (config.attention_cap, config.final_cap, config.qk_norm) == (50.0, 30.0, "none")
    assert ModelConfig.from_hf(LLAMA | {"final_logit_softcapping": 30.0}).final_cap is None


def test_yarn_by_hand():
    """Qwen2's heads of 128 numbers and base 1e6, stretched 4 times from 32,768 positions.

    A pair p makes 32768 / (2 pi 1e6^(p/64)) turns. 32 are made by pair 64 log(32768 / 64 pi) /
    log(1e6) = 23.6, one by 39.7: pairs up to 23 stay, from 40 on they are stretched 4 times, and in
    between pair 30, with a blend of 7/17, by 1 / (7/17 / 4 + 10/17) = 1.4468.
    """
    said = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}
    rope = ModelConfig.from_hf(QWEN2 | {"rope_scaling": said}).pattern[0].rope
    assert rope.divisors[:24] == 24 * (1.0,) and rope.divisors[40:] == 24 * (4.0,)
    assert rope.divisors[30] == pytest.approx(1.446809, abs=1e-6)
    assert rope.magnitude == pytest.approx(0.1 * math.log(4) + 1)


def test_longrope_holds_for_the_original_positions_alone():
    rope = {"rope_scaling": LONG, "original_max_position_embeddings": 4096}
    config = ModelConfig.from_hf(QWEN2 | rope)
    assert config.max_positions == 4096
    [kind] = config.pattern
    assert kind.rope.divisors == 64 * (1.5,)
    # sqrt(1 + log(131072 / 4096) / log(4096)) = sqrt(1 + 5 / 12)
    assert kind.rope.magnitude == pytest.approx((17 / 12) ** 0.5)


def test_windows():
    plain = LayerKind(rope=Rope(theta=1e6))
    short = dataclasses.replace(plain, window=4096)
    assert ModelConfig.from_hf(MISTRAL | {"sliding_window": 4096}).pattern == (short,)
    assert ModelConfig.from_hf(_without(MISTRAL, "sliding_window")).pattern == (short,)
    window = {"use_sliding_window": True, "sliding_window": 4096, "num_hidden_layers": 30}
    assert ModelConfig.from_hf(QWEN2 | window).pattern == 28 * (plain,) + 2 * (short,)
    types = {"layer_types": ["sliding_attention", "full_attention"] * 15}
    assert ModelConfig.from_hf(QWEN2 | window | types).pattern == (short, plain)
    assert ModelConfig.from_hf(QWEN2 | types | {"num_hidden_layers": 30}).pattern == (plain,)


@pytest.mark.parametrize(
    ("config", "published"),
    [
        (LLAMA, 1235814400),
        (MISTRAL, 7248023552),
        (QWEN2, 7615616512),
        (QWEN3, 596049920),
        (SMOLLM2, 134515008),
        (SMOLLM3, 3075098624),
        (GEMMA3, 999885952),
    ],
    ids=["llama", "mistral", "qwen2", "qwen3", "smollm2", "smollm3", "gemma3"],
)
def test_number_of_parameters_is_the_published_one(config, published):
    shapes = decoder.param_shapes(ModelConfig.from_hf(config))
    leaves = jax.tree.leaves(shapes, is_leaf=lambda leaf: isinstance(leaf, tuple))
    assert sum(map(math.prod, leaves)) == published


def test_transformers_5_keeps_the_rotary_base_with_the_scaling():
    rope = LLAMA["rope_scaling"] | {"rope_theta": 500000.0}
    config = _without(LLAMA, "rope_scaling", "rope_theta") | {"rope_parameters": rope}
    assert ModelConfig.from_hf(config) == ModelConfig.from_hf(LLAMA)
    plain = {"rope_type": "default", "rope_theta": 1e6}
    config = _without(QWEN3, "rope_scaling", "rope_theta") | {"rope_parameters": plain}
    assert ModelConfig.from_hf(config) == ModelConfig.from_hf(QWEN3)


def test_what_a_config_may_leave_out():
    names = ("num_key_value_heads", "head_dim", "rope_theta", "rope_scaling", "rms_norm_eps")
    config = ModelConfig.from_hf(_without(LLAMA, "tie_word_embeddings", *names))
    assert config.num_kv_heads == 32
    assert config.head_dim == 2048 // 32
    assert config.pattern == (LayerKind(rope=Rope(theta=10000.0)),)
    assert config.norm_eps == 1e-6
    assert not config.tie_embeddings


@pytest.mark.parametrize("config", [LLAMA, QWEN3], ids=["llama", "qwen3"])
def test_attention_bias_of_llama_and_qwen3_is_on_all_four_projections(config):
    found = ModelConfig.from_hf(config | {"attention_bias": True})
    assert found.attention_bias and found.attention_out_bias


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (LLAMA | {"model_type": "gpt2"}, "model_type 'gpt2' .* llama, mistral, qwen2, qwen3"),
        (LLAMA | {"model_type": "qwen3_moe"}, "nearest is qwen3; docs/extending.md says how"),
        (_without(LLAMA, "model_type"), "model_type None is not supported"),
        (LLAMA | {"hidden_act": "gelu"}, "hidden_act 'gelu' .* 'silu'"),
        (LLAMA | {"mlp_bias": True}, "mlp_bias=True is not supported: expected false"),
        (QWEN2 | {"rope_scaling": {"type": "yarn", "factor": 4.0}}, "yarn .* lacks original_max"),
        (QWEN2 | {"rope_parameters": {"rope_type": "linear"}}, "the linear rope .* lacks factor"),
        (QWEN2 | {"rope_scaling": {"type": "su"}}, "rope_type 'su' .* 'dynamic', "),
        (QWEN2 | {"rope_scaling": LONG | {"short_factor": [1.0]}}, "short_factor .* of 64 numbers"),
        (LLAMA | {"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, "lacks low_freq_factor"),
        (_without(QWEN3, "vocab_size", "hidden_size"), "lacks vocab_size, hidden_size"),
        (SMOLLM2 | {"num_key_value_heads": 4}, r"\(9\) must be a multiple of .* \(4\)"),
        (QWEN3 | {"head_dim": 65}, "head_dim must be even .* 65"),
    ],
)
def test_refused(config, message):
    with pytest.raises(ValueError, match=message):
        ModelConfig.from_hf(config)
