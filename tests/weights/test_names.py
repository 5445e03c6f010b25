"""Names, shapes and orientation of every tensor, against lists typed by hand."""

import numpy as np
import pytest

from seal_jax.core.model.config import ModelConfig
from seal_jax.weights import names

COMMON = {
    "input_layernorm.weight": (32,),
    "post_attention_layernorm.weight": (32,),
    "self_attn.q_proj.weight": (32, 32),
    "self_attn.k_proj.weight": (16, 32),
    "self_attn.v_proj.weight": (16, 32),
    "self_attn.o_proj.weight": (32, 32),
    "mlp.gate_proj.weight": (48, 32),
    "mlp.up_proj.weight": (48, 32),
    "mlp.down_proj.weight": (32, 48),
}
EXTRA = {
    "llama": {},
    "mistral": {},
    "qwen2": {
        "self_attn.q_proj.bias": (32,),
        "self_attn.k_proj.bias": (16,),
        "self_attn.v_proj.bias": (16,),
    },
    "qwen3": {"self_attn.q_norm.weight": (8,), "self_attn.k_norm.weight": (8,)},
}


@pytest.mark.parametrize("family", EXTRA)
@pytest.mark.parametrize("tied", [False, True])
def test_a_checkpoint_of_each_family_holds_exactly_the_published_names(hf_settings, family, tied):
    config = ModelConfig.from_hf(hf_settings(family, tie_word_embeddings=tied))
    expected = {"model.embed_tokens.weight": (320, 32), "model.norm.weight": (32,)}
    expected |= {} if tied else {"lm_head.weight": (320, 32)}
    for layer in range(2):
        for name, shape in (COMMON | EXTRA[family]).items():
            expected[f"model.layers.{layer}.{name}"] = shape
    assert names.tensor_shapes(names.leaves(config, "hf")) == expected


def test_llama_with_attention_bias_has_four_biases_a_layer(hf_settings):
    config = ModelConfig.from_hf(hf_settings("llama", attention_bias=True))
    biases = [
        name for name in names.tensor_shapes(names.leaves(config, "hf")) if name.endswith("bias")
    ]
    assert sorted(biases) == [
        f"model.layers.{layer}.self_attn.{module}_proj.bias"
        for layer in (0, 1)
        for module in "koqv"
    ]


def test_gguf_names_of_a_layer(hf_settings):
    config = ModelConfig.from_hf(hf_settings("qwen3"))
    tensors = names.tensor_shapes(names.leaves(config, "gguf"))
    layer = [name for name in tensors if name.startswith("blk.1.")]
    assert sorted(name.removeprefix("blk.1.").removesuffix(".weight") for name in layer) == [
        "attn_k",
        "attn_k_norm",
        "attn_norm",
        "attn_output",
        "attn_q",
        "attn_q_norm",
        "attn_v",
        "ffn_down",
        "ffn_gate",
        "ffn_norm",
        "ffn_up",
    ]


@pytest.mark.parametrize("naming", ["hf", "gguf"])
@pytest.mark.parametrize("family", EXTRA)
def test_assemble_inverts_disassemble(hf_settings, random_params, family, naming):
    config = ModelConfig.from_hf(hf_settings(family))
    params = random_params(config)
    tensors = dict(names.disassemble(config, params, naming))
    stored = {name: tensor.shape for name, tensor in tensors.items()}

    def copy(name, index, target):
        target[...] = tensors[name][index]

    again = names.assemble(config, naming, stored, copy, np.float32, source="a test", advice="")
    np.testing.assert_equal(again, params)


def test_disassemble_names_the_leaves_of_another_model(hf_settings, random_params):
    config = ModelConfig.from_hf(hf_settings("llama"))
    params = random_params(config)
    params["final_norm"]["scale"] = np.zeros(31, np.float32)
    del params["head"]
    with pytest.raises(names.WeightsError) as caught:
        dict(names.disassemble(config, params, "hf"))
    assert "final_norm/scale (found [31], expected [32])" in str(caught.value)
    assert "lacks head/kernel [32, 320]" in str(caught.value)
