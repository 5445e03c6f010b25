"""Meshes of the eight forced host devices: each trains, scores and updates as one device does.

The tolerances are those of docs/scaling.md. The mesh 8 x 1 is in test_parallel.py.
"""

import re

import flax.traverse_util
import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from seal_jax.core import batching, evaluate, inner, optim, parallel, restem
from seal_jax.core import delta as delta_lib
from seal_jax.core.delta import DeltaSpec
from seal_jax.core.model import per_layer
from seal_jax.core.model.config import ModelConfig

# Over 8 devices the key/value heads do not divide; everything else does.
CONFIG = ModelConfig(
    family="qwen2",
    vocab_size=64,
    hidden_size=20,
    intermediate_size=48,
    num_layers=2,
    num_heads=8,
    num_kv_heads=4,
    head_dim=4,
    attention_bias=True,
    tie_embeddings=True,
)
SPEC = DeltaSpec(("q_proj", "v_proj", "o_proj", "up_proj", "down_proj"), rank=2, alpha=4.0)
# Without clipping the moments show the raw gradient, scale and all.
SETTINGS = restem.MStepSettings(learning_rate=0.01, optimizer=optim.AdamW(max_grad_norm=1e9))
LENGTHS = [(2 + k % 3, 3 + k % 2, 7) for k in range(8)]
MESHES = [(1, 1), (4, 2), (2, 4), (1, 8)]
LAYER_BY_LAYER = [(data, model, False) for data, model in MESHES] + [(2, 1, True), (4, 2, True)]


class _LayerByLayer(parallel.DeviceMesh):
    """Holds the weights as GPUs do."""

    separates_layers = True


def _devices(data, model, separated=False):
    kind = _LayerByLayer if separated else parallel.DeviceMesh
    return kind(tuple(jax.devices()[: data * model]), model)


@pytest.fixture(scope="module")
def params(random_params):
    return jax.tree.map(np.asarray, random_params(CONFIG, 0))


@pytest.fixture(scope="module")
def group(params):
    """Eight candidates of unlike sizes and recipes, and two queries of each."""
    rng = np.random.default_rng(0)
    problems = [
        batching.inner_problem([rng.integers(0, 64, n).tolist() for n in of_k], rows=3, length=8)
        for of_k in LENGTHS
    ]
    keys = jax.random.split(jax.random.key(0), 8)
    deltas = delta_lib.stack([delta_lib.init(key, params, SPEC) for key in keys])
    hparams = inner.InnerHParams(
        np.linspace(0.01, 0.08, 8, dtype=np.float32),
        np.full(8, 6, np.int32),
        np.zeros(8, np.int32),
        np.ones(8, np.int32),
    )
    queries = [
        batching.queries(
            rng.integers(0, 64, (2, 4)).tolist(),
            rng.integers(0, 64, (2, 2)).tolist(),
            rows=2,
            length=4,
            answer_length=2,
        )
        for _ in range(8)
    ]
    return (
        jax.tree.map(np.asarray, deltas),
        batching.stack(problems),
        hparams,
        batching.stack(queries),
    )


def _schedules(shards):
    """The settings of an inner update in so many shards, and the schedule of each."""
    per_shard = 8 // shards
    shapes = batching.step_shapes((8,), rows=per_shard, spread=2)
    schedules = [
        batching.make_schedule(
            LENGTHS[first : first + per_shard],
            epochs=2,
            batch_size=1,
            key=jax.random.key(1),
            shapes=shapes,
            rows=3,
        )[0]
        for first in range(0, 8, per_shard)
    ]
    return inner.InnerSettings(shapes), schedules


def _batches():
    """Two batches of 13 rows of unequal weights, with 3 rows of padding."""
    rng = np.random.default_rng(2)
    rows = [
        restem.SftExample(tuple(rng.integers(0, 64, 6).tolist()), 2, float(rng.uniform(0.2, 3)))
        for _ in range(26)
    ]
    return restem.epoch_batches(rows, batch_size=13, multiple=16, buckets=(8,), order=np.arange(26))


def _state(params):
    state = restem.init(jax.random.key(0), params, SPEC, SETTINGS)
    return jax.tree.map(np.array, state)  # a copy, so that buffers can be donated


@pytest.fixture(scope="module")
def trained_on_one(params, group):
    """Trained deltas, their records, and the scores of their queries, without a mesh."""
    settings, [schedule] = _schedules(1)
    *candidates, queries = group
    trained, results = inner.update_candidates((CONFIG, settings), params, *candidates, schedule)
    scores = evaluate.gold_log_likelihoods_of_candidates(CONFIG, params, trained, queries)
    return trained, results, np.asarray(scores)


@pytest.fixture(scope="module")
def m_step_on_one(params):
    """State and metrics after each of two steps, without a mesh."""
    update, found = jax.jit(restem.update, static_argnums=0), [(_state(params), None)]
    for batch in _batches():
        state, _ = found[-1]
        found.append(update((CONFIG, SETTINGS), params, state, batch, np.int32(2)))
    return jax.device_get(found[1:])


def _leaves(tree):
    return flax.traverse_util.flatten_dict(tree, sep="/")


