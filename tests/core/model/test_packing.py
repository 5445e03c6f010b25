"""Packed rows against literal indices, and both directions as each other's transpose."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seal_jax.core.model import packing as packing_lib

LENGTHS = np.array([2, 0, 3, 1], np.int32)


@pytest.fixture(scope="module")
def packing():
    return packing_lib.make(LENGTHS, packed=8, padded=3)


def _values(shape):
    return jnp.arange(1, 1 + np.prod(shape), dtype=jnp.float32).reshape(shape)


def test_tokens_lie_one_after_another(packing):
    found = packing_lib.pack(packing, _values((4, 3)))
    np.testing.assert_array_equal(found, [1, 2, 7, 8, 9, 10, 0, 0])


def test_they_come_back_to_their_rows(packing):
    found = packing_lib.unpack(packing, _values((8,)))
    np.testing.assert_array_equal(found, [[1, 2, 0], [0, 0, 0], [3, 4, 5], [6, 0, 0]])


def test_features_stay_together(packing):
    found = packing_lib.unpack(packing, packing_lib.pack(packing, _values((4, 3, 2))))
    real = np.arange(3) < LENGTHS[:, None]
    np.testing.assert_array_equal(found, np.where(real[..., None], _values((4, 3, 2)), 0))


def test_what_lies_in_padding_reaches_nothing(packing):
    real = np.arange(3) < LENGTHS[:, None]
    values = jnp.where(real, 1.0, jnp.nan)
    np.testing.assert_array_equal(packing_lib.pack(packing, values), [1] * 6 + [0] * 2)
    row = jnp.array([1.0] * 6 + [jnp.nan] * 2)
    np.testing.assert_array_equal(packing_lib.unpack(packing, row), real)


@pytest.mark.parametrize("direction", [packing_lib.pack, packing_lib.unpack])
def test_the_gradient_is_that_of_a_gather(packing, direction):
    """<w, f(x)> is linear in x: its gradient by finite differences of one entry each is exact."""
    shape, out = ((4, 3), (8,)) if direction is packing_lib.pack else ((8,), (4, 3))
    weights = _values(out)

    def inner_product(values):
        return jnp.vdot(weights, direction(packing, values))

    entries = jnp.eye(int(np.prod(shape))).reshape(-1, *shape)
    expected = [inner_product(entry) for entry in entries]
    found = jax.grad(inner_product)(_values(shape)).ravel()
    np.testing.assert_array_equal(found, np.array(expected))


def test_what_does_not_fit_is_left_out():
    packing = packing_lib.make(np.array([3, 3], np.int32), packed=4, padded=3)
    found = packing_lib.unpack(packing, packing_lib.pack(packing, _values((2, 3))))
    np.testing.assert_array_equal(found, [[1, 2, 3], [4, 0, 0]])
