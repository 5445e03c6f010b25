"""The M-step on one, two and eight devices against one large batch."""

import dataclasses
import functools

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh, PartitionSpec

from seal_jax.core import batching, optim, restem
from seal_jax.core import delta as delta_lib
from seal_jax.core.delta import DeltaSpec
from seal_jax.core.model import decoder

SPEC = DeltaSpec(("q_proj", "v_proj"), rank=2, alpha=4.0)
SETTINGS = restem.MStepSettings(learning_rate=0.01, warmup_steps=2, decay="linear")
LENGTH, LARGE = 8, 56


def test_epoch_batches_literal():
    examples = [
        restem.SftExample(tokens=(1, 2, 3), prompt_length=2),
        restem.SftExample(tokens=(9, 9), prompt_length=1, weight=0.0),  # dropped
        restem.SftExample(tokens=(4, 5, 6, 7), prompt_length=1, weight=2.0),
        restem.SftExample(tokens=(8, 0), prompt_length=1, weight=0.5),
    ]
    first, second = restem.epoch_batches(
        examples, batch_size=2, multiple=4, buckets=(5,), order=np.array([2, 0, 1])
    )
    np.testing.assert_array_equal(
        first.tokens_BxT, [[8, 0, 0, 0, 0], [1, 2, 3, 0, 0], [0] * 5, [0] * 5]
    )
    np.testing.assert_array_equal(
        first.mask_BxT, [[0, 1, 0, 0, 0], [0, 0, 1, 0, 0], [0] * 5, [0] * 5]
    )
    # The mean over the 5 target tokens is (1 + 3 * 2 + 0.5) / 5 = 1.5.
    np.testing.assert_allclose(first.weights_B, [0.5 / 1.5, 1 / 1.5, 0, 0], rtol=1e-6)
    np.testing.assert_array_equal(second.tokens_BxT[0], [4, 5, 6, 7, 0])
    np.testing.assert_array_equal(second.mask_BxT[0], [0, 1, 1, 1, 0])
    np.testing.assert_allclose(second.weights_B, [2 / 1.5, 0, 0, 0], rtol=1e-6)


def test_an_epoch_of_nothing_has_no_batches():
    examples = [restem.SftExample(tokens=(1, 2), prompt_length=1, weight=0.0)] * 3
    arguments = dict(batch_size=2, multiple=2, buckets=(4,))
    assert restem.epoch_batches(examples, order=np.arange(0), **arguments) == []


def _examples(count):
    """Rows of 3 to 8 tokens with prompts of 1 to 6 and weights from 0.1 to 5."""
    rng = np.random.default_rng(count)
    examples = []
    for length in rng.integers(3, LENGTH + 1, count):
        tokens = tuple(rng.integers(0, 61, length).tolist())
        weight = float(np.exp(rng.uniform(np.log(0.1), np.log(5.0))))
        examples.append(restem.SftExample(tokens, int(rng.integers(1, length - 1)), weight))
    return examples


def _batch(examples, multiple):
    order = np.arange(len(examples))
    (batch,) = restem.epoch_batches(
        examples, batch_size=len(examples), multiple=multiple, buckets=(LENGTH,), order=order
    )
    return batch


@pytest.fixture(scope="module")
def state(tiny_llama, random_delta):
    """A state in the middle of training: the delta and both moments are not zero."""
    state = restem.init(jax.random.key(0), tiny_llama.params, SPEC, SETTINGS)
    state = state.replace(delta=random_delta(tiny_llama.params, SPEC, seed=4), step=jnp.int32(3))
    rng = np.random.default_rng(5)
    clip, adam, decay = state.opt_state
    adam = adam._replace(
        count=jnp.int32(3),
        mu=jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape) / 10, x.dtype), adam.mu),
        nu=jax.tree.map(lambda x: jnp.asarray(rng.random(x.shape) / 100, x.dtype), adam.nu),
    )
    return state.replace(opt_state=(clip, adam, decay))


def _both(static, params, state, batch, axis_name=None):
    """Loss and raw gradient, and the update."""
    means, gradient, _ = restem.gradient(static, params, state.delta, batch, axis_name)
    return (
        means["loss"],
        gradient,
        restem.update(static, params, state, batch, jnp.int32(10), axis_name),
    )


