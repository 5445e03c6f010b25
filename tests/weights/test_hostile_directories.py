"""Model directories that are damaged or absurd: a sentence that names the file and the key."""

import json
import shutil
import threading

import pytest
import safetensors.numpy

from seal_jax.core.model.config import ModelConfig
from seal_jax.weights import encoding, gguf, load, peft, templates, tokenizer

DEEP = '{"a":' * 100_000


@pytest.fixture
def model(checkpoint, tmp_path):
    """A copy of the tiny checkpoint."""
    return shutil.copytree(checkpoint, tmp_path / "model")


def _change(file, **changes):
    settings = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({key: of for key, of in settings.items() if of is not KeyError}))


@pytest.mark.fault("S5")
@pytest.mark.parametrize("key, value, message", [
    ("num_hidden_layers", [2], r"num_hidden_layers .* from 1 to 10,000, not \[2\]"),
    ("num_hidden_layers", 10**9, "num_hidden_layers .* not 1000000000"),
    ("num_attention_heads", 0, "num_attention_heads .* not 0"),
    ("vocab_size", "384", "vocab_size .* not '384'"),
    ("hidden_size", True, "hidden_size .* not True"),
    ("head_dim", 8.5, "head_dim .* not 8.5"),
    ("max_position_embeddings", {}, "max_position_embeddings .* not {}"),
    ("rms_norm_eps", "small", "rms_norm_eps .* a number above 0, not 'small'"),
    ("rope_theta", [1], r"rope_theta .* a number above 0, not \[1\]"),
    ("rope_scaling", "yarn", "rope_scaling .* an object, not 'yarn'"),
    ("rope_scaling", {"rope_type": "llama3", "factor": []}, "factor .* a number above 0"),
    ("tie_word_embeddings", "yes", "tie_word_embeddings .* true or false, not 'yes'"),
    ("layer_types", ["sliding_attention"], "layer_types .* a list with an entry a layer"),
    ("layer_types", ["chunked_attention"] * 2, "layer_types .* 'chunked_attention', which is not"),
    ("max_window_layers", "all", "max_window_layers .* a whole number, not 'all'"),
    ("no_rope_layers", [1, [0]], r"no_rope_layers .* \[0\], which .* expected 0 or 1"),
    ("model_type", ["llama"], r"model_type \['llama'\] is not supported"),
])  # fmt: skip
def test_a_config_that_no_model_has(model, key, value, message):
    _change(model / "config.json", **{key: value})
    with pytest.raises(ValueError, match=rf"config\.json: {message}"):
        load.load_model(model, "float32")


@pytest.mark.fault("S5")
def test_a_config_without_a_key(model):
    _change(model / "config.json", hidden_size=KeyError)
    with pytest.raises(ValueError, match=r"model/config\.json: config\.json lacks hidden_size"):
        load.load_model(model, "float32")


@pytest.mark.fault("S6")
@pytest.mark.parametrize(
    "name", ["config.json", "tokenizer.json", "tokenizer_config.json", load.GENERATION]
)
def test_a_file_that_is_nested_deeply(model, name):
    (model / name).write_text(DEEP)
    with pytest.raises(ValueError, match=r"model/\w+\.json"):
        load.load_model(model, "float32")


@pytest.mark.fault("S6")
def test_an_index_that_is_nested_deeply(model):
    (model / "model.safetensors").rename(model / "other.safetensors")
    (model / "model.safetensors.index.json").write_text(DEEP)
    with pytest.raises(ValueError, match=r"index\.json is not a JSON object .*100 deep"):
        load.load_model(model, "float32")


def _with_header(file, header):
    data = file.read_bytes()
    length = int.from_bytes(data[:8], "little")
    file.write_bytes(len(header).to_bytes(8, "little") + header + data[8 + length :])


@pytest.mark.fault("S6")
def test_a_header_that_is_nested_deeply(model):
    _with_header(model / "model.safetensors", DEEP.encode())
    with pytest.raises(ValueError, match=r"model\.safetensors is not .* nested more than 100 deep"):
        load.load_model(model, "float32")


@pytest.mark.fault("S15")
@pytest.mark.parametrize("entry, message", [
    ({"data_offsets": [0.0, 4.0]}, "data_offsets of x is a list"),
    ({"data_offsets": [0, 4, 8]}, "data_offsets of x are not two"),
    ({"data_offsets": [0, -4]}, "data_offsets of x is a list"),
    ({"shape": "1"}, "shape of x is '1'"),
    ({"shape": [1.0]}, "shape of x is a list"),
    ({"dtype": 32}, "dtype of x is 32"),
])  # fmt: skip
def test_a_tensor_that_is_described_otherwise(model, entry, message):
    good = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
    _with_header(model / "model.safetensors", json.dumps({"x": good | entry}).encode())
    with pytest.raises(ValueError, match=rf"model\.safetensors is not .*{message}"):
        load.load_model(model, "float32")


@pytest.mark.fault("S15")
@pytest.mark.parametrize("key, value", [
    ("eos_token", 5), ("eos_token", [1]), ("added_tokens_decoder", []), ("model_max_length", "x"),
])  # fmt: skip
def test_tokens_of_other_types_are_a_sentence_or_do_no_harm(model, key, value):
    _change(model / "tokenizer_config.json", **{key: value})
    try:
        loaded = load.load_model(model, "float32")
    except ValueError as error:
        assert "model" in str(error) and str(error).endswith(".")
    else:
        assert loaded.stop_ids


