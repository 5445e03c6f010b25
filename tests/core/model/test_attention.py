"""Which attention a program uses, and that what cuDNN's is given means the same as the masks.

cuDNN is not here: JAX's own causal attention stands in for its kernel, so that what is tested is
the way there and back. The kernel itself has not been run.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seal_jax.core import parallel
from seal_jax.core.model import attention, decoder
from seal_jax.core.model import packing as packing_lib
from seal_jax.core.model.config import LayerKind, ModelConfig

CONFIG = ModelConfig(
    family="llama",
    vocab_size=61,
    hidden_size=32,
    intermediate_size=24,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    head_dim=8,
)
H100 = dict(platform="gpu", capability=(9, 0), cudnn_version=90800, dtype="bfloat16")


@pytest.mark.parametrize(
    "changed, chosen",
    [
        ({}, "cudnn"),
        ({"capability": (8, 0)}, "cudnn"),
        ({"capability": (8, 9)}, "cudnn"),
        ({"capability": (7, 5)}, "blockwise"),
        ({"capability": (10, 3)}, "blockwise"),
        ({"capability": (10, 3), "cudnn_version": 91100}, "cudnn"),
        ({"cudnn_version": 90700}, "blockwise"),
        ({"cudnn_version": 0}, "blockwise"),
        ({"dtype": "float32"}, "blockwise"),
        ({"dtype": "float16"}, "blockwise"),
        ({"model_axis": 2}, "blockwise"),
        ({"platform": "tpu"}, "blockwise"),
        ({"platform": "cpu"}, "blockwise"),
    ],
)
def test_the_fallbacks(changed, chosen):
    assert attention.implementation(CONFIG, **H100 | changed) == chosen


@pytest.mark.parametrize("width, chosen", [(64, "cudnn"), (128, "cudnn"), (256, "blockwise"),
                                           (12, "blockwise")])  # fmt: skip
def test_heads_that_are_too_wide_or_odd_fall_back(width, chosen):
    config = dataclasses.replace(CONFIG, head_dim=width)
    assert attention.implementation(config, **H100) == chosen


@pytest.mark.parametrize("changed", [{"pattern": (LayerKind(), LayerKind(window=8))},
                                     {"query_scale": 0.1}])  # fmt: skip
def test_what_cudnn_is_not_asked_for_falls_back(changed):
    config = dataclasses.replace(CONFIG, **changed)
    assert attention.implementation(config, **H100) == "blockwise"


def test_a_window_counts_the_token_itself():
    mask = attention.causal_mask(CONFIG, 4, window=2)
    expected = [[1, 0, 0, 0], [1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1]]
    np.testing.assert_array_equal(mask[0, 0], np.array(expected, bool))


class _Device:
    platform, compute_capability = "gpu", "9.0"


@pytest.mark.parametrize("capability, chosen", [("9.0", "cudnn"), ("gfx942", "blockwise")])
def test_a_mesh_says_what_its_devices_have(monkeypatch, capability, chosen):
    device = _Device()
    device.compute_capability = capability
    monkeypatch.setattr(parallel, "cudnn_version", lambda: 90800)
    mesh = parallel.DeviceMesh((device,))
    assert mesh.with_attention(CONFIG, "bfloat16").attention == chosen
    assert mesh.with_attention(CONFIG, "float32").attention == "blockwise"
    here = parallel.DeviceMesh(tuple(jax.devices()[:1]))
    assert here.with_attention(CONFIG, "bfloat16") == CONFIG


@pytest.fixture
def stand_in(monkeypatch):
    """JAX's causal attention in the place of cuDNN's, with how often it was traced."""
    real, calls = jax.nn.dot_product_attention, []

    def attend(*arrays, mask=None, is_causal=False, implementation=None, scale=None):
        if implementation == "cudnn":
            assert mask is None and is_causal
            calls.append(arrays[0].shape)
        return real(*arrays, mask=mask, is_causal=is_causal, scale=scale)

    monkeypatch.setattr(jax.nn, "dot_product_attention", attend)
    return calls


@pytest.fixture(scope="module")
def params(random_params):
    return random_params(CONFIG, 0)


FUSED = dataclasses.replace(CONFIG, attention="cudnn")
TOKENS_BxT = np.random.default_rng(0).integers(0, 61, (3, 70)).astype(np.int32)


def test_training_rows_give_the_same_losses_and_gradients(params, stand_in):
    """Right-padded and packed ones, over more tokens than a block."""
    packing = packing_lib.make(jnp.asarray([70, 40, 3]), packed=120, padded=70)

    def loss(params, config):
        lls = decoder.log_likelihoods(
            config, params, TOKENS_BxT, loss_mask_BxT=TOKENS_BxT > 5, packing=packing, remat="full"
        )
        return lls.sum()

    # The head is frozen in the loss: gradients of the layers.
    of = jax.jit(jax.value_and_grad(loss), static_argnums=1)
    both = [of(params, config) for config in (CONFIG, FUSED)]
    assert stand_in and set(stand_in) == {(3, 70, 4, 8)}
    (plain, plain_gradient), (fused, fused_gradient) = both
    np.testing.assert_allclose(fused, plain, rtol=1e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4),
        fused_gradient["layers"],
        plain_gradient["layers"],
    )


def test_prompts_of_any_length_open_the_same_cache(params, stand_in):
    """Right-aligned ones, an empty one among them, and a decode step after them."""
    lengths_B = jnp.asarray([70, 41, 0])

    def outcome(params, config):
        first, cache = decoder.prefill(config, params, TOKENS_BxT, lengths_B, 72)
        layers = decoder.split_layers(config, params)
        step = (TOKENS_BxT[:, 0], jnp.int32(70), cache)
        second, _ = decoder.decode_step(config, params, layers, *step)
        return first[:2], second[:2], cache.keys[1][1, 29:70], cache.values[1][0, :70]

    outcomes = [jax.jit(outcome, static_argnums=1)(params, config) for config in (CONFIG, FUSED)]
    assert len(stand_in) == 1
    for plain, fused in zip(*outcomes, strict=True):
        np.testing.assert_allclose(fused, plain, atol=2e-5)


def test_rows_that_are_attended_to_in_part_keep_their_mask(params, stand_in):
    attended_B = jnp.asarray([70, 20, 64])
    plain, fused = (
        decoder.hidden_states(config, params, TOKENS_BxT, attended_B=attended_B)
        for config in (CONFIG, FUSED)
    )
    assert not stand_in
    np.testing.assert_array_equal(plain, fused)
