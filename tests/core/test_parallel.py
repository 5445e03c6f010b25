"""The eight forced host devices: placement, sharded candidates, and the pmapped M-step."""

import functools

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from seal_jax.core import batching, evaluate, inner, parallel, restem
from seal_jax.core import delta as delta_lib
from seal_jax.core.delta import DeltaSpec
from seal_jax.core.sampling import SampleSettings

SPEC = DeltaSpec(("q_proj", "v_proj"), rank=2, alpha=4.0)
SETTINGS = restem.MStepSettings(learning_rate=0.01)
DEVICES = parallel.all_devices()


def test_there_are_eight_devices():
    assert len(DEVICES.devices) == DEVICES.data_shards == len(jax.devices()) == 8


def test_place_puts_a_copy_on_every_device():
    tree = {"a": np.arange(6.0, dtype=np.float32), "b": np.float32(2)}
    placed = DEVICES.replicate(tree)
    for name, leaf in placed.items():
        assert leaf.committed and leaf.sharding.is_fully_replicated
        assert len(leaf.addressable_shards) == 8
        for shard in leaf.addressable_shards:
            np.testing.assert_array_equal(shard.data, tree[name])


def test_shard_spreads_what_divides_and_copies_the_rest():
    tree = {"x": np.arange(32).reshape(16, 2), "odd": np.arange(12), "scalar": np.int32(3)}
    sharded = DEVICES.shard(tree)
    assert sharded["x"].sharding.spec == PartitionSpec(parallel.DATA)
    for i, shard in enumerate(sorted(sharded["x"].addressable_shards, key=lambda s: s.device.id)):
        np.testing.assert_array_equal(shard.data, tree["x"][2 * i : 2 * i + 2])
    for name in ("odd", "scalar"):
        assert sharded[name].sharding.is_fully_replicated
    jax.tree.map(np.testing.assert_array_equal, sharded, tree)


def _batch(count, multiple=8, seed=0):
    rng = np.random.default_rng([count, seed])
    rows = [
        restem.SftExample(tuple(rng.integers(0, 61, 6).tolist()), 2, float(rng.uniform(0.2, 3)))
        for _ in range(count)
    ]
    order = np.arange(count)
    (batch,) = restem.epoch_batches(
        rows, batch_size=count, multiple=multiple, buckets=(8,), order=order
    )
    return batch


def test_split_gives_each_device_its_rows_in_order():
    batch = _batch(13)
    shards = DEVICES.split(batch)
    assert shards.tokens_BxT.shape == (8, 2, 8) and shards.weights_B.shape == (8, 2)
    for device in range(8):
        for row in range(2):
            index = 2 * device + row
            np.testing.assert_array_equal(shards.tokens_BxT[device, row], batch.tokens_BxT[index])
            assert shards.weights_B[device, row] == batch.weights_B[index]


def test_rows_that_do_not_divide_over_the_devices():
    with pytest.raises(ValueError, match="13 rows do not divide over 8 shards: pad with weight 0"):
        DEVICES.split(_batch(13, multiple=1))


@pytest.fixture(scope="module")
def candidates(tiny_llama):
    """Eight candidates: deltas, problems, recipes, and their lengths.

    Those of the first one are short, so that its schedule has no room for the others.
    """
    rng = np.random.default_rng(0)
    lengths = [(2 + k % 3, 3 + k % 2, 7 if k else 4) for k in range(8)]
    problems = [
        batching.inner_problem([rng.integers(0, 61, n).tolist() for n in of_k], rows=3, length=8)
        for of_k in lengths
    ]
    keys = jax.random.split(jax.random.key(0), 8)
    deltas = delta_lib.stack([delta_lib.init(key, tiny_llama.params, SPEC) for key in keys])
    hparams = inner.InnerHParams(
        np.linspace(0.01, 0.08, 8, dtype=np.float32),
        np.full(8, 6, np.int32),
        np.zeros(8, np.int32),
        np.ones(8, np.int32),
    )
    return deltas, batching.stack(problems), hparams, lengths


def _settings_and_schedule(lengths):
    shapes = batching.step_shapes((4, 8), rows=len(lengths), spread=2)
    schedule, _ = batching.make_schedule(
        lengths, epochs=2, batch_size=1, key=jax.random.key(1), shapes=shapes, rows=3
    )
    return inner.InnerSettings(shapes), schedule


