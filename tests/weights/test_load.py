"""Loading a whole model by name, file or directory, and doing so without PyTorch."""

import json
import subprocess
import sys

import numpy as np
import pytest
import safetensors.numpy

from seal_jax.core.model.config import ModelConfig
from seal_jax.weights import encoding
from seal_jax.weights import safetensors as checkpoint
from seal_jax.weights import tokenizer as tokenization
from seal_jax.weights.load import load_model
from seal_jax.weights.names import WeightsError

from .conftest import TEMPLATE


@pytest.fixture
def tiny(hf_settings, random_params, write_gguf):
    """A tiny Llama as a GGUF file: config, parameters, path."""
    config = ModelConfig.from_hf(hf_settings("llama", rms_norm_eps=2.0**-17))
    params = random_params(config)
    return config, params, write_gguf(config, params)


@pytest.fixture
def directory(tiny, hf_settings, tmp_path):
    """The same model as a Hugging Face directory."""
    _, params, path = tiny
    checkpoint.save(tmp_path / "tiny-llama", params, hf_settings("llama", rms_norm_eps=2.0**-17))
    tokenization.from_gguf(path).save_pretrained(tmp_path / "tiny-llama")
    return tmp_path / "tiny-llama"


def test_a_gguf_file_and_a_directory_give_the_same_model(tiny, directory):
    config, params, path = tiny
    from_file, from_directory = load_model(path, np.float32), load_model(directory, np.float32)
    assert from_file.config == from_directory.config == config
    np.testing.assert_equal(from_file.params, params)
    np.testing.assert_equal(from_directory.params, params)
    ids = [model.tokenizer("hello 12")["input_ids"] for model in (from_file, from_directory)]
    assert ids[0] == ids[1]
    assert from_file.source == "tiny, GGUF"
    assert from_directory.source == "tiny-llama, float32 safetensors"


def test_a_gguf_file_saved_as_a_directory_is_the_same_model(tiny, tmp_path):
    before = load_model(tiny[2], np.float32)
    assert before.hf_config["bos_token_id"] == 1
    assert before.hf_config["eos_token_id"] == before.hf_config["pad_token_id"] == 2
    checkpoint.save(tmp_path / "out", before.params, before.hf_config)
    tokenization.save(tmp_path / "out", before.tokenizer)
    after = load_model(tmp_path / "out", np.float32)
    assert after.config == before.config
    np.testing.assert_equal(after.params, before.params)


def test_parameters_come_in_the_dtype_asked_for(directory):
    model = load_model(directory, "bfloat16")
    assert str(model.params["final_norm"]["scale"].dtype) == "bfloat16"


@pytest.mark.fault("6")
def test_what_an_object_store_holds_is_read_as_a_local_directory(directory, object_store):
    """Named templates and ends of turns among it; what is wrong is named by its place there."""
    rewrite(directory / "generation_config.json", eos_token_id=[9])
    for jinja in directory.glob("*.jinja"):
        jinja.unlink()
    rewrite(directory / "tokenizer_config.json", chat_template=None)
    (directory / "additional_chat_templates").mkdir()
    (directory / "additional_chat_templates" / "default.jinja").write_text(TEMPLATE)
    (directory / "additional_chat_templates" / "rag.jinja").write_text("x")
    for file in directory.rglob("*.*"):
        name = file.relative_to(directory).as_posix()
        object_store.objects[f"bucket/models/tiny/{name}"] = file.read_bytes()
    far = load_model("gs://bucket/models/tiny", np.float32)
    near = load_model(directory, np.float32)
    assert far.stop_ids == near.stop_ids == (0, 2, 9)
    assert far.tokenizer.chat_template == near.tokenizer.chat_template
    assert encoding.encode_prompt(far.tokenizer, "h") == encoding.encode_prompt(near.tokenizer, "h")
    object_store.objects["bucket/models/tiny/tokenizer.json"] = b"{}"
    with pytest.raises(WeightsError, match=r"^gs://bucket/models/tiny/tokenizer\.json, or a file"):
        load_model("gs://bucket/models/tiny", np.float32)


