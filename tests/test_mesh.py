"""Meshes of the eight forced host devices: each trains, scores and updates as one device does.

The tolerances are those of docs/scaling.md.
"""

import re

import flax.traverse_util
import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from seal_jax import batching, evaluate, inner, optim, parallel, restem
from seal_jax import delta as delta_lib
from seal_jax.delta import DeltaSpec
from seal_jax.model.config import ModelConfig

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
MESHES = [(8, 1), (4, 2), (2, 4), (1, 8)]


def _devices(data, model):
    return parallel.DeviceMesh(tuple(jax.devices()[: data * model]), model)


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
    return jax.tree.map(np.asarray, deltas), batching.stack(problems), hparams, queries


def _train_and_score(devices, params, group):
    """The trained deltas, their records, and the scores of their queries."""
    deltas, problems, hparams, queries = group
    share = 8 // devices.shares(8)
    shapes = batching.step_shapes((8,), rows=share, spread=2)
    schedules = [
        batching.make_schedule(
            LENGTHS[first : first + share],
            epochs=2,
            batch_size=1,
            key=jax.random.key(1),
            shapes=shapes,
            rows=3,
        )[0]
        for first in range(0, 8, share)
    ]
    static = (CONFIG, inner.InnerSettings(shapes))
    placed = devices.place(CONFIG, params)
    rows = devices.shard((deltas, problems, hparams))
    trained, results = parallel.inner_update(devices, static, placed, *rows, schedules)
    scores = evaluate.gold_log_likelihoods_of_candidates(
        CONFIG, placed, trained, devices.shard(batching.stack(queries))
    )
    return trained, results, np.asarray(scores)


def _batches():
    """Two batches of 13 rows of unequal weights, with 3 rows of padding."""
    rng = np.random.default_rng(2)
    rows = [
        restem.Row(tuple(rng.integers(0, 64, 6).tolist()), 2, float(rng.uniform(0.2, 3)))
        for _ in range(26)
    ]
    return restem.epoch_batches(rows, batch_size=13, multiple=16, length=8, order=np.arange(26))


def _m_step(devices, params):
    """After each of two steps: state and metrics on the host, and the state on the devices."""
    step = parallel.m_step(devices, (CONFIG, SETTINGS))
    state = restem.init(jax.random.key(0), params, SPEC, SETTINGS)
    state = devices.place(CONFIG, jax.tree.map(np.array, state))
    placed, found = devices.place(CONFIG, params), []
    for batch in _batches():
        assert (batch.weights_B == 0).sum() == 3
        before = state
        state, metrics = step(placed, state, devices.split(batch), np.int32(2))
        assert all(leaf.is_deleted() for leaf in jax.tree.leaves(before))  # donated
        found.append((*jax.tree.map(np.array, (state, metrics)), state))
    return found


@pytest.fixture(scope="module")
def on_one(params, group):
    """What one device makes of it; test_parallel.py compares a mesh with the plain functions."""
    devices = _devices(1, 1)
    return _train_and_score(devices, params, group), _m_step(devices, params)


def _leaves(tree):
    return flax.traverse_util.flatten_dict(tree, sep="/")


@pytest.mark.parametrize(("data", "model"), MESHES)
def test_candidates_are_trained_and_scored_as_on_one_device(data, model, params, group, on_one):
    (expected, expected_results, expected_scores), _ = on_one
    trained, results, scores = _train_and_score(_devices(data, model), params, group)
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


@pytest.mark.parametrize(("data", "model"), MESHES)
def test_the_m_step_is_that_of_one_device(data, model, params, on_one, count_compiles):
    _, expected = on_one
    devices = _devices(data, model)
    found = _m_step(devices, params)
    for (state, metrics, _), (wanted, wanted_metrics, _) in zip(found, expected, strict=True):
        for name, value in wanted_metrics.items():
            np.testing.assert_allclose(metrics[name], value, rtol=1e-4)
        for path, leaf in _leaves(wanted.opt_state[1].mu).items():
            off = np.linalg.norm(_leaves(state.opt_state[1].mu)[path] - leaf)
            assert off <= 1e-4 * np.linalg.norm(leaf), path
        for path, leaf in _leaves(wanted.delta.tree).items():
            off = np.linalg.norm(_leaves(state.delta.tree)[path] - leaf)
            assert off < 1e-3 * SETTINGS.learning_rate * leaf.size**0.5, path
    state = found[-1][-1]
    where = devices.shardings(CONFIG, state)
    for leaf, expected_at in zip(jax.tree.leaves(state), jax.tree.leaves(where), strict=True):
        assert leaf.sharding.is_equivalent_to(expected_at, leaf.ndim)
    again, _ = count_compiles(_m_step, devices, params)
    assert again == 0  # what comes out of a step is placed as what went in


def test_no_split_weight_is_gathered(params, group):
    """Compiled from shapes and shardings alone, as for a machine that is not there."""
    devices = _devices(2, 4)
    where = devices.shardings(CONFIG, params)
    deltas, *rows = group[:3]
    shapes = batching.step_shapes((8,), rows=4, spread=2)
    schedule = batching.make_schedule(
        LENGTHS[:4], epochs=2, batch_size=1, key=jax.random.key(1), shapes=shapes, rows=3
    )[0]
    schedules = jax.tree.map(lambda leaf: np.stack([leaf, leaf]), schedule)
    rows = [parallel.shapes(tree, devices.row_shardings(tree)) for tree in (*rows, schedules)]
    static = (CONFIG, inner.InnerSettings(shapes))
    program = parallel.inner_program(devices, static, devices.shares(8)).lower(
        parallel.shapes(params, where),
        parallel.shapes(deltas, devices.candidate_shardings(CONFIG, deltas)),
        *rows,
    )
    gathered = re.findall(r"= \(?\w+\[([\d,]*)\]\S* all-gather\(", program.compile().as_text())
    split = [
        leaf.shape
        for path, leaf in _leaves(params).items()
        if "model" in _leaves(where)[path].spec and leaf.ndim > 1
    ]
    assert len(split) == 8
    for shape in split:
        for size in (shape, shape[1:], shape[::-1]):
            assert ",".join(map(str, size)) not in gathered
