"""Learning rates against the formulae of transformers' schedulers, AdamW against numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seal_jax.core import optim

learning_rate = jax.jit(optim.learning_rate)


@pytest.mark.parametrize(
    ("decay", "total", "warmup", "expected"),
    [
        ("constant", 4, 0, [1, 1, 1, 1]),
        ("constant", 4, 2, [0, 1 / 2, 1, 1]),
        ("linear", 4, 0, [1, 3 / 4, 2 / 4, 1 / 4]),
        ("linear", 6, 2, [0, 1 / 2, 1, 3 / 4, 2 / 4, 1 / 4]),
        # (1 + cos(pi * progress)) / 2 at progress 0, 1/3 and 2/3; cos 60 and 120 degrees = +-1/2.
        ("cosine", 3, 0, [1, 3 / 4, 1 / 4]),
        ("cosine", 4, 1, [0, 1, 3 / 4, 1 / 4]),
        ("linear", 2, 5, [0, 1 / 5]),  # shorter than its own warm-up
        ("linear", 1, 0, [1]),
    ],
)
def test_learning_rate_of_every_step(decay, total, warmup, expected):
    index = optim.DECAYS.index(decay)
    found = [
        learning_rate(0.2, step, total=total, warmup=warmup, decay=index) for step in range(total)
    ]
    np.testing.assert_allclose(found, 0.2 * np.array(expected), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(("decay", "end"), [("constant", 0.2), ("linear", 0.0), ("cosine", 0.0)])
def test_after_the_last_step_the_rate_stays_where_it_ended(decay, end):
    for step in (4, 7):
        found = learning_rate(0.2, step, total=4, warmup=1, decay=optim.DECAYS.index(decay))
        np.testing.assert_allclose(found, end, atol=1e-8)


def test_learning_rate_maps_over_candidates():
    # Three candidates at step 2: constant; linear over 4; in warm-up of 4.
    rates = jax.vmap(
        lambda peak, total, warmup, decay: optim.learning_rate(
            peak, 2, total=total, warmup=warmup, decay=decay
        )
    )
    peaks = jnp.array([1.0, 0.1, 0.4])
    found = rates(peaks, jnp.array([4, 4, 8]), jnp.array([0, 0, 4]), jnp.array([0, 1, 2]))
    np.testing.assert_allclose(found, [1.0, 0.05, 0.2], rtol=1e-6)
    arrays = dict(total=jnp.array([4, 4, 8]), warmup=jnp.array([0, 0, 4]), decay=jnp.arange(3))
    np.testing.assert_allclose(optim.learning_rate(peaks, 2, **arrays), found, rtol=1e-6)


def _adamw(leaves, gradients_of_steps, constants, rate):
    """Clipping, moments, bias correction and decoupled decay, in float64."""
    leaves = [np.asarray(leaf, np.float64) for leaf in leaves]
    first = [np.zeros_like(leaf) for leaf in leaves]
    second = [np.zeros_like(leaf) for leaf in leaves]
    for t, gradients in enumerate(gradients_of_steps, start=1):
        norm = np.sqrt(sum((g**2).sum() for g in gradients))
        shrink = min(1.0, constants.max_grad_norm / norm)
        for i, g in enumerate(gradients):
            g = g * shrink
            first[i] = constants.b1 * first[i] + (1 - constants.b1) * g
            second[i] = constants.b2 * second[i] + (1 - constants.b2) * g**2
            mean = first[i] / (1 - constants.b1**t)
            spread = np.sqrt(second[i] / (1 - constants.b2**t)) + constants.eps
            leaves[i] = leaves[i] - rate * (mean / spread + constants.weight_decay * leaves[i])
    return leaves


@pytest.mark.parametrize(
    "constants",
    [
        optim.AdamW(),
        optim.AdamW(b1=0.8, b2=0.95, eps=1e-3, weight_decay=0.1, max_grad_norm=2.5),
    ],
)
def test_five_steps_of_adamw(constants):
    """The gradients' norms go from 0.1 to 10, so that clipping applies to some of them only."""
    rng = np.random.default_rng(0)
    leaves = [rng.normal(size=(3, 2)), rng.normal(size=4)]
    steps = [
        [scale * rng.normal(size=leaf.shape) / 10**0.5 for leaf in leaves]
        for scale in (0.1, 10.0, 1.0, 0.3, 3.0)
    ]
    expected = _adamw(leaves, steps, constants, rate=0.05)
    transform = optim.transform(constants)
    tree = [jnp.asarray(leaf, jnp.float32) for leaf in leaves]
    state = transform.init(tree)

    @jax.jit
    def advance(tree, state, gradients):
        direction, state = transform.update(gradients, state, tree)
        return jax.tree.map(lambda leaf, change: leaf - 0.05 * change, tree, direction), state

    for gradients in steps:
        tree, state = advance(tree, state, [jnp.asarray(g, jnp.float32) for g in gradients])
    for found, wanted in zip(tree, expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=1e-6)


def test_defaults_are_those_of_the_method():
    assert optim.AdamW() == optim.AdamW(
        b1=0.9, b2=0.999, eps=1e-8, weight_decay=0.0, max_grad_norm=1.0
    )