_both_jit = jax.jit(_both, static_argnums=0)


@pytest.fixture(scope="module")
def one_device(tiny_llama, state):
    """(batch, rows that go through the model at once) -> (loss, gradient, (state, metrics))."""

    def run(batch, microbatch=1):
        static = (tiny_llama.config, dataclasses.replace(SETTINGS, microbatch=microbatch))
        return jax.tree.map(np.asarray, _both_jit(static, tiny_llama.params, state, batch))

    return run


@pytest.fixture(scope="module")
def large_batch(one_device):
    """Number of rows -> what one batch of all of them gives on one device."""
    return functools.cache(lambda count: one_device(_batch(_examples(count), LARGE)))


def _relative(found, expected):
    """The largest relative Frobenius distance of the leaves."""

    def of_leaf(a, b):
        b = np.asarray(b, np.float64)
        return np.linalg.norm(np.asarray(a) - b) / np.linalg.norm(b)

    assert jax.tree.structure(found) == jax.tree.structure(expected)
    return max(map(of_leaf, jax.tree.leaves(found), jax.tree.leaves(expected)))


def _change(after, before):
    return jax.tree.map(lambda a, b: np.asarray(a) - b, after.delta.tree, before.delta.tree)


def _assert_equals_large_batch(found, expected, state):
    loss, gradient, (after, metrics) = found
    assert _relative(gradient, expected[1]) < 1e-6
    np.testing.assert_allclose(loss, expected[0], rtol=1e-6)
    expected_after, expected_metrics = expected[2]
    assert _relative(_change(after, state), _change(expected_after, state)) < 1e-5
    assert _relative(after.opt_state, expected_after.opt_state) < 1e-5
    assert after.step == expected_after.step == 4
    for name in ("loss", "grad_norm", "learning_rate"):
        np.testing.assert_allclose(metrics[name], expected_metrics[name], rtol=1e-6)


def _sharded(batch, count):
    return jax.tree.map(lambda leaf: leaf.reshape(count, -1, *leaf.shape[1:]), batch)


@pytest.mark.parametrize(("devices", "rows"), [(1, 50), (2, 50), (8, 50), (8, 3)])
def test_devices_equal_one_large_batch(tiny_llama, state, large_batch, devices, rows):
    """Unequal weights; 50 rows leave 6 of 56 places empty on 8 devices, 3 rows leave 5 devices."""
    static = (tiny_llama.config, SETTINGS)
    mapped = jax.pmap(
        functools.partial(_both, static, axis_name="data"),
        axis_name="data",
        in_axes=(None, None, 0),
        out_axes=None,
        devices=jax.devices()[:devices],
    )
    batch = _batch(_examples(rows), devices)
    assert (batch.weights_B == 0).sum() == {50: -50 % devices, 3: 5}[rows]
    found = mapped(tiny_llama.params, state, _sharded(batch, devices))
    _assert_equals_large_batch(found, large_batch(rows), state)


def test_the_mean_of_shard_means_would_be_seen(tiny_llama, state, large_batch):
    """Guards the test above: on these rows a pmean of each device's own gradient is far off."""
    static = (tiny_llama.config, SETTINGS)
    shard = functools.partial(restem.gradient, static, axis_name=None)
    shards = jax.jit(jax.vmap(shard, in_axes=(None, None, 0)))
    for rows in (50, 3):
        padded = _sharded(_batch(_examples(rows), LARGE), 8)
        _, gradients, _ = shards(tiny_llama.params, state.delta, padded)
        means = jax.tree.map(lambda leaf: np.asarray(leaf).mean(axis=0), gradients)
        assert _relative(means, large_batch(rows)[1]) > 0.1


def test_the_same_function_runs_under_shard_map(tiny_llama, state, large_batch):
    mesh = Mesh(np.array(jax.devices()), ("data",), axis_types=(AxisType.Auto,))
    everywhere, spread = PartitionSpec(), PartitionSpec("data")
    mapped = jax.jit(
        jax.shard_map(
            functools.partial(_both, (tiny_llama.config, SETTINGS), axis_name="data"),
            mesh=mesh,
            in_specs=(everywhere, everywhere, spread),
            out_specs=everywhere,
            check_vma=False,
        )
    )
    found = mapped(tiny_llama.params, state, _batch(_examples(50), 8))
    _assert_equals_large_batch(found, large_batch(50), state)


