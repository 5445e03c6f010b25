"""What precision each matrix product is asked for, in the text that every compiler gets."""

import re

import jax
import jax.numpy as jnp
import pytest

from seal_jax.core import batching, inner, precision, restem, retention, sampling
from seal_jax.core import delta as delta_lib
from seal_jax.core.delta import DeltaSpec
from seal_jax.core.specs import MStepSettings

RANK = 5  # no other dimension of these programs
_SPEC = DeltaSpec(targets=("proj",), rank=RANK, alpha=10.0)
_PRODUCT = re.compile(r"stablehlo\.dot_general .*?precision = \[(\w+), (\w+)\] : (.*)")


def _products(program, *arguments, static=()):
    """(sizes of operands and result, precisions) of every product of a program, for a GPU."""
    traced = jax.jit(program, static_argnums=static).trace(*arguments)
    text = traced.lower(lowering_platforms=("cuda",)).as_text()
    found = [
        ({int(size) for size in re.findall(r"(\d+)(?=x)", types)}, {left, right})
        for left, right, types in _PRODUCT.findall(text)
    ]
    assert len(found) == text.count("stablehlo.dot_general")
    return found


def _of_deltas(products):
    return [asked for sizes, asked in products if RANK in sizes]


def _of_the_base(products):
    return [asked for sizes, asked in products if RANK not in sizes]


@pytest.fixture(scope="module")
def deltas_K(tiny_models):
    keys_K = jax.random.split(jax.random.key(0), 3)
    return inner.init_candidates(_SPEC, tiny_models["llama"].params, keys_K)


def test_an_inner_update(tiny_models, deltas_K):
    model = tiny_models["llama"]
    shapes = batching.step_shapes((8,), rows=3, spread=1)
    problem = batching.inner_problem([[1, 2, 3]], rows=2, length=8)
    hparams = inner.InnerHParams(*(jnp.asarray(value) for value in (1e-3, 1, 0, 0)))
    stacked = (batching.stack([of] * 3) for of in (problem, hparams))
    schedule = inner.Schedule(
        jnp.zeros((3, 2, 1), jnp.int32), jnp.zeros(2, jnp.int32), jnp.int32(1)
    )
    static = (model.config, inner.InnerSettings(shapes=shapes))
    products = _products(inner.update, static, model.params, deltas_K, *stacked, schedule, static=0)
    # Forward two of each of the 7 projections; backward those by the input and by the factor.
    assert len(_of_deltas(products)) == 7 * 2 * 3
    assert all(asked == {"HIGHEST"} for asked in _of_deltas(products))
    assert len(_of_the_base(products)) > 14
    assert all(asked == {"DEFAULT"} for asked in _of_the_base(products))


def test_an_m_step(tiny_models):
    model = tiny_models["llama"]
    settings = MStepSettings(microbatch=2)
    state = restem.init(jax.random.key(0), model.params, _SPEC, settings)
    ones = jnp.ones((2, 8), jnp.int32)
    batch = restem.Batch(ones, ones > 0, jnp.ones(2))
    static = (model.config, settings)
    products = _products(restem.update, static, model.params, state, batch, 3, static=0)
    assert len(_of_deltas(products)) == 7 * 2 * 3
    assert all(asked == {"HIGHEST"} for asked in _of_deltas(products))
    assert all(asked == {"DEFAULT"} for asked in _of_the_base(products))


def test_decoding_with_deltas(tiny_models, deltas_K):
    model = tiny_models["llama"]
    static = (model.config, sampling.SampleSettings(max_new_tokens=2, temperature=0.0))
    keys_B = jax.random.split(jax.random.key(0), 3)

    def generate(params, deltas_K, prompts, lengths):
        delta = delta_lib.grouped_variables(deltas_K)
        return sampling.generate(static, params, prompts, lengths, keys_B, delta=delta)

    prompts = jnp.ones((3, 4), jnp.int32), jnp.full(3, 4)
    products = _products(generate, model.params, deltas_K, *prompts)
    # The prefill scans over layers; the decode step has each of the two.
    assert len(_of_deltas(products)) == 7 * 2 * (1 + 2)
    assert all(asked == {"HIGHEST"} for asked in _of_deltas(products))
    assert all(asked == {"DEFAULT"} for asked in _of_the_base(products))


@pytest.mark.parametrize(
    "program, count",
    [
        (lambda params, delta: delta_lib.merge(params, delta), 7),
        (lambda params, delta: retention.project_out(delta.tree, delta.tree), 7 * 2),
        (lambda params, delta: retention.norm_capped(delta, params, 0.1), 7 * 2),
    ],
    ids=["merge", "project_out", "norm_capped"],
)
def test_what_is_done_with_a_delta(program, count, tiny_models, deltas_K):
    delta = delta_lib.take(deltas_K, 0)
    asked = [found for _, found in _products(program, tiny_models["llama"].params, delta)]
    assert asked == [{"HIGHEST"}] * count


def test_decompositions_of_a_delta(deltas_K):
    delta = delta_lib.take(deltas_K, 0)
    text = str(jax.make_jaxpr(lambda of: retention.truncated(of, 2))(delta))
    products = text.count("dot_general[")  # JAX 0.11 writes those of equal modules once
    assert products >= 2
    assert text.count("Precision.HIGHEST, Precision.HIGHEST") == products


def test_the_precision_is_the_most_there_is():
    assert precision.EXACT is jax.lax.Precision.HIGHEST
