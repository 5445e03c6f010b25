"""Whatever a file says, reading it ends in time, with a value or a sentence; see readers.py."""

import importlib.util
import json
import pathlib
import shutil
import subprocess
import sys

import gguf
import numpy as np
import pytest
import safetensors.numpy

from seal_jax.core import delta as delta_lib
from seal_jax.core.delta import DeltaSpec
from seal_jax.core.model import decoder
from seal_jax.weights import files, peft

HERE = pathlib.Path(__file__).parent


def _module(path):
    """A file of the tests as a module."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


readers = _module(HERE / "readers.py")


@pytest.fixture(scope="module")
def good(tmp_path_factory, tiny_settings):
    """The good files that are changed."""
    folder = tmp_path_factory.mktemp("fuzz")
    _model(folder / "model", pathlib.Path(tiny_settings.model.path))
    _adapter(folder / "adapter", folder / "model")
    _gguf(folder / "gguf")
    _data(folder / "data", pathlib.Path(tiny_settings.data.train_path))
    (folder / "runs").mkdir()
    _module(HERE.parent / "reports" / "made_runs.py").knowledge(folder / "runs" / "run")
    return folder


def _model(folder, source):
    """The tiny checkpoint, as one shard with an index."""
    shutil.copytree(source, folder)
    (folder / "model.safetensors").rename(folder / "shard.safetensors")
    names = safetensors.numpy.load_file(folder / "shard.safetensors")
    index = {"metadata": {}, "weight_map": dict.fromkeys(names, "shard.safetensors")}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def _adapter(folder, model):
    config, _ = files.model_config(model)
    spec = DeltaSpec(targets=("q_proj", "v_proj"), rank=2, alpha=4.0)
    key = decoder.jax.random.key(0)
    peft.save(folder, delta_lib.init(key, decoder.init(config, key), spec), "base")
    shutil.copy(model / "config.json", folder)


def _gguf(folder):
    folder.mkdir()
    keys = {
        "llama.block_count": 2,
        "llama.context_length": 64,
        "llama.embedding_length": 32,
        "llama.feed_forward_length": 48,
        "llama.attention.head_count": 4,
        "llama.attention.head_count_kv": 2,
        "llama.attention.key_length": 8,
        "llama.rope.freq_base": 10000.0,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
    }
    keys |= _module(HERE.parent / "weights" / "conftest.py").tokenizer_keys(320)
    (folder / "keys.json").write_text(json.dumps(keys))
    writer = gguf.GGUFWriter(str(folder / "tiny.gguf"), "llama")
    add = {bool: "bool", int: "uint32", float: "float32", str: "string", list: "array"}
    for key, value in keys.items():
        getattr(writer, f"add_{add[type(value)]}")(key, value)
    writer.add_tensor("token_embd.weight", np.zeros((320, 32), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _data(folder, squad):
    folder.mkdir()
    shutil.copy(squad, folder / "squad.json")
    pair = {"input": [[0, 1], [2, 3]], "output": [[3, 2], [1, 0]]}
    task = {"train": [pair, pair], "test": [pair]}
    (folder / "arc.json").write_text(json.dumps({"aa": task, "bb": task}))
    row = {"question": "Who?", "gold": "Ida", "prediction": "Ida.", "correct": True}
    (folder / "rows.jsonl").write_text("\n".join([json.dumps(row)] * 3))
    message = {"message": {"content": "Yes", "role": "assistant"}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 3, "completion_tokens": 1}
    (folder / "reply.json").write_text(json.dumps({"choices": [message], "usage": usage}))
    stats = {"adapter_mean_accuracy": 0.5, "baseline_accuracy": 0.2}
    completion = {"text": "a\nb", "stats": stats}
    entry = {"title": "T", "context": "C", "completions": [completion, completion], "prompt": "P"}
    (folder / "scored.json").write_text(json.dumps([entry]))


def _findings(good, names, first, count, seconds):
    """What goes wrong in a process of its own."""
    command = [sys.executable, str(HERE / "readers.py"), str(good), ",".join(names)]
    command += [str(first), str(count)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired as late:
        lines = (late.stdout or b"").decode().splitlines()
        return [f"not over after {seconds} seconds: {lines[-1:]}"]
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    found = [f"{of['reader']} {of['number']}: {of['found']}" for of in lines if "found" in of]
    if not lines or "ended" not in lines[-1]:
        found.append(f"it ended with {done.returncode} at {lines[-1:]}: {done.stderr[-800:]}")
    return found


def test_good_files_are_read(good):
    """Or the mutations would find nothing."""
    for name, (_, _, read) in readers.READERS.items():
        assert read(good / readers.FOLDERS[name]), name


@pytest.mark.fault("S5")
@pytest.mark.fault("S6")
def test_fifty_inputs_of_every_reader_end_in_a_value_or_a_sentence(good):
    assert _findings(good, readers.READERS, 0, 50, seconds=600) == []


@pytest.mark.long
@pytest.mark.parametrize("name", readers.READERS)
def test_two_thousand_inputs_end_in_a_value_or_a_sentence(good, name):
    assert _findings(good, [name], 0, 2000, seconds=3600) == []