def test_the_loss_is_on_the_completion_only_by_hand(tiny_llama, state, large_batch):
    """Weighted sum of -log p over the tokens after each prompt, over the weighted count."""
    total, count = 0.0, 0.0
    for example in _examples(3):
        tokens = np.zeros((1, LENGTH), np.int32)
        tokens[0, : len(example.tokens)] = example.tokens
        logits = np.asarray(tiny_llama.logits(tokens, state.delta), np.float64)[0]
        log_probs = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
        for t in range(example.prompt_length, len(example.tokens)):  # the end of sequence included
            total -= example.weight * log_probs[t - 1, example.tokens[t]]
            count += example.weight
    loss, _, (_, metrics) = large_batch(3)
    np.testing.assert_allclose(loss, total / count, rtol=1e-5)
    np.testing.assert_allclose(metrics["loss"], total / count, rtol=1e-5)


@pytest.mark.parametrize("rows", [50, 3])
def test_how_many_rows_go_through_at_once_changes_roundings_only(one_device, large_batch, rows):
    """One row at a time against all of them: 1e-6 to 3e-6 are the roundings of other matmuls."""
    loss, gradient, _ = one_device(_batch(_examples(rows), LARGE), microbatch=LARGE)
    np.testing.assert_allclose(loss, large_batch(rows)[0], rtol=1e-6)
    assert _relative(gradient, large_batch(rows)[1]) < 1e-5


def test_what_padding_rows_and_padding_tokens_hold_never_matters(one_device, large_batch):
    batch = _batch(_examples(50), LARGE)
    lengths = np.array([len(example.tokens) for example in _examples(50)] + [0] * 6)
    padding = np.arange(LENGTH) >= lengths[:, None]
    noisy = batch.replace(
        tokens_BxT=np.where(padding, 7, batch.tokens_BxT),
        # The mask of a row that weighs nothing means nothing; nor does that of position 0.
        mask_BxT=batch.mask_BxT | (batch.weights_B == 0)[:, None] | (np.arange(LENGTH) == 0),
    )
    jax.tree.map(np.testing.assert_array_equal, one_device(noisy), large_batch(50))


def test_the_scale_of_the_weights_cancels_and_their_ratio_does_not(one_device, large_batch):
    examples = _examples(50)
    scaled = [dataclasses.replace(one, weight=one.weight * 8) for one in examples]
    loss, gradient, _ = one_device(_batch(scaled, LARGE))
    np.testing.assert_allclose(loss, large_batch(50)[0], rtol=1e-6)
    assert _relative(gradient, large_batch(50)[1]) < 1e-6
    batch = _batch(examples, LARGE)
    equal_B = (batch.weights_B > 0).astype(np.float32)
    _, gradient, _ = one_device(batch.replace(weights_B=equal_B))
    assert _relative(gradient, large_batch(50)[1]) > 0.01


def _steps(tiny_llama, examples, order):
    """The delta after an epoch of batches of one, from nothing, and how long each step was."""
    settings = dataclasses.replace(SETTINGS, warmup_steps=0, decay="constant")
    static, update = (tiny_llama.config, settings), jax.jit(restem.update, static_argnums=0)
    state, lengths = restem.init(jax.random.key(0), tiny_llama.params, SPEC, settings), []
    for batch in restem.epoch_batches(
        examples, batch_size=1, multiple=1, buckets=(LENGTH,), order=np.array(order)
    ):
        before = state
        state, _ = update(static, tiny_llama.params, state, batch, np.int32(4))
        change = jax.tree.leaves(_change(state, before))
        lengths.append(sum((leaf**2).sum() for leaf in change) ** 0.5)
    return state.delta.tree, lengths


@pytest.mark.fault("10")
@pytest.mark.parametrize("order", [(0, 1, 2, 3), (1, 0, 3, 2), (2, 3, 1, 0)])
def test_weights_count_across_batches(tiny_llama, order):
    """One example a batch: what weighs a millionth hardly moves the policy, wherever it comes.

    Of the mean weight, 0.375, these are about 2.7, 2.7e-6, 2.7e-3 and 1.3.
    """
    weights = (1.0, 1e-6, 1e-3, 0.5)
    pairs = zip(_examples(4), weights, strict=True)
    examples = [dataclasses.replace(one, weight=weight) for one, weight in pairs]
    of = dict(zip(order, _steps(tiny_llama, examples, order)[1], strict=True))
    assert of[1] < 1e-5 * of[0] and of[2] < 0.01 * of[0] and of[3] > 0.1 * of[0]


