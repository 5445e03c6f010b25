"""What the doctor takes for the same results."""

import jax
import numpy as np
import pytest

from seal_jax.core.families import FAMILIES
from seal_jax.core.model import decoder
from seal_jax.doctor import models, parity


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_has_a_model_with_all_of_its_parts(family):
    shapes = decoder.param_shapes(parity.tiny(family))
    attention = shapes["layers"]["attn"]
    assert ("bias" in attention.get("q_proj", {})) == (family in ("qwen2", "qwen3"))
    assert ("bias" in attention["o_proj"]) == (family == "qwen3")
    assert ("q_norm" in attention) == (family in ("qwen3", "olmo2", "gemma3_text"))
    assert len(parity.tiny(family).pattern) == 1 + (family in ("smollm3", "gemma2", "gemma3_text"))
    assert ("head" in shapes) == (family == "llama")


@pytest.fixture(scope="module")
def model():
    config = parity.tiny("llama")
    return config, models.tiny_params(decoder.param_shapes(config), "float32")


@pytest.fixture(scope="module")
def exact(model):
    return parity.run(*model, jax.devices()[0], "float32")


def _greedy(model, found):
    return parity.along(*model, jax.devices()[0], found["tokens"])


def test_a_run_has_20_steps_that_learn_and_a_policy_that_differs(exact):
    assert exact["losses"].shape == (2, 20)
    assert np.all(exact["losses"][:, -5:].mean(1) < exact["losses"][:, :5].mean(1))
    assert exact["m_step"].shape == (2, 2) and exact["m_step"][1, 0] < exact["m_step"][0, 0]
    assert not np.array_equal(exact["logits"], exact["policy"])


def test_another_device_computes_the_same(model, exact):
    found = parity.run(*model, jax.devices()[1], "float32")
    compared = parity.compare(exact, exact, found, _greedy(model, found))
    assert compared["passed"] and compared["same_tokens"] == 1


@pytest.mark.parametrize("what", ["logits", "losses", "m_step", "policy"])
def test_a_share_of_a_percent_is_too_much(what, model, exact):
    found = dict(exact, **{what: exact[what] * 1.005})
    compared = parity.compare(exact, exact, found, _greedy(model, found))
    assert not compared["passed"]
    wrong = {key for key, error in compared["errors"].items() if error > compared["allowed"][key]}
    assert wrong == {what}


def test_what_is_not_finite_is_wrong(model, exact):
    losses = np.where(np.arange(20) < 19, exact["losses"], np.nan)
    found = dict(exact, losses=losses)
    compared = parity.compare(exact, exact, found, _greedy(model, found))
    assert compared["errors"]["losses"] == 1e9 and not compared["passed"]


def test_a_greedy_token_that_is_not_the_best_is_wrong(model, exact):
    tokens = exact["tokens"].copy()
    row, length = 1, exact["prompts"][1]
    tokens[row, length + 7] = (tokens[row, length + 7] + 1) % 384
    found = dict(exact, tokens=tokens)
    compared = parity.compare(exact, exact, found, _greedy(model, found))
    assert compared["errors"]["greedy tokens"] > compared["allowed"]["greedy tokens"]
    assert not compared["passed"]
