"""The group of candidates that the tests of the inner update share."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seal_jax.core import batching, inner
from seal_jax.core import delta as delta_lib
from seal_jax.core.delta import Delta
from seal_jax.core.model import decoder

from . import cases


@pytest.fixture(scope="module")
def group(tiny_llama):
    """Three candidates of other sizes and recipes, each on its own random sequences."""
    recipes = [
        cases.recipe(0.02, 3 * cases.EPOCHS, 0, "linear"),
        cases.recipe(0.01, 4 * cases.EPOCHS, 3, "cosine"),
        cases.recipe(0.03, 4, 2, "constant"),  # of the 6 steps that its sequences offer
    ]
    problems = [cases.make_problem(k, lengths) for k, lengths in enumerate(cases.LENGTHS)]
    # Candidate 0 is trained on the odd positions of its sequences only.
    odd = problems[0].mask_NxT & (np.arange(cases.LENGTH) % 2 == 1)
    problems[0] = problems[0].replace(mask_NxT=odd)
    keys = jax.random.split(jax.random.key(2), cases.K)
    deltas = delta_lib.stack([delta_lib.init(key, tiny_llama.params, cases.SPEC) for key in keys])
    return cases.Group(
        jax.tree.map(np.asarray, deltas),
        batching.stack(problems),
        batching.stack(recipes),
        cases.make_schedule(cases.LENGTHS),
    )


@pytest.fixture(scope="module")
def run(tiny_llama):
    """Group -> (deltas, results) as numpy arrays, through the one compiled program."""

    def run(group):
        static = (tiny_llama.config, cases.SETTINGS)
        found = inner.update_candidates(
            static, tiny_llama.params, *group.candidates(), group.schedule
        )
        return jax.tree.map(np.asarray, found)

    return run


@pytest.fixture(scope="module")
def trained(group, run):
    return run(group)


@pytest.fixture(scope="module")
def loss_and_gradient(tiny_llama):
    """(tree, tokens [T], mask [T]) -> loss and gradient, through merged weights."""

    @jax.jit
    def function(tree, tokens_T, mask_T):
        def loss(tree):
            merged = delta_lib.merge(tiny_llama.params, Delta(tree, cases.SPEC))
            lls = decoder.log_likelihoods(tiny_llama.config, merged, tokens_T[None])[0]
            return -jnp.where(mask_T[1:], lls, 0.0).sum() / mask_T[1:].sum()

        return jax.value_and_grad(loss)(tree)

    return function