@pytest.mark.fault("10")
def test_a_light_batch_leaves_no_momentum(tiny_llama):
    """The step after it is as if it had not been there, but for the count of steps."""
    light, heavy = (dataclasses.replace(_examples(2)[i], weight=(1e-6, 1.0)[i]) for i in range(2))
    found, _ = _steps(tiny_llama, [light, heavy], [0, 1])
    alone, _ = _steps(tiny_llama, [heavy], [0])
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(alone), strict=True):
        clear = np.abs(b) > 0.5 * np.abs(b).max()
        assert (np.sign(a)[clear] == np.sign(b)[clear]).all()


@pytest.mark.fault("10")
@pytest.mark.parametrize("factor", [1e-4, 0.3, 7.0])
def test_the_scale_of_all_weights_changes_no_step(tiny_llama, factor):
    """And relative weights do, also where every batch holds a single example."""
    examples = _examples(4)
    scaled = [dataclasses.replace(one, weight=one.weight * factor) for one in examples]
    equal = [dataclasses.replace(one, weight=factor) for one in examples]
    expected, _ = _steps(tiny_llama, examples, range(4))
    assert _relative(_steps(tiny_llama, scaled, range(4))[0], expected) < 1e-4
    assert _relative(_steps(tiny_llama, equal, range(4))[0], expected) > 0.01


@pytest.mark.fault("10", control=True)
def test_equal_weights_are_the_plain_mean(tiny_llama):
    """Bit for bit, whatever the weight: sums of 0.1 are rounded, those of 1 are not."""
    ones, tenths = (
        [dataclasses.replace(one, weight=weight) for one in _examples(7)] for weight in (1.0, 0.1)
    )
    jax.tree.map(
        np.testing.assert_array_equal,
        _steps(tiny_llama, ones, range(7)),
        _steps(tiny_llama, tenths, range(7)),
    )


@pytest.mark.fault("17")
def test_each_batch_has_its_own_bucket():
    """49 rows of 500 tokens and one of 8,300, 10 a batch: 4 * 10 * 512 + 10 * 10240 tokens."""
    examples = [restem.SftExample((1,) * 500, 10)] * 49 + [restem.SftExample((1,) * 8300, 10)]
    batches = restem.epoch_batches(
        examples, batch_size=10, multiple=1, buckets=(512, 1024, 10240), order=np.arange(50)
    )
    assert [batch.tokens_BxT.shape for batch in batches] == [(10, 512)] * 4 + [(10, 10240)]
    assert sum(batch.tokens_BxT.size for batch in batches) == 122_880


@pytest.mark.fault("17")
def test_the_shape_of_a_batch_changes_nothing(tiny_llama):
    examples = _examples(5)
    assert max(len(one.tokens) for one in examples) > 6 > min(len(one.tokens) for one in examples)
    static, found = (tiny_llama.config, SETTINGS), []
    for buckets in ((LENGTH,), (5, LENGTH), (2 * LENGTH,)):
        state = restem.init(jax.random.key(0), tiny_llama.params, SPEC, SETTINGS)
        for batch in restem.epoch_batches(
            examples, batch_size=1, multiple=1, buckets=buckets, order=np.arange(5)
        ):
            update = jax.jit(restem.update, static_argnums=0)
            state, _ = update(static, tiny_llama.params, state, batch, np.int32(5))
        found.append(state.delta.tree)
    assert max(_relative(one, found[0]) for one in found) < 1e-4


def test_a_row_beyond_the_last_bucket_is_refused():
    example = restem.SftExample((1,) * 9, 1)
    with pytest.raises(batching.TooLong, match="9 tokens exceeds the largest bucket"):
        restem.epoch_batches([example], batch_size=1, multiple=1, buckets=(4, 8), order=[0])


