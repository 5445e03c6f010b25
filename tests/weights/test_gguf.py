"""GGUF files: tiny ones written by the `gguf` package, and the demo model against transformers."""

import functools

import gguf as gguf_package
import jax
import numpy as np
import pytest

from seal_jax.core.model.config import ModelConfig
from seal_jax.core.model.rope import RopeScaling
from seal_jax.weights import gguf
from seal_jax.weights.names import WeightsError

GEMMA = {"sliding_window": 9, "rope_theta": 10000.0}
LINEAR = {"rope_type": "linear", "factor": 8.0}


@pytest.fixture
def tiny(hf_settings, random_params):
    """A tiny Llama with tied embeddings: config and parameters."""
    config = ModelConfig.from_hf(hf_settings("llama", tie_word_embeddings=True))
    return config, random_params(config)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("llama", {}),
        ("llama", {"attention_bias": True}),
        ("qwen2", {}),
        ("qwen3", {}),
        ("smollm3", {"num_hidden_layers": 6}),
        ("olmo2", {}),
        ("gemma2", GEMMA | {"attn_logit_softcapping": 25.0, "query_pre_attn_scalar": 8}),
        ("gemma2", GEMMA | {"num_hidden_layers": 46, "query_pre_attn_scalar": 8, "head_dim": 6}),
        ("gemma3_text", GEMMA | {"num_hidden_layers": 7, "query_pre_attn_scalar": 8}),
        ("gemma3_text", GEMMA | {"query_pre_attn_scalar": 8, "rope_scaling": LINEAR}),
    ],
)
def test_config_and_weights_come_back(
    hf_settings, random_params, write_gguf, family, changes, tied
):
    settings = hf_settings(family, tie_word_embeddings=tied, rms_norm_eps=2.0**-17, **changes)
    config = ModelConfig.from_hf(settings)
    params = random_params(config)
    found, loaded = gguf.load(write_gguf(config, params))
    assert found == config
    error = 2.0**-22 if config.norm_offset else 0  # the file has norms with 1 added
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=0, atol=error), loaded, params)


def test_rows_of_a_llama_head_go_back_to_halves():
    """Heads of 4 rows: the file holds rows 0, 2, 1, 3 of each, as (i, i + 2) turn together."""
    stored = np.array([[0, 2, 1, 3, 10, 12, 11, 13]]).T
    expected = np.array([[0, 1, 2, 3, 10, 11, 12, 13]]).T
    np.testing.assert_array_equal(gguf._unpermute(stored, heads=2), expected)
    np.testing.assert_array_equal(gguf._unpermute(stored[:, 0], heads=2), expected[:, 0])


def test_quantised_blocks_are_expanded(tiny, write_gguf):
    """Q8_0: 127 steps to a block's largest value, and a scale in float16.

    The largest error is half a step and the scale's own, 127 * 2^-11 = 0.062 of a step.
    """
    config, params = tiny
    path = write_gguf(config, params, quantise=gguf_package.GGMLQuantizationType.Q8_0)
    assert gguf.quantization(gguf.open_file(path)) == "Q8_0"
    _, loaded = gguf.load(path)
    embedding = params["embed"]["embedding"]
    step = np.abs(embedding).max(axis=1, keepdims=True) / 127
    error = np.abs(loaded["embed"]["embedding"] - embedding)
    assert (error <= 0.57 * step).all() and error.max() > 0


def test_cast_to_bfloat16(tiny, write_gguf):
    _, loaded = gguf.load(write_gguf(*tiny), "bfloat16")
    assert str(loaded["layers"]["mlp"]["up_proj"]["kernel"].dtype) == "bfloat16"


def test_missing_extra_and_misshapen_tensors_are_named(tiny, write_gguf):
    def spoil(tensors):
        del tensors["blk.1.ffn_up.weight"]
        tensors["blk.0.ffn_gate_inp.weight"] = np.zeros((4, 32), np.float32)
        tensors["output_norm.weight"] = np.zeros(33, np.float32)
        return tensors

    with pytest.raises(WeightsError) as caught:
        gguf.load(write_gguf(*tiny, tensors=spoil))
    message = str(caught.value)
    assert message.startswith("GGUF file tiny.gguf does not fit a llama model of 2 layers")
    assert "lacks blk.1.ffn_up.weight [48, 32];" in message
    assert "no place for: blk.0.ffn_gate_inp.weight [4, 32]" in message
    assert "output_norm.weight (found [33], expected [32])" in message
    assert "fetch the complete file again" in message


