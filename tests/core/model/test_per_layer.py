"""Layers in arrays of their own: every program and every change of weights as with a stack.

The inner update and the M-step are in tests/core/test_mesh.py, on a mesh that holds them so.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seal_jax.core import delta as delta_lib
from seal_jax.core import retention, sampling
from seal_jax.core.delta import DeltaSpec
from seal_jax.core.model import decoder, per_layer
from seal_jax.core.specs import SampleSettings

SPEC = DeltaSpec(("q_proj", "down_proj"), rank=2, alpha=4.0)
TOKENS = np.random.default_rng(0).integers(0, 64, (3, 7))


@pytest.fixture(scope="module")
def separated(tiny_llama):
    return per_layer.separated(tiny_llama.params)


@pytest.fixture(scope="module")
def delta(tiny_llama, random_delta):
    return random_delta(tiny_llama.params, SPEC, 3)


def _assert_equal_leaves(found, expected):
    paired = zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True)
    for own, wanted in paired:
        np.testing.assert_array_equal(own, wanted)


def _stacked(params):
    is_leaf = lambda node: isinstance(node, per_layer.PerLayer)  # noqa: E731
    return jax.tree.map(per_layer.stacked, params, is_leaf=is_leaf)


@functools.cache
def _with_gradient(config, remat):
    def total(delta, params):
        variables = delta_lib.variables(delta)
        lls = decoder.log_likelihoods(config, params, TOKENS, delta=variables, remat=remat)
        return lls.sum(), lls

    return jax.jit(jax.value_and_grad(total, has_aux=True))


@pytest.mark.parametrize("remat", ["none", "dots", "full"])
def test_log_likelihoods_and_gradients(tiny_llama, separated, delta, remat):
    program = _with_gradient(tiny_llama.config, remat)
    (_, expected), wanted = program(delta, tiny_llama.params)
    (_, lls), gradient = program(delta, separated)
    assert np.ptp(expected) > 1
    np.testing.assert_allclose(lls, expected, rtol=1e-5, atol=1e-5)
    for own, leaf in zip(jax.tree.leaves(gradient), jax.tree.leaves(wanted), strict=True):
        assert np.linalg.norm(own - leaf) <= 1e-5 * np.linalg.norm(leaf) > 0


def test_what_is_computed_anew_is_behind_a_barrier(tiny_llama, separated, delta):
    """Or the compiler would merge it with the forward pass, as it can outside a scan."""
    for remat, barriers in (("none", 0), ("full", tiny_llama.config.num_layers)):
        lowered = _with_gradient(tiny_llama.config, remat).lower(delta, separated)
        assert lowered.as_text().count("optimization_barrier") == barriers


def test_texts(tiny_llama, separated):
    settings = SampleSettings(max_new_tokens=6, temperature=0.0, stop_ids=(0,))
    write = functools.partial(
        sampling.generate_jit,
        (tiny_llama.config, settings),
        prompts_PxT=TOKENS,
        lengths_P=np.array([7, 5, 3]),
        keys_B=jax.random.split(jax.random.key(0), 3),
    )
    expected, found = write(tiny_llama.params), write(separated)
    np.testing.assert_array_equal(found.tokens_BxN, expected.tokens_BxN)
    assert len(np.unique(found.tokens_BxN)) > 3


def test_new_deltas_are_the_same(tiny_llama, separated):
    key = jax.random.key(1)
    expected = delta_lib.init(key, tiny_llama.params, SPEC)
    _assert_equal_leaves(delta_lib.init(key, separated, SPEC), expected)


def test_merged_weights_are_the_same(tiny_llama, separated, delta, random_delta):
    dense = random_delta(tiny_llama.params, DeltaSpec(("k_proj", "embed"), kind="dense"), 4)
    expected = delta_lib.merge(tiny_llama.params, [delta, dense, delta])
    found = delta_lib.merge(separated, [delta, dense, delta])
    assert per_layer.is_separated(found["layers"])
    _assert_equal_leaves(_stacked(found), expected)
    _assert_equal_leaves(
        delta_lib.decayed(separated, dense), delta_lib.decayed(tiny_llama.params, dense)
    )


def test_a_capped_norm_is_the_same(tiny_llama, separated, delta):
    expected = retention.norm_capped(delta, tiny_llama.params, 0.1)
    found = retention.norm_capped(delta, separated, 0.1)
    for own, leaf in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(own, leaf, rtol=1e-6)
    assert not np.allclose(jax.tree.leaves(found)[1], jax.tree.leaves(delta)[1])


def test_stacks_that_are_given_up_are_deleted(tiny_llama):
    params = jax.tree.map(jnp.array, tiny_llama.params)
    stack, kept = params["layers"]["mlp"]["up_proj"]["kernel"], params["embed"]["embedding"]
    found = per_layer.separated(params, give_up=True)
    assert stack.is_deleted() and not kept.is_deleted()
    _assert_equal_leaves(_stacked(found), tiny_llama.params)