@pytest.mark.fault("14")
@pytest.mark.parametrize("targets", [(".*",), ("q_proj", "embed")])
def test_weight_decay_draws_dense_weights_to_0(tiny_llama, targets):
    """Where the gradient is 0, a step leaves 1 - rate * decay of the weights, as AdamW's does."""
    spec = DeltaSpec(targets, kind="dense")
    optimizer, params = optim.AdamW(weight_decay=0.5), tiny_llama.params
    delta = delta_lib.init(jax.random.key(0), params, spec)
    state, still = optim.init(optimizer, delta.tree), jax.tree.map(jnp.zeros_like, delta.tree)
    for _ in range(3):
        tree, state = optim.apply(
            optimizer, still, state, delta.tree, 0.1, delta_lib.decayed(params, delta)
        )
        delta = delta.replace(tree=tree)
    before, after = (
        flax.traverse_util.flatten_dict(tree, sep="/")
        for tree in (params, delta_lib.merge(params, delta))
    )
    changed = delta_lib.target_paths(params, spec)
    for path, leaf in after.items():
        factor = 0.95**3 if path in changed else 1.0
        np.testing.assert_allclose(leaf, factor * np.asarray(before[path]), rtol=1e-5, err_msg=path)


@pytest.mark.fault("14")
def test_the_m_step_decays_dense_weights(tiny_llama):
    """Against itself without decay: the difference of one step is rate * decay * weight."""
    params, trees = tiny_llama.params, []
    batch = _batch(_examples(3), 3)
    for decay in (0.0, 0.5):
        optimizer = optim.AdamW(weight_decay=decay)
        settings = restem.MStepSettings(learning_rate=0.1, decay="constant", optimizer=optimizer)
        spec = DeltaSpec((".*",), kind="dense")
        state = restem.init(jax.random.key(0), params, spec, settings)
        update = jax.jit(restem.update, static_argnums=0)
        state, _ = update((tiny_llama.config, settings), params, state, batch, np.int32(3))
        trees.append(state.delta.tree)
    plain, decayed = trees
    jax.tree.map(
        lambda a, b, weight: np.testing.assert_allclose(b - a, -0.05 * weight, atol=1e-5),
        plain,
        decayed,
        params,
    )


@pytest.mark.fault("14", control=True)
def test_weight_decay_draws_a_low_rank_delta_to_nothing(state, tiny_llama):
    """Its factors are what decays, as in PEFT."""
    assert delta_lib.decayed(tiny_llama.params, state.delta) is state.delta.tree


def test_a_batch_of_nothing_has_no_gradient(one_device):
    batch = _batch(_examples(3), LARGE)
    loss, gradient, _ = one_device(batch.replace(weights_B=np.zeros(LARGE, np.float32)))
    assert loss == 0 and all((leaf == 0).all() for leaf in jax.tree.leaves(gradient))


def test_the_update_by_hand(state, large_batch):
    """Clipping, moments, bias correction at count 4, and the rate of step 3 of 10.

    Warm-up of 2 steps, then linear: 1 - (3 - 2) / (10 - 2) = 7/8 of 0.01.
    """
    _, gradient, (after, metrics) = large_batch(3)
    leaves = [np.float64(leaf) for leaf in jax.tree.leaves(gradient)]
    norm = sum((leaf**2).sum() for leaf in leaves) ** 0.5
    np.testing.assert_allclose(metrics["grad_norm"], norm, rtol=1e-5)
    np.testing.assert_allclose(metrics["learning_rate"], 0.01 * 7 / 8, rtol=1e-6)
    assert norm > 1.5  # so that clipping counts
    adam = state.opt_state[1]
    for g, mu, nu, change in zip(
        leaves,
        jax.tree.leaves(adam.mu),
        jax.tree.leaves(adam.nu),
        jax.tree.leaves(_change(after, state)),
        strict=True,
    ):
        g = g / norm
        mean = (0.9 * np.float64(mu) + 0.1 * g) / (1 - 0.9**4)
        spread = (0.999 * np.float64(nu) + 0.001 * g**2) / (1 - 0.999**4)
        expected = -0.01 * 7 / 8 * mean / (np.sqrt(spread) + 1e-8)
        np.testing.assert_allclose(change, expected, rtol=1e-3, atol=1e-6)


