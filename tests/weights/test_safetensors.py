"""Hugging Face directories: layout against hand-typed names, round trips, errors."""

import json

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from seal_jax.core.model.config import ModelConfig
from seal_jax.weights import safetensors as checkpoint
from seal_jax.weights.names import WeightsError

FAMILIES = (
    "llama",
    "mistral",
    "qwen2",
    "qwen3",
    "smollm3",
    "olmo2",
    "phi3",
    "gemma2",
    "gemma3_text",
)


@pytest.fixture
def tiny(hf_settings, random_params, hf_tensors):
    """A tiny Llama: config, parameters, and tensors in Hugging Face's layout."""
    config = ModelConfig.from_hf(hf_settings("llama"))
    params = random_params(config)
    return config, params, hf_tensors(params)


def write_shards(path, tensors):
    """Writes every other tensor into each of two shards, with an index."""
    weight_map = {
        name: f"model-0000{i % 2 + 1}-of-00002.safetensors" for i, name in enumerate(tensors)
    }
    for shard in set(weight_map.values()):
        part = {name: tensor for name, tensor in tensors.items() if weight_map[name] == shard}
        safetensors.numpy.save_file(part, path / shard)
    index = {"metadata": {"total_size": 0}, "weight_map": weight_map}
    (path / checkpoint.INDEX).write_text(json.dumps(index))
    return weight_map


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("tied", [False, True])
def test_load_puts_every_tensor_in_its_place(
    tmp_path, hf_settings, random_params, hf_tensors, family, tied
):
    config = ModelConfig.from_hf(hf_settings(family, tie_word_embeddings=tied))
    params = random_params(config)
    safetensors.numpy.save_file(hf_tensors(params), tmp_path / checkpoint.SINGLE)
    np.testing.assert_equal(checkpoint.load(tmp_path, config, np.float32), params)


@pytest.mark.parametrize("family", FAMILIES)
def test_sharded_equals_single_file(tmp_path, hf_settings, random_params, hf_tensors, family):
    config = ModelConfig.from_hf(hf_settings(family))
    params = random_params(config)
    write_shards(tmp_path, hf_tensors(params))
    np.testing.assert_equal(checkpoint.load(tmp_path, config, np.float32), params)


@pytest.mark.parametrize("family", FAMILIES)
def test_save_then_load(tmp_path, hf_settings, random_params, hf_tensors, family):
    settings = hf_settings(family)
    config = ModelConfig.from_hf(settings)
    params = random_params(config)
    checkpoint.save(tmp_path / "new", params, settings | {"torch_dtype": "bfloat16"})
    stored = safetensors.numpy.load_file(tmp_path / "new" / checkpoint.SINGLE)
    np.testing.assert_equal(stored, hf_tensors(params))
    np.testing.assert_equal(checkpoint.load(tmp_path / "new", config, np.float32), params)
    written = json.loads((tmp_path / "new" / "config.json").read_text())
    assert written["torch_dtype"] == "float32"
    assert ModelConfig.from_hf(written) == config
    assert sorted(file.name for file in (tmp_path / "new").iterdir()) == [
        "config.json",
        "model.safetensors",
    ]


def test_bfloat16_passes_through_and_float32_is_rounded_to_it(tmp_path, hf_settings, tiny):
    config, params, tensors = tiny
    rounded = {name: tensor.astype(ml_dtypes.bfloat16) for name, tensor in tensors.items()}
    safetensors.numpy.save_file(rounded, tmp_path / checkpoint.SINGLE)
    loaded = checkpoint.load(tmp_path, config, "bfloat16")
    kernel = loaded["layers"]["attn"]["k_proj"]["kernel"]
    expected = params["layers"]["attn"]["k_proj"]["kernel"].astype(ml_dtypes.bfloat16)
    assert kernel.dtype == ml_dtypes.bfloat16
    np.testing.assert_array_equal(kernel, expected)
    checkpoint.save(tmp_path / "again", loaded, hf_settings("llama"))
    assert json.loads((tmp_path / "again/config.json").read_text())["torch_dtype"] == "bfloat16"
    np.testing.assert_equal(checkpoint.load(tmp_path / "again", config, "bfloat16"), loaded)


def test_missing_extra_and_misshapen_tensors_are_named_together(tmp_path, tiny):
    config, _, tensors = tiny
    del tensors["model.layers.1.mlp.up_proj.weight"]
    tensors["model.layers.0.self_attn.q_proj.lora_A.weight"] = np.zeros((4, 32), np.float32)
    tensors["model.norm.weight"] = np.zeros(33, np.float32)
    safetensors.numpy.save_file(tensors, tmp_path / checkpoint.SINGLE)
    with pytest.raises(WeightsError) as caught:
        checkpoint.load(tmp_path, config, np.float32)
    message = str(caught.value)
    assert "lacks model.layers.1.mlp.up_proj.weight [48, 32];" in message
    assert "no place for: model.layers.0.self_attn.q_proj.lora_A.weight [4, 32]" in message
    assert "model.norm.weight (found [33], expected [32])" in message
    assert "Check that config.json" in message