@pytest.mark.parametrize(("data", "model", "separated"), LAYER_BY_LAYER)
def test_candidates_are_trained_and_scored_as_on_one_device(
    data, model, separated, params, group, trained_on_one
):
    expected, expected_results, expected_scores = trained_on_one
    devices = _devices(data, model, separated)
    settings, schedules = _schedules(devices.shards(8))
    placed = devices.place_params(CONFIG, params)
    assert per_layer.is_separated(placed["layers"]) == separated
    *candidates, queries = devices.shard(group)
    trained, results = parallel.inner_update(
        devices, (CONFIG, settings), placed, *candidates, schedules
    )
    scores = evaluate.gold_log_likelihoods_of_candidates(CONFIG, placed, trained, queries)
    np.testing.assert_array_equal(results.taken_S, expected_results.taken_S)
    np.testing.assert_allclose(results.losses_S, expected_results.losses_S, rtol=1e-4, atol=1e-5)
    start = _leaves(group[0].tree)
    for path, leaf in _leaves(trained.tree).items():
        found, wanted, from_ = (
            np.asarray(x, np.float64) for x in (leaf, _leaves(expected.tree)[path], start[path])
        )
        for k in range(8):
            moved = np.linalg.norm(wanted[k] - from_[k])
            assert moved > 0
            assert np.linalg.norm(found[k] - wanted[k]) < 1e-3 * moved, (path, k)
    assert len(np.unique(expected_scores)) == 16
    np.testing.assert_allclose(scores, expected_scores, rtol=1e-4, atol=1e-4)
    if model > 1:
        first = "data" if data > 1 else None
        column = PartitionSpec(first, None, None, "model")
        attention = trained.tree["layers"]["attn"]
        assert attention["q_proj"]["b"].sharding.spec == column
        assert attention["o_proj"]["a"].sharding.spec == PartitionSpec(first, None, "model")
        divides = 4 % model == 0
        spec = attention["v_proj"]["b"].sharding.spec
        assert spec == (column if divides else PartitionSpec(*[first] * (data > 1)))


@pytest.mark.parametrize(("data", "model", "separated"), LAYER_BY_LAYER)
def test_the_m_step_is_that_of_one_device(
    data, model, separated, params, m_step_on_one, count_compiles
):
    devices = _devices(data, model, separated)
    step = parallel.m_step(devices, (CONFIG, SETTINGS))
    placed, state = devices.place_params(CONFIG, params), devices.place(CONFIG, _state(params))
    where, compiles = devices.shardings(CONFIG, state), []
    for batch, (expected, expected_metrics) in zip(_batches(), m_step_on_one, strict=True):
        assert (batch.weights_B == 0).sum() == 3
        before, arguments = state, (devices.split(batch), np.int32(2))
        count, (state, metrics) = count_compiles(step, placed, state, *arguments)
        compiles.append(count)
        assert all(leaf.is_deleted() for leaf in jax.tree.leaves(before))  # donated
        for leaf, at in zip(jax.tree.leaves(state), jax.tree.leaves(where), strict=True):
            assert leaf.sharding.is_equivalent_to(at, leaf.ndim)
        for name, value in expected_metrics.items():
            np.testing.assert_allclose(metrics[name], value, rtol=1e-4)
        gradients, found = _leaves(state.opt_state[1].mu), _leaves(state.delta.tree)
        for path, leaf in _leaves(expected.opt_state[1].mu).items():
            assert np.linalg.norm(gradients[path] - leaf) <= 1e-4 * np.linalg.norm(leaf), path
        for path, leaf in _leaves(expected.delta.tree).items():
            moved = SETTINGS.learning_rate * leaf.size**0.5
            assert np.linalg.norm(found[path] - leaf) < 1e-3 * moved, path
    assert compiles[0] > 0 == compiles[1]  # what comes out of a step lies where what went in did


def test_layers_of_their_own_lie_as_they_do_in_a_stack(params):
    devices = _devices(4, 2, separated=True)
    stacked = devices.place(CONFIG, params)
    found = devices.place_params(CONFIG, jax.tree.map(jax.numpy.asarray, params))
    for path, leaf in _leaves(found).items():
        whole = _leaves(stacked)[path]
        assert leaf.shape == whole.shape and leaf.dtype == whole.dtype
        if not path.startswith("layers/"):
            continue
        for number, own in enumerate(leaf.arrays):
            np.testing.assert_array_equal(own, whole[number])
            assert tuple(own.sharding.spec) == tuple(whole.sharding.spec)[1:], path


def test_no_split_weight_is_gathered(params, group):
    """Compiled from shapes and shardings alone, as for a machine that is not there."""
    devices = _devices(2, 4)
    where = devices.shardings(CONFIG, params)
    deltas, problems, hparams, _ = group
    settings, schedules = _schedules(devices.shards(8))
    rows = (problems, hparams, jax.tree.map(lambda *leaves: np.stack(leaves), *schedules))
    program = parallel.inner_program(devices, (CONFIG, settings), devices.shards(8)).lower(
        parallel.shapes(params, where),
        parallel.shapes(deltas, devices.candidate_shardings(CONFIG, deltas)),
        *(parallel.shapes(tree, devices.row_shardings(tree)) for tree in rows),
        None,  # nothing was learned before
    )
    gathered = re.findall(r"= \(?\w+\[([\d,]*)\]\S* all-gather\(", program.compile().as_text())
    split = [
        leaf.shape
        for path, leaf in _leaves(params).items()
        if "model" in _leaves(where)[path].spec and not path.endswith("bias")
    ]
    assert len(split) == 8
    for shape in split:
        for size in (shape, shape[1:], shape[::-1]):
            assert ",".join(map(str, size)) not in gathered