def _constrained_examples(count):
    """The same rows, each token chosen from 1 to 5 allowed ones, itself among them."""
    rng, examples = np.random.default_rng(count), []
    for example in _examples(count):
        allowed = []
        for token in example.tokens[example.prompt_length :]:
            others = rng.permutation(np.delete(np.arange(61), token))[: rng.integers(0, 5)]
            allowed.append((*sorted([token, *others.tolist()]), -1, -1, -1, -1)[:5])
        examples.append(dataclasses.replace(example, allowed=tuple(allowed)))
    return examples


def _headed_examples(count):
    """The same, of which only the first 1 to all tokens were constrained."""
    rng = np.random.default_rng(count)
    return [
        dataclasses.replace(
            example,
            allowed=example.allowed[: rng.integers(1, len(example.allowed) + 1)],
            scope="head",
        )
        for example in _constrained_examples(count)
    ]


CONSTRAINED = {"whole": _constrained_examples, "head": _headed_examples}


def _masked_loss(config, params, delta, batch):
    """The plain way: logits of all rows, those that were not allowed -inf, the weighted mean."""
    variables = delta_lib.variables(delta)
    hidden = decoder.hidden_states(config, params, batch.tokens_BxT, delta=variables)
    logits = decoder.logits(config, params, hidden, delta=variables)[:, :-1]
    counted = batch.mask_BxT[:, 1:]
    may = (batch.allowed_BxTxA[:, 1:, :, None] == jnp.arange(61)).any(axis=2)
    may |= ~may.any(axis=-1, keepdims=True)  # free
    log_probs = jax.nn.log_softmax(jnp.where(may, logits, -jnp.inf), axis=-1)
    chosen = jnp.take_along_axis(log_probs, batch.tokens_BxT[:, 1:, None], axis=-1)[..., 0]
    weights = counted * batch.weights_B[:, None]
    return -jnp.sum(jnp.where(counted, chosen, 0.0) * weights) / jnp.sum(weights)


@pytest.fixture(scope="module")
def masked(tiny_llama, state):
    """Scope -> loss and gradient of 10 constrained rows, the plain way."""
    run = jax.jit(jax.value_and_grad(_masked_loss, argnums=2), static_argnums=0)

    def of(scope):
        batch = jax.tree.map(jnp.asarray, _batch(CONSTRAINED[scope](10), 10))
        loss, gradient = run(tiny_llama.config, tiny_llama.params, state.delta, batch)
        return loss, gradient.tree

    return {scope: of(scope) for scope in CONSTRAINED}


@pytest.mark.parametrize("devices", [1, 2, 8])
@pytest.mark.parametrize("scope", CONSTRAINED)
def test_the_likelihood_of_a_constrained_self_edit(tiny_llama, state, masked, scope, devices):
    """Renormalised over what was allowed; 10 rows on 8 devices leave 6 of 16 places empty."""
    mapped = jax.pmap(
        functools.partial(
            restem.gradient, (tiny_llama.config, dataclasses.replace(SETTINGS, microbatch=2))
        ),
        axis_name="data",
        in_axes=(None, None, 0, None),
        out_axes=None,
        static_broadcasted_argnums=3,
        devices=jax.devices()[:devices],
    )
    batch = _batch(CONSTRAINED[scope](10), 2 * devices)
    means, gradient, _ = mapped(tiny_llama.params, state.delta, _sharded(batch, devices), "data")
    np.testing.assert_allclose(means["loss"], masked[scope][0], rtol=1e-5)
    assert _relative(gradient, masked[scope][1]) < 1e-5


def test_heads_and_bodies_together_equal_one_example_at_a_time(masked, one_device):
    """Weighted by its tokens' weights; the heads differ in length."""
    examples = _headed_examples(10)
    assert len({len(example.allowed) for example in examples}) > 3
    assert sum(len(e.allowed) < len(e.tokens) - e.prompt_length for e in examples) > 3
    totals, weights = 0.0, 0.0
    for example in examples:
        weight = example.weight * (len(example.tokens) - example.prompt_length)
        totals, weights = totals + weight * one_device(_batch([example], 1))[0], weights + weight
    np.testing.assert_allclose(totals / weights, masked["head"][0], rtol=1e-5)


def test_a_constraint_changes_the_gradient(masked, large_batch):
    """Guards the tests above: without the renormalisation the gradient is another one."""
    assert _relative(large_batch(10)[1], masked["whole"][1]) > 0.1
    assert _relative(large_batch(10)[1], masked["head"][1]) > 0.1
    assert _relative(masked["head"][1], masked["whole"][1]) > 0.1