def test_a_square_kernel_is_transposed(tmp_path, tiny):
    """The shape cannot tell the two layouts of a [D, D] kernel apart, so the values must."""
    config, _, tensors = tiny
    rows = np.repeat(np.arange(32, dtype=np.float32)[:, None], 32, axis=1)  # row r holds r
    tensors["model.layers.1.self_attn.o_proj.weight"] = rows
    safetensors.numpy.save_file(tensors, tmp_path / checkpoint.SINGLE)
    kernel = checkpoint.load(tmp_path, config, np.float32)["layers"]["attn"]["o_proj"]["kernel"]
    np.testing.assert_array_equal(kernel[1, 5], np.arange(32))  # output r gets r from any input


def test_harmless_extras_are_accepted(tmp_path, hf_settings, random_params, hf_tensors):
    config = ModelConfig.from_hf(hf_settings("llama", tie_word_embeddings=True))
    tensors = hf_tensors(random_params(config))
    tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = np.ones(4, np.float32)
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]
    safetensors.numpy.save_file(tensors, tmp_path / checkpoint.SINGLE)
    assert "head" not in checkpoint.load(tmp_path, config, np.float32)


def test_a_directory_without_weights(tmp_path, tiny):
    with pytest.raises(WeightsError, match=r"neither model\.safetensors nor"):
        checkpoint.load(tmp_path, tiny[0], np.float32)


def test_a_truncated_file_is_named(tmp_path, tiny):
    config, _, tensors = tiny
    content = safetensors.numpy.save(tensors)
    (tmp_path / checkpoint.SINGLE).write_bytes(content[: len(content) // 2])
    with pytest.raises(WeightsError, match=r"model\.safetensors is not a complete safetensors"):
        checkpoint.load(tmp_path, config, np.float32)


def test_a_missing_shard_is_named(tmp_path, tiny):
    config, _, tensors = tiny
    write_shards(tmp_path, tensors)
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"model-00002-of-00002\.safetensors is missing"):
        checkpoint.load(tmp_path, config, np.float32)


def test_an_index_of_another_download_is_refused(tmp_path, tiny):
    config, _, tensors = tiny
    weight_map = write_shards(tmp_path, tensors)
    weight_map["lm_head.weight"] = next(
        shard for shard in weight_map.values() if shard != weight_map["lm_head.weight"]
    )
    (tmp_path / checkpoint.INDEX).write_text(json.dumps({"weight_map": weight_map}))
    with pytest.raises(WeightsError, match=r"promises lm_head\.weight in"):
        checkpoint.load(tmp_path, config, np.float32)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", r"index\.json is not a JSON object"),
        ("[1]", r"index\.json is not a JSON object"),
        ("{}", r"index\.json is not an index"),
        ('{"weight_map": {"a": 1}}', r"index\.json is not an index"),
        ('{"weight_map": {"a": "../b.safetensors"}}', r"index\.json names shards outside"),
    ],
)
def test_a_damaged_index_is_refused(tmp_path, tiny, content, message):
    (tmp_path / checkpoint.INDEX).write_text(content)
    with pytest.raises(WeightsError, match=message):
        checkpoint.load(tmp_path, tiny[0], np.float32)


def test_a_quantised_tensor_is_refused(tmp_path, tiny):
    config, _, tensors = tiny
    tensors["lm_head.weight"] = tensors["lm_head.weight"].astype(np.int8)
    safetensors.numpy.save_file(tensors, tmp_path / checkpoint.SINGLE)
    with pytest.raises(WeightsError, match=r"lm_head\.weight in .* is stored as I8"):
        checkpoint.load(tmp_path, config, np.float32)


def test_a_checkpoint_on_an_object_store(object_store, hf_settings, tiny, tmp_path):
    config, params, _ = tiny
    checkpoint.save(tmp_path, params, hf_settings("llama"))
    for file in tmp_path.iterdir():
        object_store.objects[f"bucket/far/{file.name}"] = file.read_bytes()
    np.testing.assert_equal(checkpoint.load("gs://bucket/far", config, np.float32), params)


@pytest.mark.needs("torch")
@pytest.mark.parametrize("family", FAMILIES)
def test_transformers_reads_what_save_wrote(
    tmp_path, hf_settings, random_params, hf_tensors, family
):
    from transformers import AutoModelForCausalLM

    settings = hf_settings(family)
    params = random_params(ModelConfig.from_hf(settings))
    checkpoint.save(tmp_path, params, settings)
    model, report = AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    state = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    np.testing.assert_equal(state, hf_tensors(params))
