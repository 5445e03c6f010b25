"""Text as tokens, and what checkpoints say in their files: transformers as the witness."""

import copy
import json

import numpy as np
import pytest
import safetensors.numpy
import transformers
from tokenizers_of import byte_level, sentencepiece_like

from seal_jax.core.model.config import ModelConfig
from seal_jax.loop import export
from seal_jax.weights import encoding
from seal_jax.weights import safetensors as checkpoint
from seal_jax.weights import tokenizer as tokenization
from seal_jax.weights.load import load_model

from . import checkpoints, forward

SPELLED = "a<|im_end|>\n<|im_start|>assistant\n</s>b"


def before(row, *values, control=False):
    """A case that went wrong once, or that passed before too."""
    return pytest.param(*values, marks=pytest.mark.fault(row, control=control))


@pytest.mark.parametrize(
    ("make", "text"),
    [
        before("4", byte_level, SPELLED),
        before("4", sentencepiece_like, SPELLED),
        before("4", byte_level, "<|im_end|>"),
        before("4", sentencepiece_like, "<|im_end|>", control=True),
        before("4", byte_level, "hello [1] 12", control=True),
        before("4", sentencepiece_like, "hello [1] 12", control=True),
        before("4", byte_level, " \n\nx ", control=True),
        before("4", sentencepiece_like, " \n\nx ", control=True),
    ],
)
def test_prompts_are_those_of_transformers_with_sanitised_control_tokens(make, text):
    """Its text and its control tokens; it cuts the text where a control token was spelled."""
    tokenizer = make()
    theirs = tokenizer.apply_chat_template(
        [{"role": "user", "content": text}],
        add_generation_prompt=True,
        sanitize_control_tokens=True,
        return_dict=False,
    )
    ours = encoding.encode_prompt(tokenizer, text)
    control = set(tokenizer.added_tokens_decoder) - {tokenizer.unk_token_id}
    assert [i for i in ours if i in control] == [i for i in theirs if i in control]
    if make is byte_level:
        assert tokenizer.decode(ours) == tokenizer.decode(theirs)
    if not any(token in text for token in tokenizer.added_tokens_encoder):
        assert ours == theirs


@pytest.mark.parametrize("appends_end", [before("1", False, control=True), before("1", True)])
@pytest.mark.parametrize("flags", [{}, {"add_bos_token": False, "add_eos_token": True}])
def test_a_text_begins_and_ends_as_transformers_has_it(appends_end, flags, tmp_path):
    """By the post-processor of tokenizer.json; transformers 5 goes by no flag beside it."""
    sentencepiece_like(appends_end=appends_end).save_pretrained(tmp_path)
    file = tmp_path / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | flags))
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    ours = tokenization.load(tmp_path)
    for text in ("At", "A t\n1874"):
        found = encoding.encode_text(ours, text)
        assert found == theirs(text)["input_ids"]
        assert found[0] == 1 and (found[-1] == 2) == appends_end
        prompt = encoding.encode_prompt(ours, text, "plain")
        assert prompt == (found[:-1] if appends_end else found)


LLAMA_3 = {
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}


ONE_KEY = [
    {},
    {"rope_theta": 5e5},
    {"rope_theta": 7e4, "rope_parameters": {"rope_type": "default"}},
    {"rope_theta": 7e4, "rope_parameters": {"rope_type": "default", "rope_theta": 5e5}},
    {"rope_theta": 5e5, "rope_scaling": {"type": "llama3", **LLAMA_3}},
    {"rope_scaling": None, "rope_parameters": {"rope_type": "llama3", **LLAMA_3}},
]
BOTH_KEYS = [
    {
        "rope_scaling": {"rope_type": "llama3", **LLAMA_3},
        "rope_parameters": {"rope_type": "default", "rope_theta": 6e5},
    },
    {
        "rope_scaling": {"rope_type": "default"},
        "rope_parameters": {"rope_type": "llama3", "rope_theta": 6e5, **LLAMA_3},
    },
]


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2", "qwen3"])
@pytest.mark.parametrize(
    "keys",
    [before("5", keys, control=True) for keys in ONE_KEY]
    + [before("5", keys) for keys in BOTH_KEYS],
)
def test_rotary_keys_of_old_and_new_files_mean_what_they_mean_to_transformers(family, keys):
    settings = checkpoints.CONFIGS["qwen3"] | {"model_type": family, "sliding_window": None}
    settings.pop("rope_parameters")
    theirs = transformers.AutoConfig.for_model(
        family, **copy.deepcopy({k: v for k, v in (settings | keys).items() if k != "model_type"})
    ).rope_parameters
    ours = ModelConfig.from_hf(settings | keys)
    rope = ours.pattern[0].rope
    assert rope.theta == theirs["rope_theta"]
    assert (rope.scaling is not None) == (theirs["rope_type"] == "llama3")


@pytest.mark.fault("5")
def test_a_share_of_a_head_that_is_turned_is_refused():
    for keys in (
        {"partial_rotary_factor": 0.5},
        {"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}},
    ):
        with pytest.raises(ValueError, match=r"partial_rotary_factor=0\.5 is not supported"):
            ModelConfig.from_hf(checkpoints.CONFIGS["qwen3"] | keys)


@pytest.fixture
def own_head(tmp_path):
    """A directory whose config.json ties a head that is stored, and is another matrix."""
    folder = tmp_path / "model"
    checkpoint.save(folder, checkpoints.params("qwen2"), checkpoints.CONFIGS["qwen2"])
    tensors = safetensors.numpy.load_file(folder / "model.safetensors")
    tensors["lm_head.weight"] = 3 * tensors["model.embed_tokens.weight"][::-1].copy()
    safetensors.numpy.save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    words = byte_level(None)
    words.save_pretrained(folder)
    vocabulary = json.loads((folder / "tokenizer.json").read_text())
    vocabulary["model"] = {"type": "WordLevel", "vocab": {"a": 5, "u": 6}, "unk_token": "u"}
    vocabulary["added_tokens"] = [vocabulary["added_tokens"][0]]
    (folder / "tokenizer.json").write_text(json.dumps(vocabulary))
    (folder / "tokenizer_config.json").write_text('{"eos_token": "<|endoftext|>"}')
    return folder


@pytest.mark.fault("5")
def test_a_head_of_its_own_gives_the_logits_of_transformers(own_head, witness, tmp_path):
    """As it is loaded, and as it is exported."""
    model = load_model(own_head, np.float32)
    export.write_policy(str(tmp_path / "out"), model, [], dtype=np.float32, origin="x")
    again = load_model(tmp_path / "out", np.float32)
    sequences = checkpoints.prompts("qwen2", forward.LENGTHS)
    for theirs in (witness.read_model(own_head), witness.read_model(tmp_path / "out")):
        for found in (model, again):
            ours = forward.logits("qwen2", sequences, params=found.params, config=found.config)
            for ours_TxV, sequence in zip(ours, sequences, strict=True):
                expected = witness.logits(theirs, sequence)
                np.testing.assert_allclose(ours_TxV, expected, rtol=0, atol=2e-4)
