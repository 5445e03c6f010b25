"""Adapters that PEFT wrote read by us, and ours read by PEFT: the same numbers, the same logits."""

import json
import warnings

import numpy as np
import pytest
import safetensors.numpy

from seal_jax.core import delta as delta_lib
from seal_jax.core.delta import Delta, DeltaSpec
from seal_jax.weights import peft
from seal_jax.weights.names import WeightsError

from . import checkpoints, forward
from .inner_cases import ALL_SEVEN

ADAPTERS = {
    "qwen3": DeltaSpec(targets=ALL_SEVEN, rank=4, alpha=6.0),
    "llama": DeltaSpec(targets=("q_proj", "v_proj"), rank=8, alpha=16.0),
    "phi3-tied": DeltaSpec(targets=("qkv_proj", "gate_up_proj"), rank=4, alpha=16.0),
    "gemma3-2": DeltaSpec(targets=("o_proj", "gate_proj"), rank=4, alpha=16.0),
    "smollm3-near": DeltaSpec(targets=("k_proj", "up_proj"), rank=4, alpha=16.0),
}


def factors_of(name):
    spec = ADAPTERS[name]
    return checkpoints.lora_tensors(name, spec.targets, spec.rank, seed=3, zero_b=False)


def delta_of(name):
    return Delta(checkpoints.delta_tree(factors_of(name)), ADAPTERS[name])


@pytest.fixture(params=ADAPTERS)
def name(request):
    return request.param


@pytest.fixture
def theirs(name, witness):
    """The checkpoint with a PEFT adapter that moves its logits."""
    return witness.with_lora(witness.model(name), ADAPTERS[name], factors_of(name))


def test_adapter_of_peft_gives_its_logits_and_answers(name, theirs, witness, tmp_path):
    theirs.save_pretrained(tmp_path)
    delta = peft.load(tmp_path, checkpoints.model_config(name))
    variables = delta_lib.variables(delta)
    sequences = checkpoints.prompts(name, forward.LENGTHS)
    adapted = forward.logits(name, sequences, delta=variables)
    for ours_TxV, sequence in zip(adapted, sequences, strict=True):
        np.testing.assert_allclose(ours_TxV, witness.logits(theirs, sequence), rtol=0, atol=2e-4)
    assert np.abs(adapted[-1] - forward.logits(name, sequences)[-1]).max() > 0.1
    prompts = checkpoints.prompts(name)
    expected = [witness.greedy(theirs, prompt, forward.MAX_NEW_TOKENS, ()) for prompt in prompts]
    assert forward.cached_greedy(name, prompts, delta=variables) == expected
    assert forward.cached_greedy(name, prompts) != expected


def test_our_adapter_gives_our_logits_in_peft(name, witness, tmp_path):
    delta = delta_of(name)
    peft.save(tmp_path, delta, "tiny-base")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        theirs = witness.read_adapter(witness.model(name), tmp_path)
    # PEFT only warns of keys that it does not know, or misses.
    assert not [str(w.message) for w in caught if "key" in str(w.message).lower()]
    sequences = checkpoints.prompts(name, forward.LENGTHS)
    ours = forward.logits(name, sequences, delta=delta_lib.variables(delta))
    for ours_TxV, sequence in zip(ours, sequences, strict=True):
        np.testing.assert_allclose(ours_TxV, witness.logits(theirs, sequence), rtol=0, atol=2e-4)
    config = theirs.peft_config["default"]
    assert config.base_model_name_or_path == "tiny-base"


def test_peft_to_delta_to_peft_is_the_identity(name, theirs, tmp_path):
    theirs.save_pretrained(tmp_path / "theirs")
    delta = peft.load(tmp_path / "theirs", checkpoints.model_config(name))
    peft.save(tmp_path / "ours", delta, "tiny-base")
    before, after = (
        safetensors.numpy.load_file(tmp_path / side / "adapter_model.safetensors")
        for side in ("theirs", "ours")
    )
    assert before.keys() == after.keys()
    for key, tensor in before.items():
        np.testing.assert_array_equal(after[key], tensor, strict=True)
    before, after = (
        json.loads((tmp_path / side / "adapter_config.json").read_text())
        for side in ("theirs", "ours")
    )
    assert set(after.pop("target_modules")) == set(before["target_modules"])
    del after["base_model_name_or_path"]  # the tiny checkpoint has no name there
    assert after == {key: before[key] for key in after}


@pytest.mark.parametrize("expression", [r".*self_attn\.[qv]_proj", "all-linear"])
def test_targets_that_peft_names_in_other_ways(expression, witness, tmp_path):
    """A delta's targets are module names whatever expression PEFT chose them by."""
    model = witness.adapted(witness.model("llama"), target_modules=expression, r=2, lora_alpha=2)
    model.save_pretrained(tmp_path)
    expected = ALL_SEVEN if expression == "all-linear" else ("q_proj", "v_proj")
    found = peft.load(tmp_path, checkpoints.model_config("llama"))
    assert found.spec == DeltaSpec(targets=expected, rank=2, alpha=2.0)


@pytest.mark.fault("7")
@pytest.mark.parametrize(
    "settings",
    [
        {"use_rslora": True},
        {"layers_to_transform": [0, 1]},
        {"rank_pattern": {"k_proj": 4}},
        {"alpha_pattern": {"k_proj": 1}, "use_rslora": True},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_settings_that_a_delta_can_hold_give_pefts_logits(settings, witness, tmp_path):
    theirs = witness.adapted(
        witness.model("llama"),
        target_modules=["q_proj", "v_proj"],
        r=8,
        lora_alpha=4,
        init_lora_weights=False,
        **settings,
    )
    theirs.eval().save_pretrained(tmp_path)
    delta = peft.load(tmp_path, checkpoints.model_config("llama"))
    sequences = checkpoints.prompts("llama", forward.LENGTHS)
    adapted = forward.logits("llama", sequences, delta=delta_lib.variables(delta))
    for ours_TxV, sequence in zip(adapted, sequences, strict=True):
        np.testing.assert_allclose(ours_TxV, witness.logits(theirs, sequence), rtol=0, atol=2e-4)
    assert np.abs(adapted[-1] - forward.logits("llama", sequences)[-1]).max() > 0.01


def test_an_adapter_of_some_layers_is_refused(witness, tmp_path):
    model = witness.adapted(
        witness.model("llama"), target_modules=["q_proj"], layers_to_transform=0
    )
    model.save_pretrained(tmp_path)
    with pytest.raises(WeightsError, match=r"lacks .*layers\.1\..*some layers only"):
        peft.load(tmp_path, checkpoints.model_config("llama"))


@pytest.mark.parametrize(
    "settings",
    [
        {"use_dora": True},
        {"bias": "all"},
        {"lora_bias": True},
        {"modules_to_save": ["lm_head"]},
        {"rank_pattern": {"v_proj": 4}},
        {"alpha_pattern": {"v_proj": 4}},
        {"init_lora_weights": "pissa"},
        {"trainable_token_indices": [3]},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_what_a_delta_cannot_hold_is_refused(settings, witness, tmp_path):
    model = witness.adapted(witness.model("llama"), target_modules=["q_proj", "v_proj"], **settings)
    model.save_pretrained(tmp_path)
    with pytest.raises(WeightsError, match=f"{next(iter(settings))}=.*merge_and_unload"):
        peft.load(tmp_path, checkpoints.model_config("llama"))