def test_what_tokens_were_chosen_from_literal():
    examples = [
        restem.SftExample((1, 2, 3), prompt_length=1, allowed=((2, 9), (3, -1))),
        restem.SftExample((7, 7), prompt_length=1, weight=0.0),  # dropped, and asked for nothing
        restem.SftExample((4, 5), prompt_length=2, allowed=()),  # empty
    ]
    (batch,) = restem.epoch_batches(
        examples, batch_size=2, multiple=3, buckets=(4,), order=np.array([1, 0])
    )
    nothing = [[-1, -1]] * 4
    np.testing.assert_array_equal(
        batch.allowed_BxTxA, [nothing, [[-1, -1], [2, 9], [3, -1], [-1, -1]], nothing]
    )
    (free,) = restem.epoch_batches(
        [restem.SftExample((1, 2), 1)], batch_size=1, multiple=1, buckets=(2,), order=[0]
    )
    assert free.allowed_BxTxA is None


def test_what_heads_were_chosen_from_literal():
    """Heads of two tokens and of one: what follows was chosen from nothing."""
    examples = [
        restem.SftExample((1, 2, 3, 4), prompt_length=1, allowed=((2, 9), (3, -1)), scope="head"),
        restem.SftExample((4, 5, 6), prompt_length=1, allowed=((5, 8),), scope="head"),
    ]
    (batch,) = restem.epoch_batches(
        examples, batch_size=2, multiple=1, buckets=(4,), order=np.array([0, 1])
    )
    nothing = [-1, -1]
    np.testing.assert_array_equal(
        batch.allowed_BxTxA,
        [[nothing, [2, 9], [3, -1], nothing], [nothing, [5, 8], nothing, nothing]],
    )
    np.testing.assert_array_equal(batch.mask_BxT, [[0, 1, 1, 1], [0, 1, 1, 0]])
    assert batch.scope == "head"


@pytest.mark.parametrize(
    ("example", "message"),
    [
        (dict(allowed=((5, 6),), scope="whole"), "must all have been sampled under one constraint"),
        (dict(allowed=(), scope="head"), "must be given for its head"),
        (dict(allowed=((5, 6),) * 2, scope="head"), "must be given for its head"),
    ],
)
def test_heads_of_several_constraints_are_refused(example, message):
    examples = [
        restem.SftExample((1, 2), prompt_length=1, allowed=((2, 3),), scope="head"),
        restem.SftExample((4, 5), prompt_length=1, **example),
    ]
    with pytest.raises(ValueError, match=message):
        restem.epoch_batches(examples, batch_size=2, multiple=1, buckets=(2,), order=np.arange(2))


@pytest.mark.parametrize(
    ("allowed", "message"),
    [
        (None, "must all have been sampled under one constraint"),
        (((5, 6, 7),), "must all have been sampled under one constraint"),
        (((5, 6), (5, 6)), "must be given for each token after its prompt"),
        ((), "must be given for each token after its prompt"),
    ],
)
def test_rows_of_several_constraints_are_refused(allowed, message):
    examples = [
        restem.SftExample((1, 2), prompt_length=1, allowed=((2, 3),)),
        restem.SftExample((4, 5), prompt_length=1, allowed=allowed),
    ]
    with pytest.raises(ValueError, match=message):
        restem.epoch_batches(examples, batch_size=2, multiple=1, buckets=(2,), order=np.arange(2))


def test_rows_that_do_not_divide_by_the_microbatch(tiny_llama, state):
    static = (tiny_llama.config, dataclasses.replace(SETTINGS, microbatch=2))
    with pytest.raises(ValueError, match="3 rows a device do not divide by microbatch=2"):
        restem.gradient(static, tiny_llama.params, state.delta, _batch(_examples(3), 3), None)


def test_a_fresh_state_changes_nothing(tiny_llama):
    fresh = restem.init(jax.random.key(0), tiny_llama.params, SPEC, SETTINGS)
    assert fresh.step == 0 and fresh.delta.spec == SPEC
    for module in fresh.delta.tree["layers"]["attn"].values():
        assert np.any(module["a"]) and not np.any(module["b"])
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(fresh.opt_state))
