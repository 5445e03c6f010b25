"""What is done to a delta so that earlier ones keep their effect, against numpy."""

import re

import jax
import numpy as np
import pytest

from seal_jax.core import delta as delta_lib
from seal_jax.core import retention
from seal_jax.core.delta import Delta, DeltaSpec

SPEC = DeltaSpec(("q_proj",), rank=2, alpha=6.0)


def make(a, b):
    """A delta of one module with one layer, from A [in, R] and B [R, out]."""
    leaves = {"a": np.float32(a)[None], "b": np.float32(b)[None]}
    return Delta({"layers": {"attn": {"q_proj": leaves}}}, SPEC)


def factors(tree):
    module = tree["layers"]["attn"]["q_proj"]
    return {name: np.asarray(leaf[0], np.float64) for name, leaf in module.items()}


def change(delta):
    """scale * A B."""
    return factors(delta.tree)["a"] @ factors(delta.tree)["b"] * delta.spec.scale


@pytest.fixture
def random_pair():
    rng = np.random.default_rng(3)
    return [make(rng.normal(size=(5, 2)), rng.normal(size=(2, 4))) for _ in range(2)]


def test_slots_add_up(random_pair):
    first, second = random_pair
    total = retention.empty(first, slots=3)
    assert total.spec.rank == 6 and total.spec.scale == SPEC.scale
    np.testing.assert_array_equal(change(total), np.zeros((5, 4)))
    total = retention.put(total, second, 2)
    total = retention.put(total, first, 0)
    np.testing.assert_allclose(change(total), change(first) + change(second), rtol=1e-5)
    replaced = retention.put(total, second, 0)
    np.testing.assert_allclose(change(replaced), 2 * change(second), rtol=1e-5)


def test_slots_equal_merging_one_after_another(tiny_llama, random_delta):
    """On a model: what is put side by side is what is merged into the weights."""
    spec = DeltaSpec(("q_proj", "down_proj"), rank=2, alpha=4.0)
    deltas = [random_delta(tiny_llama.params, spec, seed) for seed in range(2)]
    total = retention.empty(deltas[0], slots=2)
    for slot, delta in enumerate(deltas):
        total = retention.put(total, delta, slot)
    merged = delta_lib.merge(delta_lib.merge(tiny_llama.params, deltas[0]), deltas[1])
    together = delta_lib.merge(tiny_llama.params, total)
    jax.tree.map(
        lambda found, expected: np.testing.assert_allclose(found, expected, atol=1e-5),
        together,
        merged,
    )


def test_input_directions_hold_the_share_asked_for():
    # A's columns are 4 e0 and 3 e2, B's rows unit vectors: squared norms 16 and 9 of 25.
    delta = make([[4, 0], [0, 0], [0, 3]], [[0, 1], [1, 0]])
    first = factors(retention.input_directions(delta, 0.6))["a"]  # 16 of 25 are 0.64
    np.testing.assert_allclose(np.abs(first), [[1, 0], [0, 0], [0, 0]], atol=1e-6)
    both = factors(retention.input_directions(delta, 0.65))["a"]
    np.testing.assert_allclose(np.abs(both), [[1, 0], [0, 0], [0, 1]], atol=1e-6)


def test_no_change_has_no_directions(random_pair):
    empty = retention.empty(random_pair[0], slots=2)
    np.testing.assert_array_equal(factors(retention.input_directions(empty, 1.0))["a"], 0)


def test_what_is_projected_out_is_not_read(random_pair):
    first, second = random_pair
    directions = retention.input_directions(first, 1.0)
    spared = Delta(retention.project_out(second.tree, directions), SPEC)
    inputs = factors(directions)["a"].T  # rows that the first delta reads
    assert np.abs(inputs @ change(second)).max() > 0.5
    np.testing.assert_allclose(inputs @ change(spared), 0, atol=1e-5)
    # Inputs orthogonal to the first delta's are read as before.
    q, _ = np.linalg.qr(factors(first.tree)["a"])
    other = np.eye(5) - q @ q.T
    np.testing.assert_allclose(other @ change(spared), other @ change(second), atol=1e-5)


def test_averaging_takes_a_share_of_the_change(random_pair):
    delta = random_pair[0]
    np.testing.assert_allclose(
        change(retention.scaled(delta, 0.25)), 0.25 * change(delta), rtol=1e-5
    )


def test_truncation_is_the_best_approximation(random_pair):
    delta = random_pair[0]
    u, strengths, v = np.linalg.svd(change(delta), full_matrices=False)
    best = strengths[0] * np.outer(u[:, 0], v[0])
    cut = retention.truncated(delta, 1)
    assert jax.tree.map(np.shape, cut.tree) == jax.tree.map(np.shape, delta.tree)
    np.testing.assert_allclose(change(cut), best, atol=1e-5)
    np.testing.assert_allclose(change(retention.truncated(delta, 2)), change(delta), atol=1e-5)


def test_truncation_where_the_layer_is_narrower_than_the_rank():
    delta = make([[1, 2]], [[3, 4], [5, 6]])  # one input: the change has rank 1
    found = retention.truncated(delta, 2)
    np.testing.assert_allclose(change(found), change(delta), rtol=1e-5)


def test_a_change_is_capped_by_its_kernels_norm(random_pair):
    delta = random_pair[0]
    kernel = np.full((1, 5, 4), 2.0, np.float32)  # of norm 2 sqrt(20)
    params = {"layers": {"attn": {"q_proj": {"kernel": kernel}}}}
    limit = 0.1
    most = limit * 2 * 20**0.5
    assert np.linalg.norm(change(delta)) > 2 * most
    capped = retention.norm_capped(delta, params, limit)
    np.testing.assert_allclose(np.linalg.norm(change(capped)), most, rtol=1e-5)
    np.testing.assert_allclose(
        change(capped) / most, change(delta) / np.linalg.norm(change(delta)), rtol=1e-4
    )
    free = retention.norm_capped(delta, params, 100.0)
    np.testing.assert_allclose(change(free), change(delta), rtol=1e-5)


@pytest.mark.parametrize(
    "function",
    [
        lambda delta: retention.truncated(delta, 1).tree,
        lambda delta: retention.input_directions(delta, 0.9),
    ],
    ids=["truncated", "input_directions"],
)
def test_a_cpu_decomposes_one_matrix_at_a_time(function):
    """Batches that are decomposed side by side wait for each other for ever, with few cores."""
    rng = np.random.default_rng(5)
    shapes = {"a": (3, 4, 6, 2), "b": (3, 4, 2, 5)}  # three candidates of four layers
    leaves = {name: np.float32(rng.normal(size=shape)) for name, shape in shapes.items()}
    deltas_K = Delta({"layers": {"attn": {"q_proj": leaves}}}, SPEC)
    program = jax.jit(jax.vmap(function))
    calls = re.findall(r"@lapack_\w+\(.*", program.lower(deltas_K).as_text())
    assert len(calls) >= 2 and not any(re.search(r"tensor<\d+x\d+x\d+x", call) for call in calls)
    found_K = program(deltas_K)
    for k in range(3):
        alone = function(jax.tree.map(lambda leaf, k=k: leaf[k], deltas_K))
        jax.tree.map(
            lambda found, expected, k=k: np.testing.assert_allclose(found[k], expected, atol=1e-5),
            found_K,
            alone,
        )
