"""Weights that are no numbers are refused before anything is done with them."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seal_jax.judges import graders
from seal_jax.loop import opened_model
from seal_jax.settings import Grading, Model, Settings
from seal_jax.weights import finite
from seal_jax.weights.names import WeightsError

BAD = [
    (("layers", "attn", "q_proj", "kernel"), (1, 2, 3), "model.layers.1.self_attn.q_proj.weight"),
    (("layers", "mlp_norm", "scale"), (0, 5), "model.layers.0.post_attention_layernorm.weight"),
    (("embed", "embedding"), (7, 0), "model.embed_tokens.weight"),
    (("final_norm", "scale"), (3,), "model.norm.weight"),
]


def _with(params, path, place, value):
    """The parameters with one value at a place of one leaf, as numpy arrays."""
    changed = jax.tree.map(lambda leaf: np.array(leaf), params)
    leaf = changed
    for key in path:
        leaf = leaf[key]
    leaf[place] = value
    return changed


@pytest.mark.fault("S14")
@pytest.mark.parametrize(("path", "place", "name"), BAD, ids=[name for *_, name in BAD])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_the_tensor_is_named(tiny_llama, path, place, name, value):
    params = _with(tiny_llama.params, path, place, value)
    with pytest.raises(WeightsError, match=rf"^model\.path=there: {name} hold values that are not"):
        finite.check(tiny_llama.config, params, "model.path=there")
    half = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.bfloat16), params)
    with pytest.raises(WeightsError, match=name):
        finite.check(tiny_llama.config, half, "model.path=there")


@pytest.mark.fault("S14")
def test_of_many_the_first_are_named(tiny_llama):
    params = jax.tree.map(lambda leaf: np.full(leaf.shape, np.nan), tiny_llama.params)
    with pytest.raises(WeightsError, match=r"model\.embed_tokens\.weight, .* and \d+ more hold"):
        finite.check(tiny_llama.config, params, "model.path=there")


@pytest.mark.fault("S14", control=True)
def test_the_largest_numbers_are_numbers(tiny_llama):
    largest = np.finfo(np.float32).max
    path, place, _ = BAD[0]
    finite.check(tiny_llama.config, _with(tiny_llama.params, path, place, largest), "there")


@pytest.mark.fault("S14")
def test_a_run_and_a_judge_refuse_them_as_they_are_opened(tiny_llama, monkeypatch):
    """Also where only an adapter makes them so."""
    good = types.SimpleNamespace(
        config=tiny_llama.config, params=tiny_llama.params, tokenizer=None, source=""
    )
    path, place, name = BAD[0]
    bad = types.SimpleNamespace(
        **{**vars(good), "params": _with(tiny_llama.params, path, place, np.nan)}
    )
    monkeypatch.setattr(opened_model.load, "load_model", lambda *_: bad)
    with pytest.raises(WeightsError, match=rf"model\.path=here: {name}"):
        opened_model.load_base(Settings(model=Model(path="here")))
    settings = Settings(grading=Grading(kind="model", model="judge"))
    devices = types.SimpleNamespace(param_sharding=None)
    model = types.SimpleNamespace(model=None, base=None, tokenizer=None, devices=devices)
    with pytest.raises(WeightsError, match=rf"grading\.model=judge: {name}"):
        graders.make_grader(settings, model)
    monkeypatch.setattr(opened_model.load, "load_model", lambda *_: good)
    monkeypatch.setattr(opened_model.load, "with_adapter", lambda *_: bad)
    with pytest.raises(WeightsError, match=rf"model\.adapter=lora: {name}"):
        opened_model.load_base(Settings(model=Model(path="here", adapter="lora")))