def test_a_directory_on_an_object_store(tiny, directory, object_store):
    for file in directory.iterdir():
        object_store.objects[f"bucket/models/tiny/{file.name}"] = file.read_bytes()
    model, local = (load_model(path, np.float32) for path in ("gs://bucket/models/tiny", directory))
    np.testing.assert_equal(model.params, tiny[1])
    assert model.config == local.config
    assert model.tokenizer("hello 12")["input_ids"] == local.tokenizer("hello 12")["input_ids"]
    assert model.source == "gs://bucket/models/tiny, float32 safetensors"
    with pytest.raises(FileNotFoundError, match=r"nothing at gs://bucket/other: check the bucket"):
        load_model("gs://bucket/other", np.float32)
    with pytest.raises(WeightsError, match=r"tiny\.gguf: a GGUF file is read from a local disk"):
        load_model("gs://bucket/tiny.gguf", np.float32)


@pytest.mark.smollm2
def test_the_demo_model_says_that_it_is_dequantised(smollm2_path):
    model = load_model("smollm2-135m", np.float32)
    assert model.source == "SmolLM2-135M-Instruct, dequantised from Q4_1 GGUF"
    assert len(model.tokenizer) == model.config.vocab_size == 49152


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("nobody/no-model", r"no directory 'nobody/no-model'\..*needs a commit.*no-model@COMMIT"),
        ("gs:/bucket/model", r"no model at 'gs:/bucket/model'"),
        ("/nowhere/at/all", r"no model at '/nowhere/at/all': expected \"smollm2-135m\", a \.gguf"),
        ("absent.gguf", r"no GGUF file absent\.gguf"),
    ],
)
def test_a_path_where_nothing_is(path, message):
    with pytest.raises(FileNotFoundError, match=message):
        load_model(path, np.float32)


def test_a_directory_without_config(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"holds no config\.json"):
        load_model(tmp_path, np.float32)


def test_a_damaged_config(directory):
    (directory / "config.json").write_text("{")
    with pytest.raises(WeightsError, match=r"config\.json is not a JSON object"):
        load_model(directory, np.float32)


def test_a_tokenizer_larger_than_the_embedding_is_refused(directory):
    path = directory / "tokenizer.json"
    settings = json.loads(path.read_text())
    settings["model"]["vocab"] |= {f"word{n}": 320 + n for n in range(3)}
    path.write_text(json.dumps(settings))
    with pytest.raises(WeightsError, match=r"has 323 tokens, but the embedding only 320 rows"):
        load_model(directory, np.float32)


def rewrite(file, **changes):
    """Changes keys of a JSON file, which may be new."""
    content = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps(content | changes))


@pytest.mark.fault("1")
def test_all_ends_that_a_directory_names_stop_generation(directory):
    """config.json's, generation_config.json's and the tokenizer's, each a number or a list."""
    assert load_model(directory, np.float32).stop_ids == (0, 2)
    rewrite(directory / "config.json", eos_token_id=5)
    rewrite(directory / "generation_config.json", eos_token_id=[2, 7, 9], temperature=0.6)
    model = load_model(directory, np.float32)
    assert model.stop_ids == (0, 2, 5, 7, 9)
    assert model.generation == {"eos_token_id": [2, 7, 9], "temperature": 0.6}


@pytest.mark.fault("1")
@pytest.mark.parametrize("name", ["config.json", "generation_config.json"])
@pytest.mark.parametrize(
    "rule", [{"stop_strings": ["END"]}, {"suppress_tokens": [7]}, {"bad_words_ids": [[7]]}]
)
def test_rules_of_generation_that_a_run_does_not_follow_are_refused(directory, name, rule):
    rewrite(directory / name, **rule)
    with pytest.raises(WeightsError, match=rf"{name} sets {next(iter(rule))}, which changes"):
        load_model(directory, np.float32)
    rewrite(directory / name, **dict.fromkeys(rule), repetition_penalty=1.05)
    load_model(directory, np.float32)


@pytest.fixture
def own_head(directory, tiny):
    """The directory with a config.json that says that its head is the embedding."""
    rewrite(directory / "config.json", tie_word_embeddings=True)
    return directory, tiny[1]