@pytest.mark.parametrize("learned_before", [False, True])
def test_candidates_spread_over_devices_are_trained_as_on_one(
    tiny_llama, candidates, random_delta, learned_before
):
    deltas, problems, hparams, lengths = candidates
    settings, schedule = _settings_and_schedule(lengths)
    past = None
    if learned_before:
        earlier = [random_delta(tiny_llama.params, SPEC, seed) for seed in range(8)]
        past = inner.Past(frozen=delta_lib.stack(earlier))
    on_one, one_result = inner.update_candidates(
        (tiny_llama.config, settings), tiny_llama.params, deltas, problems, hparams, schedule, past
    )
    assert DEVICES.shards(8) == 8
    settings, _ = _settings_and_schedule(lengths[:1])
    spread, spread_result = parallel.inner_update(
        DEVICES,
        (tiny_llama.config, settings),
        DEVICES.place(tiny_llama.config, tiny_llama.params),
        *DEVICES.shard((deltas, problems, hparams)),
        [_settings_and_schedule([of_k])[1] for of_k in lengths],
        DEVICES.shard(past),
    )
    for leaf in jax.tree.leaves(spread):
        assert [shard.data.shape[0] for shard in leaf.addressable_shards] == [1] * 8
    np.testing.assert_allclose(spread_result.losses_S, one_result.losses_S, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(spread_result.taken_S, one_result.taken_S)
    for a, b, start in zip(*map(jax.tree.leaves, (spread, on_one, deltas)), strict=True):
        a, b, start = (np.asarray(leaf, np.float64) for leaf in (a, b, start))
        for k in range(8):
            moved = np.linalg.norm(b[k] - start[k])
            assert np.linalg.norm(a[k] - b[k]) < 1e-3 * moved


def test_queries_of_candidates_spread_over_devices_score_as_on_one(tiny_llama, random_delta):
    deltas = delta_lib.stack([random_delta(tiny_llama.params, SPEC, seed) for seed in range(8)])
    rng = np.random.default_rng(1)
    queries = batching.stack(
        [
            batching.queries(
                rng.integers(0, 61, (2, 4)).tolist(),
                rng.integers(0, 61, (2, 2)).tolist(),
                rows=2,
                length=4,
                answer_length=2,
            )
            for _ in range(8)
        ]
    )
    score = functools.partial(evaluate.gold_log_likelihoods_of_candidates, tiny_llama.config)
    on_one = score(tiny_llama.params, deltas, queries)
    spread = score(
        DEVICES.place(tiny_llama.config, tiny_llama.params), *DEVICES.shard((deltas, queries))
    )
    assert len({shard.device for shard in spread.addressable_shards}) == 8
    np.testing.assert_allclose(spread, on_one, rtol=1e-4, atol=1e-5)
    assert len(np.unique(np.asarray(on_one))) == 16


def test_candidates_spread_over_devices_answer_as_on_one(tiny_llama, random_delta):
    deltas = delta_lib.stack([random_delta(tiny_llama.params, SPEC, seed) for seed in range(8)])
    prompts = np.random.default_rng(2).integers(0, 61, (8, 2, 4)).astype(np.int32)
    lengths = np.array([[4, 1 + k % 4] for k in range(8)], np.int32)
    keys = jax.random.split(jax.random.key(0), (8, 2))
    static = (tiny_llama.config, SampleSettings(3, temperature=0.0))
    answer = functools.partial(evaluate.answers_of_candidates, static)
    on_one = answer(tiny_llama.params, deltas, prompts, lengths, keys)
    spread = answer(
        DEVICES.place(tiny_llama.config, tiny_llama.params),
        *DEVICES.shard((deltas, prompts, lengths)),
        DEVICES.replicate(keys),
    )
    np.testing.assert_array_equal(spread.tokens_BxN, on_one.tokens_BxN)
    assert len(np.unique(np.asarray(on_one.tokens_BxN), axis=0)) > 8


def test_three_rounds_of_the_m_step_equal_one_device_and_compile_once(tiny_llama, count_compiles):
    """Each round starts from the merged policy of the one before."""
    static = (tiny_llama.config, SETTINGS)
    step = parallel.m_step(DEVICES, static)
    update = jax.jit(restem.update, static_argnums=0)
    params, alone_params = DEVICES.place(tiny_llama.config, tiny_llama.params), tiny_llama.params
    compiles = []
    for round_index in range(3):
        state = restem.init(jax.random.key(round_index), tiny_llama.params, SPEC, SETTINGS)
        # A copy: a numpy view of the buffers would keep them from being donated.
        alone, state = jax.tree.map(np.array, state), DEVICES.place(tiny_llama.config, state)
        for seed in range(2):
            batch = _batch(13, seed=2 * round_index + seed)
            shards = DEVICES.split(batch)
            before = state
            count, (state, metrics) = count_compiles(step, params, state, shards, np.int32(2))
            compiles.append(count)
            assert all(leaf.is_deleted() for leaf in jax.tree.leaves(before))  # donated
            alone, alone_metrics = update(static, alone_params, alone, batch, np.int32(2))
            for name in ("loss", "grad_norm", "learning_rate"):
                np.testing.assert_allclose(metrics[name], alone_metrics[name], rtol=1e-4)
        assert state.step == 2
        params = DEVICES.place(tiny_llama.config, delta_lib.merge(params, state.delta))
        alone_params = delta_lib.merge(alone_params, alone.delta)
    assert compiles[0] > 0 and compiles[1:] == [0] * 5
    change = jax.tree.map(
        lambda found, expected, start: (
            np.linalg.norm(found - expected) <= 1e-3 * np.linalg.norm(expected - start)
        ),
        *(
            jax.tree.map(np.asarray, tree["layers"]["attn"])
            for tree in (params, alone_params, tiny_llama.params)
        ),
    )
    assert all(jax.tree.leaves(change))
    # A policy that is placed otherwise compiles again: what place() is for, and that this counts.
    fresh = restem.init(jax.random.key(9), tiny_llama.params, SPEC, SETTINGS)
    assert count_compiles(step, tiny_llama.params, fresh, shards, np.int32(2))[0] > 0