def test_llama3_rotary_scaling_is_recovered(hf_settings, random_params, write_gguf):
    """Divisors for theta 500000, Dh = 8, factor 8 over 8192 positions.

    Wavelengths are 2 pi theta^(i/4) = 6.3, 167, 4443, 118143. Below 8192/4 the divisor is 1, above
    8192 it is 8; for 4443 the share is (8192/4442.9 - 1)/3 = 0.28128 and the divisor
    1/(0.71872/8 + 0.28128) = 2.6944.
    """
    config = ModelConfig.from_hf(hf_settings("llama", rope_theta=500000.0))
    divisors = np.array([1, 1, 2.6944, 8], np.float32)

    def load(factors):
        add = {"rope_freqs.weight": factors}
        return gguf.load(write_gguf(config, params, tensors=lambda tensors: tensors | add))[0]

    params = random_params(config)
    assert load(divisors).pattern[0].rope.scaling == RopeScaling(
        factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_positions=8192
    )
    assert load(np.ones(4, np.float32)).pattern[0].rope.scaling is None
    with pytest.raises(WeightsError, match=r"rope_freqs\.weight .* not Llama 3's"):
        load(np.array([1, 2, 4, 8], np.float32))


@pytest.mark.parametrize(
    ("key", "setting"),
    [
        ("general.architecture", "gemma"),
        ("llama.expert_count", 8),
        ("llama.rope.scaling.type", "yarn"),
        pytest.param("llama.rope.scale_linear", 4.0, marks=pytest.mark.fault("5")),
        pytest.param("llama.rope.scaling.factor", 2.0, marks=pytest.mark.fault("5")),
        ("llama.rope.dimension_count", 4),
        ("llama.attention.head_count_kv", [2, 4]),
        ("split.count", 2),
    ],
)
def test_unsupported_features_are_refused(tiny, write_gguf, key, setting):
    config, params = tiny
    if key == "general.architecture":
        path = write_gguf(config, params)
        path.write_bytes(path.read_bytes().replace(b"llama", b"gemma"))
    else:
        path = write_gguf(config, params, extra={key: setting})
    with pytest.raises(WeightsError, match=r"not supported"):
        gguf.load(path)


def test_a_missing_key_is_named(tiny, write_gguf):
    path = write_gguf(*tiny, skip=("llama.feed_forward_length",))
    with pytest.raises(WeightsError, match=r"lacks the metadata key 'llama\.feed_forward_length'"):
        gguf.load(path)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.99])
def test_a_truncated_file_is_refused(tiny, write_gguf, share):
    path = write_gguf(*tiny)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(WeightsError, match=r"tiny\.gguf is not a complete GGUF file"):
        gguf.load(path)


def test_no_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no GGUF file .*absent\.gguf"):
        gguf.load(tmp_path / "absent.gguf")


@pytest.fixture(scope="module")
def smollm2(smollm2_path):
    """Config and parameters of the demo model."""
    return gguf.load(smollm2_path)


@pytest.mark.smollm2
def test_the_demo_model(smollm2):
    config, params = smollm2
    assert (config.num_layers, config.hidden_size, config.num_heads) == (30, 576, 9)
    assert (config.num_kv_heads, config.head_dim, config.vocab_size) == (3, 64, 49152)
    assert config.tie_embeddings and config.pattern[0].rope.theta == 100000.0
    assert params["layers"]["attn"]["k_proj"]["kernel"].shape == (30, 576, 192)


@pytest.mark.long
@pytest.mark.needs("torch")
@pytest.mark.smollm2
def test_demo_model_parity_with_transformers(smollm2, smollm2_path, hf_tensors):
    """Every tensor is bit for bit what transformers reads from the same file."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(
        smollm2_path.parent, gguf_file=smollm2_path.name, dtype=torch.float32
    )
    config, params = smollm2
    assert ModelConfig.from_hf(model.config.to_dict()) == config
    state = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    ours = hf_tensors(params)
    assert set(state) - set(ours) == {"lm_head.weight"}
    for name, tensor in ours.items():
        np.testing.assert_array_equal(tensor, state[name], err_msg=name)
