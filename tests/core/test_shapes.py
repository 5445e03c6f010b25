"""The core's operations refuse arrays whose shapes do not belong together, when they are traced."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seal_jax import core

K, N, T, S = 2, 3, 8, 4
SPEC = core.DeltaSpec(("q_proj",), rank=2, alpha=4.0)


def _array(*shape, dtype=jnp.int32):
    return jax.ShapeDtypeStruct(shape, dtype)


def _traced(function, static, *arguments, **fields):
    return jax.eval_shape(lambda *given: function(static, *given, **fields), *arguments)


@pytest.fixture(scope="module")
def update(tiny_llama):
    """Traces the inner update of K candidates, with one of the shapes replaced."""

    def update(**other):
        shapes = dict(mask=(K, N, T), lengths=(K, N), rates=(K,), ranks=(K, S, 1), keys=K) | other
        deltas = jax.eval_shape(
            lambda keys: core.init_candidates(SPEC, tiny_llama.params, keys),
            jax.random.split(jax.random.key(0), shapes["keys"]),
        )
        rate, steps = _array(*shapes["rates"], dtype=jnp.float32), _array(K)
        problems = core.InnerProblem(
            _array(K, N, T), _array(*shapes["mask"], dtype=bool), _array(*shapes["lengths"])
        )
        return _traced(
            core.update_candidates,
            (tiny_llama.config, core.InnerSettings(shapes=((K * T, T),))),
            tiny_llama.params,
            deltas,
            problems,
            core.InnerHParams(rate, steps, steps, steps),
            core.Schedule(_array(*shapes["ranks"]), _array(S), _array()),
        )

    return update


def test_what_belongs_together_is_taken(update):
    deltas, results = update()
    assert len(jax.tree.leaves(deltas)[0]) == K and results.losses_S.shape == (K, S)


@pytest.mark.parametrize(
    "other",
    [
        dict(mask=(K, N, T - 1)),
        dict(lengths=(K + 1, N)),
        dict(rates=(1,)),
        dict(ranks=(K, S)),
        dict(ranks=(K + 1, S, 1)),
        dict(keys=K + 1),
    ],
)
def test_an_inner_update_of_other_shapes_is_refused(update, other):
    with pytest.raises(AssertionError, match=r"[Ss]hape|rank"):
        update(**other)


@pytest.mark.parametrize(
    ("prompts", "lengths", "keys"),
    [((2, 5), (3,), 4), ((2, 5), (2, 1), 4), ((2, 5), (2,), 2), ((5,), (5,), 10)],
)
def test_sampling_of_other_shapes_is_refused(tiny_llama, prompts, lengths, keys):
    static = (tiny_llama.config, core.SampleSettings(3))
    with pytest.raises(AssertionError, match=r"[Ss]hape|rank"):
        _traced(
            core.generate,
            static,
            tiny_llama.params,
            _array(*prompts),
            _array(*lengths),
            jax.random.split(jax.random.key(0), keys),
            samples_per_prompt=2,
        )


@pytest.mark.parametrize(("mask", "weights"), [((4, 7), (4,)), ((4, 8), (5,)), ((4, 8), (4, 1, 1))])
def test_an_m_step_of_other_shapes_is_refused(tiny_llama, mask, weights):
    settings = core.MStepSettings()
    params = tiny_llama.params
    state = jax.eval_shape(lambda: core.init_m_step(jax.random.key(0), params, SPEC, settings))
    batch = core.Batch(_array(4, 8), _array(*mask, dtype=bool), _array(*weights, dtype=jnp.float32))
    with pytest.raises(AssertionError, match=r"[Ss]hape|rank"):
        _traced(core.m_step, (tiny_llama.config, settings), params, state, batch, _array())


def test_a_selection_takes_rewards_of_contexts():
    with pytest.raises(AssertionError, match="rank"):
        core.select(np.zeros(3), core.SelectionRule())