@pytest.mark.fault("S5")
@pytest.mark.parametrize("template, message", [
    ("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", "seconds"),
    ("{{ 'a' * 1000000000 }}", "holds '[*]', which could fill the memory"),
    ("{{ 'a' * 1000 * 1000 * 1000 }}", "holds '[*]', which could fill the memory"),
    ("{{ messages | length * 3000000 }}", "holds '3000000'"),
    ("{{ 10 ** 100000000 }}", "holds '[*][*]'"),
    ("{% for a in range(99999) %}{{ messages * 1000 }}{% endfor %}", "writes|seconds"),
    ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "recursion"),
    ("{{ raise_exception('no system turn') }}", "no system turn"),
])  # fmt: skip
def test_a_template_has_so_much_time_and_room(model, template, message, monkeypatch):
    monkeypatch.setattr(templates, "_SECONDS", 1.0)
    _change(model / "tokenizer_config.json", chat_template=template)
    (model / "chat_template.jinja").unlink(missing_ok=True)
    read = tokenizer.load(model)
    with pytest.raises(ValueError, match=f"chat template .*({message})"):
        encoding.encode_prompt(read, "Who?", "chat")


def test_a_template_may_repeat_a_text_a_little():
    text = "{{ '-' * 40 }}{{ 2 * (messages | length) }}{% generation %}x{% endgeneration %}"
    assert templates.bounded(text, lambda: "written") == "written"


def test_a_template_that_is_stopped_leaves_no_thread(monkeypatch):
    monkeypatch.setattr(templates, "_SECONDS", 0.2)
    before = threading.active_count()
    with pytest.raises(ValueError, match="seconds"):
        templates.bounded("", lambda: str(sum(1 for _ in iter(int, 1))))
    for thread in threading.enumerate()[before:]:
        thread.join(10)
    assert threading.active_count() <= before


@pytest.mark.fault("S5")
@pytest.mark.parametrize("key, value", [
    ("llama.context_length", "long"),
    ("llama.embedding_length", "32"),
    ("llama.attention.head_count", "4"),
    ("llama.rope.freq_base", "x"),
    ("tokenizer.ggml.tokens", "abc"),
    ("tokenizer.ggml.merges", [1, 2]),
    ("tokenizer.ggml.token_type", [1]),
    ("tokenizer.ggml.eos_token_id", 10**6),
    ("tokenizer.ggml.pre", 3),
    ("tokenizer.chat_template", 1.5),
])  # fmt: skip
def test_metadata_of_another_type(hf_settings, random_params, write_gguf, key, value):
    config = ModelConfig.from_hf(hf_settings("llama", tie_word_embeddings=True))
    path = write_gguf(config, random_params(config), extra={key: value})
    with pytest.raises(ValueError, match=rf"tiny\.gguf: .*{key}"):
        load.load_model(path, "float32")


@pytest.mark.fault("S5")
@pytest.mark.parametrize("value", [
    (9, 2**60),  # an array of so many numbers, which the file does not hold
    (8, 2**60),  # a text of so many bytes
])  # fmt: skip
def test_counts_that_a_gguf_file_cannot_hold(tmp_path, value):
    kind, count = value
    key = b"general.x"
    head = b"GGUF" + (3).to_bytes(4, "little") + (0).to_bytes(8, "little")
    head += (1).to_bytes(8, "little") + len(key).to_bytes(8, "little") + key
    item = (4).to_bytes(4, "little") if kind == 9 else b""
    path = tmp_path / "absurd.gguf"
    path.write_bytes(head + kind.to_bytes(4, "little") + item + count.to_bytes(8, "little"))
    with pytest.raises(ValueError, match=r"absurd\.gguf is not a complete GGUF file"):
        gguf.open_file(path)


@pytest.fixture
def adapter(model):
    """An adapter of rank 1 whose tensors are not read before its config."""
    settings = {"peft_type": "LORA", "r": 1, "lora_alpha": 1, "target_modules": ["q_proj"]}
    (model / "adapter_config.json").write_text(json.dumps(settings))
    safetensors.numpy.save_file({}, model / "adapter_model.safetensors")
    return model


@pytest.mark.fault("S15")
@pytest.mark.parametrize("key, value", [
    ("target_modules", [1, 2]), ("r", True), ("r", 10**9), ("lora_alpha", float("nan")),
    ("lora_alpha", 10**400),
])  # fmt: skip
def test_an_adapter_that_says_what_none_can(adapter, key, value):
    _refused(adapter, key, value)


@pytest.mark.fault("S15", control=True)
@pytest.mark.parametrize("key, value", [
    ("target_modules", {"q_proj": 1}), ("r", 8.0), ("lora_alpha", "16"),
])  # fmt: skip
def test_an_adapter_with_values_of_another_type(adapter, key, value):
    _refused(adapter, key, value)


def _refused(adapter, key, value):
    _change(adapter / "adapter_config.json", **{key: value})
    config = ModelConfig.from_hf(json.loads((adapter / "config.json").read_text()))
    with pytest.raises(ValueError, match=rf"adapter_config\.json has {key} = "):
        peft.load(adapter, config)


@pytest.mark.fault("S6")
def test_an_adapter_config_that_is_nested_deeply(adapter):
    (adapter / "adapter_config.json").write_text(DEEP)
    config = ModelConfig.from_hf(json.loads((adapter / "config.json").read_text()))
    with pytest.raises(ValueError, match=r"adapter_config\.json is not a JSON object .*100 deep"):
        peft.load(adapter, config)


@pytest.mark.fault("S15")
@pytest.mark.parametrize("path, message", [
    ("http://host/model", "expected a local directory or gs://BUCKET/PATH"),
    ("s3://bucket/model", "expected a local directory or gs://BUCKET/PATH"),
    ("gs://bucket/model", r"gs:// paths need the package gcsfs|gcloud|gs://bucket/model"),
])  # fmt: skip
def test_urls_that_are_no_model(path, message):
    with pytest.raises((ValueError, OSError), match=message):
        load.load_model(path, "float32")