@pytest.mark.fault("5")
@pytest.mark.parametrize("sharded", [False, True])
def test_a_head_of_its_own_is_kept_whatever_the_config_says(own_head, sharded):
    folder, params = own_head
    if sharded:
        tensors = safetensors.numpy.load_file(folder / checkpoint.SINGLE)
        (folder / checkpoint.SINGLE).unlink()
        head = {"lm_head.weight": tensors.pop("lm_head.weight")}
        files = {"a.safetensors": tensors, "b.safetensors": head}
        for name, part in files.items():
            safetensors.numpy.save_file(part, folder / name)
        weight_map = {tensor: name for name, part in files.items() for tensor in part}
        (folder / checkpoint.INDEX).write_text(json.dumps({"weight_map": weight_map}))
    model = load_model(folder, np.float32)
    np.testing.assert_equal(model.params, params)
    assert not model.config.tie_embeddings and model.hf_config["tie_word_embeddings"] is False


@pytest.mark.fault("5", control=True)
def test_a_head_that_is_the_embedding_stays_tied(own_head):
    folder, params = own_head
    tensors = safetensors.numpy.load_file(folder / checkpoint.SINGLE)
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].copy()
    safetensors.numpy.save_file(tensors, folder / checkpoint.SINGLE)
    model = load_model(folder, np.float32)
    assert model.config.tie_embeddings and "head" not in model.params
    np.testing.assert_equal(model.params["embed"], params["embed"])


@pytest.mark.fault("5")
def test_a_head_that_differs_in_its_last_row_alone(own_head, monkeypatch):
    monkeypatch.setattr(checkpoint, "_ROWS", 100)  # of 320
    folder, _ = own_head
    tensors = safetensors.numpy.load_file(folder / checkpoint.SINGLE)
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].copy()
    tensors["lm_head.weight"][-1, -1] += 1
    safetensors.numpy.save_file(tensors, folder / checkpoint.SINGLE)
    assert not load_model(folder, np.float32).config.tie_embeddings


@pytest.mark.fault("6")
@pytest.mark.parametrize(
    "name", ["config.json", "model.safetensors", "tokenizer.json", "generation_config.json"]
)
def test_a_pointer_of_git_lfs_is_named(directory, name):
    (directory / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    with pytest.raises(WeightsError, match=rf"{name} is a pointer of Git LFS .*git lfs pull"):
        load_model(directory, np.float32)


@pytest.mark.fault("6")
def test_a_gguf_file_that_is_a_pointer_of_git_lfs_is_named(tmp_path):
    file = tmp_path / "tiny.gguf"
    file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    with pytest.raises(WeightsError, match=r"tiny\.gguf is a pointer of Git LFS"):
        load_model(file, np.float32)


@pytest.mark.fault("1")
def test_the_date_of_chats_is_recorded(directory):
    clock = "{{ strftime_now('%d %B %Y') }}" + TEMPLATE
    rewrite(directory / "tokenizer_config.json", chat_template=clock)
    for jinja in directory.glob("*.jinja"):
        jinja.write_text(clock)
    model = load_model(directory, np.float32)
    assert model.source == "tiny-llama, float32 safetensors, chats dated 01 Jan 2025"
    said = model.tokenizer.decode(encoding.encode_prompt(model.tokenizer, "hello"))
    assert said.startswith("01 January 2025<|im_start|>user")


WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None  # any import of it raises ImportError
import numpy as np
from seal_jax.weights import encoding, safetensors, tokenizer
from seal_jax.weights.load import load_model
for path in sys.argv[1:]:
    model = load_model(path, np.float32)
    ids = encoding.encode_prompt(model.tokenizer, "hello 12")
    assert tokenizer.stop_token_ids(model.tokenizer) == (0, 2), path
    assert "hello 12" in model.tokenizer.decode(ids), path
assert sys.modules["torch"] is None
assert not [name for name in sys.modules if name.startswith("torch.")]
print("done")
"""


def test_everything_works_without_torch(tiny, directory):
    command = [sys.executable, "-c", WITHOUT_TORCH, str(tiny[2]), str(directory)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "done", done.stderr
