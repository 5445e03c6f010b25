"""A tiny random checkpoint with a real tokenizer, tiny data, and settings that run in seconds.

A plugin of pytest that tests/conftest.py loads.
"""

import contextlib
import dataclasses
import functools
import importlib.resources
import json
import pathlib
import sys

import jax
import numpy as np
import pytest
import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from seal_jax import settings as settings_lib
from seal_jax.core import parallel
from seal_jax.core.model import decoder
from seal_jax.core.model.config import ModelConfig
from seal_jax.weights import safetensors

_HF_CONFIG = {
    "model_type": "llama",
    "vocab_size": 384,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 512,
    "tie_word_embeddings": True,
}
_TEMPLATE = (
    "{% for m in messages %}{{ '<|model|>' if m['role'] == 'assistant' else '<|user|>' }}"
    "{{ m['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|model|>{% endif %}"
)


@contextlib.contextmanager
def two_devices():
    """Runs use two of the eight devices: what eight do not divide, each of them computes whole."""
    devices = tuple(jax.local_devices()[:2])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parallel, "all_devices", functools.partial(parallel.DeviceMesh, devices))
        yield


@pytest.fixture(scope="module")
def few_devices():
    """Two of them, for the tests of a module that run programs."""
    with two_devices():
        yield


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """A Hugging Face directory: two random layers and a byte-level BPE of the demo's passages."""
    folder = tmp_path_factory.mktemp("tiny")
    data = importlib.resources.files("seal_jax.tasks.knowledge") / "data" / "demo_train.json"
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=384,
        special_tokens=["<|end|>", "<|user|>", "<|model|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([data.read_text()], trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|end|>", chat_template=_TEMPLATE
    )
    fast.save_pretrained(folder)
    config = ModelConfig.from_hf(_HF_CONFIG)
    params = jax.tree.map(np.array, decoder.init(config, jax.random.key(7)))
    params["embed"]["embedding"] *= 10  # logits of about 1, so that there is something to learn
    safetensors.save(folder, params, _HF_CONFIG)
    return folder


@pytest.fixture(scope="session")
def squad_file(tmp_path_factory):
    """(name, articles, questions) -> a file of invented passages in SQuAD's format.

    Every question and gold answer contains the word that `canary` names.
    """
    folder = tmp_path_factory.mktemp("squad")

    def write(name, articles, questions=2, canary="answer"):
        data = []
        for i in range(articles):
            passage = f"{name} place {i} lies by a river. It has {i + 3} mills and a red tower."
            qas = [
                {
                    "id": f"{name}-{i}-{q}",
                    "question": f"What {canary} number {q} has place {i}?",
                    "answers": [{"text": f"{canary} {q}", "answer_start": 0}],
                }
                for q in range(questions)
            ]
            paragraph = {"context": passage, "qas": qas}
            data.append({"title": f"{name} {i}", "paragraphs": [paragraph]})
        path = folder / f"{name}-{articles}-{questions}-{canary}.json"
        path.write_text(json.dumps({"version": "1.1", "data": data}))
        return str(path)

    return write


@pytest.fixture(scope="session")
def tiny_settings(checkpoint, squad_file):
    """Settings of a run with 2 rounds of 2 contexts x 4 self-edits and 2 evaluation contexts."""
    make = settings_lib
    return make.Settings(
        model=make.Model(path=str(checkpoint)),
        data=make.Data(
            train_path=squad_file("train", 8), eval_path=squad_file("eval", 4), max_questions=2
        ),
        edits=make.Edits(
            prompt_style="chat",
            samples=4,
            max_new_tokens=16,
            contexts_per_batch=2,
            prompt_buckets=(384,),
        ),
        inner=make.Inner(
            lora=make.Lora(rank=2, alpha=4.0, targets=make.ALL_PROJECTIONS),
            epochs=3,
            learning_rate=3e-2,
            candidates=8,
            max_sequences=4,
            buckets=(32, 64, 128),
        ),
        answers=make.Answers(
            max_new_tokens=4, max_gold_tokens=8, prompt_buckets=(128,), questions_at_once=2
        ),
        reward=make.Reward(kind="gold_log_likelihood", replicates=1),
        restem=make.Restem(
            rounds=2,
            contexts_per_round=2,
            sft=make.Sft(
                lora=make.Lora(rank=4, alpha=8.0, targets=make.ALL_PROJECTIONS),
                learning_rate=1e-3,
                batch_size=8,
                buckets=(448,),
            ),
        ),
        evaluation=make.Evaluation(
            contexts=2,
            edits=1,
            arms=("base", "passage", "edit_before", "edit_after"),
            bootstrap_draws=200,
        ),
    )


@pytest.fixture(scope="module")
def rivers_package():
    """The folder of the example package, on the path as if it were installed."""
    folder = pathlib.Path(__file__).resolve().parents[2] / "examples" / "seal_jax_rivers"
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder / "src"))
        yield folder
        sys.modules.pop("seal_jax_rivers", None)


@pytest.fixture(scope="session")
def change():
    """(settings, {"inner.epochs": 3, ...}) -> changed settings."""

    def apply(settings, changes):
        for key, value in changes.items():
            settings = _replace(settings, key.split("."), value)
        return settings

    return apply


def _replace(node, path, value):
    if len(path) > 1:
        value = _replace(getattr(node, path[0]), path[1:], value)
    return dataclasses.replace(node, **{path[0]: value})
