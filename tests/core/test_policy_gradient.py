"""Policy gradients: each formula by hand, and the M-step by them on one, two and eight devices."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seal_jax.core import delta as delta_lib
from seal_jax.core import parallel, policy_gradient, restem
from seal_jax.core.delta import DeltaSpec
from seal_jax.core.model import decoder
from seal_jax.core.policy_gradient import PolicyGradient

NAN = math.nan
SPEC = DeltaSpec(("q_proj", "v_proj"), rank=2, alpha=4.0)
LENGTH = 8


@pytest.mark.parametrize(
    ("update", "rewards", "expected"),
    [
        # Mean of the others: of 0 it is 1.5, of 1 it is 1, of 2 it is 0.5.
        ("rloo", [[0.0, 1.0, 2.0]], [[-1.5, 0.0, 1.5]]),
        # The one without a reward is no part of the group: 1 - 4 and 4 - 1.
        ("rloo", [[1.0, NAN, 4.0]], [[-3.0, 0.0, 3.0]]),
        # Mean 1, variance 2/3: 1 / (0.8164966 + 0.0001) = 1.2245949.
        ("grpo", [[0.0, 1.0, 2.0]], [[-1.2245949, 0.0, 1.2245949]]),
        # Mean 2, deviations -1 and 1, standard deviation 1.
        ("grpo", [[1.0, NAN, 3.0]], [[-1 / 1.0001, 0.0, 1 / 1.0001]]),
        ("dpo", [[0.5, 3.0, NAN, -1.0, 3.0, -1.0]], [[0, 1, 0, -1, 0, 0]]),
    ],
)
def test_advantages_by_hand(update, rewards, expected):
    found = policy_gradient.advantages(rewards, update)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("update", ["rloo", "grpo", "dpo"])
def test_a_context_whose_rewards_are_equal_or_alone_has_no_advantage(update):
    """The same accuracies, added up in two orders, are equal."""
    less, more = (0.6 + 0.4 + 0.2) / 3, (0.2 + 0.4 + 0.6) / 3
    rewards = [[2.0, 2.0, 2.0], [NAN, 5.0, NAN], [NAN] * 3, [less, more, less]]
    np.testing.assert_array_equal(policy_gradient.advantages(rewards, update), np.zeros((4, 3)))


def test_shuffled_rewards_are_the_contexts_own():
    rewards = np.array([[1.0, NAN, NAN, 3.0, NAN, NAN, 6.0, 7.0], np.arange(8.0)])
    found = policy_gradient.shuffled(rewards, seed=1, names_C=["a", "b"])
    np.testing.assert_array_equal(np.sort(found, axis=1), np.sort(rewards, axis=1))
    np.testing.assert_array_equal(np.isnan(found), np.isnan(rewards))
    assert (found != rewards)[~np.isnan(rewards)].sum() > 6
    again = policy_gradient.shuffled(rewards[1:], seed=1, names_C=["b"])
    np.testing.assert_array_equal(again[0], found[1])  # whatever other contexts there are
    assert (policy_gradient.shuffled(rewards, seed=2, names_C=["a", "b"])[1] != found[1]).any()


def _loss(settings, ratios, targets, advantages):
    """Loss, its gradient by log p, and what is measured, as means; of rows of ratios."""
    starts = np.full(np.shape(ratios), -2.0, np.float32)

    def of(lls):
        total, count, measured = policy_gradient.loss(
            settings, lls, starts, jnp.array(targets, bool), jnp.array(advantages, jnp.float32)
        )
        return total / count, {name: value / over for name, (value, over) in measured.items()}

    (loss, measured), grad = jax.value_and_grad(of, has_aux=True)(starts + np.log(ratios))
    return loss, grad, measured


def test_clipped_ratios_by_hand():
    """Rows of advantage 2 and -1, clipped to 0.8 and 1.3; one token does not count, a row neither.

    Row 1: ratios 1, 1.5 (above 1.3: held at 2 * 1.3, no gradient), 0.5 (not held: it may rise).
    Row 2: 1.5 (not held: it may fall), 0.5 (below 0.8: held at -0.8, no gradient).
    """
    settings = PolicyGradient("rloo", clip_low=0.2, clip_high=0.3)
    loss, grad, measured = _loss(
        settings,
        [[1.0, 1.5, 0.5], [1.5, 0.5, 9.0], [7.0, 7.0, 7.0]],
        [[1, 1, 1], [1, 1, 0], [1, 1, 1]],
        [2.0, -1.0, 0.0],
    )
    np.testing.assert_allclose(loss, -(2 + 2.6 + 1 - 1.5 - 0.8) / 5, rtol=1e-6)
    np.testing.assert_allclose(
        grad, np.array([[-2, 0, -1], [1.5, 0, 0], [0, 0, 0]]) / 5, rtol=1e-6, atol=0
    )
    np.testing.assert_allclose(measured["ratio"], (1 + 1.5 + 0.5 + 1.5 + 0.5) / 5, rtol=1e-6)
    np.testing.assert_allclose(measured["clip_fraction"], 2 / 5, rtol=1e-6)
    kls = [0, 0.5 - math.log(1.5), -0.5 + math.log(2), 0.5 - math.log(1.5), -0.5 + math.log(2)]
    np.testing.assert_allclose(measured["kl"], sum(kls) / 5, rtol=1e-6)


def test_the_divergence_from_the_start_by_hand():
    """r - 1 - log r has the slope r - 1; it counts where the clip holds a token, too."""
    settings = PolicyGradient("grpo", kl=0.5)
    loss, grad, _ = _loss(settings, [[1.0, 2.0]], [[1, 1]], [1.0])
    np.testing.assert_allclose(loss, (-1 - 1.2 + 0.5 * (1 - math.log(2))) / 2, rtol=1e-6)
    np.testing.assert_allclose(grad, [[-0.5, 0.25]], rtol=1e-6)


def test_the_divergence_is_unbiased_for_tokens_of_the_start():
    """Its mean over all tokens, as often as the start draws them, is KL(start || policy)."""
    start, policy = np.array([0.5, 0.3, 0.2]), np.array([0.2, 0.3, 0.5])
    ratios = policy / start
    expected = (start * np.log(start / policy)).sum()
    _, _, measured = _loss(
        PolicyGradient("rloo"),
        [np.repeat(ratios, [5, 3, 2])],
        np.ones((1, 10)),
        [1.0],
    )
    np.testing.assert_allclose(measured["kl"], expected, rtol=1e-5)


def test_pairs_by_hand():
    """beta 0.5. Pair 1: the worse row first; ratios 2 and 4 against 0.5, so a margin of
    0.5 * (log 8 - log 0.5) = 2 log 2, and sigmoid(2 log 2) = 4/5. Pair 2: 1 against 2, a margin of
    -0.5 log 2. Pair 3 is padding.
    """
    loss, grad, measured = _loss(
        PolicyGradient("dpo", beta=0.5),
        [[0.5, 3.0], [2.0, 4.0], [1.0, 1.0], [2.0, 1.0], [5.0, 5.0], [5.0, 5.0]],
        [[1, 0], [1, 1], [1, 1], [1, 1], [1, 1], [1, 1]],
        [-1.0, 1.0, 1.0, -1.0, 0.0, 0.0],
    )
    other = 1 / (1 + math.sqrt(2))  # sigmoid(-0.5 log 2)
    np.testing.assert_allclose(loss, -(math.log(4 / 5) + math.log(other)) / 2, rtol=1e-6)
    first, second = 0.5 * (1 / 5) / 2, 0.5 * (1 - other) / 2
    expected = [[first, 0], [-first] * 2, [-second] * 2, [second] * 2, [0, 0], [0, 0]]
    np.testing.assert_allclose(grad, expected, rtol=1e-5)
    np.testing.assert_allclose(measured["preferred"], 1 / 2, rtol=1e-6)
    assert set(PolicyGradient("dpo").measured) == set(measured)


def _examples(count):
    """Rows of 3 to 8 tokens with prompts of 1 to 6; of every two one advantage is below 0."""
    rng, examples = np.random.default_rng(count), []
    for i, length in enumerate(rng.integers(3, LENGTH + 1, count)):
        tokens = tuple(rng.integers(0, 61, length).tolist())
        prompt = int(rng.integers(1, length - 1))
        weight = float((-1) ** i * rng.uniform(0.1, 5.0))
        known = tuple(rng.normal(-4, 0.2, length - prompt).tolist())
        examples.append(restem.SftExample(tokens, prompt, weight, start_lls=known))
    return examples


def _pairs(count):
    return [
        dataclasses.replace(one, weight=math.copysign(1.0, one.weight)) for one in _examples(count)
    ]


def _heads(count):
    """The same, whose first token was chosen from four."""
    return [
        dataclasses.replace(
            one,
            allowed=((one.tokens[one.prompt_length], 62, 63, -1),),
            scope="head",
        )
        for one in _examples(count)
    ]


CASES = {
    "rloo": (PolicyGradient("rloo", kl=0.1), _examples),
    "heads": (PolicyGradient("grpo", kl=0.1), _heads),
    "dpo": (PolicyGradient("dpo"), _pairs),
}


def _batch(examples, multiple):
    (batch,) = restem.epoch_batches(
        examples,
        batch_size=len(examples),
        multiple=multiple,
        buckets=(LENGTH,),
        order=np.arange(len(examples)),
    )
    return batch


def _static(tiny_llama, gradient, rows=1):
    return tiny_llama.config, restem.MStepSettings(
        learning_rate=0.01, microbatch=rows, gradient=gradient
    )


_gradient = jax.jit(restem.gradient, static_argnums=(0, 4))


def test_epoch_batches_of_advantages_literal():
    examples = [
        restem.SftExample((1, 2, 3), 2, weight=-0.5, start_lls=(-1.5,)),
        restem.SftExample((4, 4), 1, weight=0.0, start_lls=(-9.0,)),  # dropped
        restem.SftExample((4, 5, 6, 7), 1, weight=1.5, start_lls=(-1.0, -2.0, -3.0)),
        restem.SftExample((8, 9), 1, weight=-1.0, start_lls=()),
    ]
    (batch,) = restem.epoch_batches(
        examples, batch_size=4, multiple=4, buckets=(LENGTH,), order=np.arange(3)
    )
    # The mean size over the 5 target tokens is (0.5 + 3 * 1.5 + 1) / 5 = 1.2.
    np.testing.assert_allclose(batch.weights_B, [-0.5 / 1.2, 1.5 / 1.2, -1 / 1.2, 0], rtol=1e-6)
    expected = np.zeros((4, LENGTH))
    expected[0, 2], expected[1, 1:4] = -1.5, [-1, -2, -3]
    np.testing.assert_array_equal(batch.start_lls_BxT, expected)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("devices", [2, 8])
def test_devices_equal_one_large_batch(tiny_llama, random_delta, case, devices):
    """10 rows leave places empty; every shard holds whole pairs."""
    how, make = CASES[case]
    params, delta = tiny_llama.params, random_delta(tiny_llama.params, SPEC, seed=4)
    static = _static(tiny_llama, how, 2)
    mapped = jax.pmap(
        functools.partial(restem.gradient, static),
        axis_name="data",
        in_axes=(None, None, 0, None),
        out_axes=None,
        static_broadcasted_argnums=3,
        devices=jax.devices()[:devices],
    )
    batch = _batch(make(10), 2 * devices)
    shards = jax.tree.map(lambda leaf: leaf.reshape(devices, -1, *leaf.shape[1:]), batch)
    found, grad, weight = mapped(params, delta, shards, "data")
    expected, expected_grad, expected_weight = _gradient(static, params, delta, batch, None)
    assert sorted(found) == sorted(["loss", *how.measured, "log_likelihoods"])
    for name in found:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(weight, expected_weight, rtol=1e-6)
    largest = max(np.abs(leaf).max() for leaf in jax.tree.leaves(expected_grad))
    for a, b in zip(jax.tree.leaves(grad), jax.tree.leaves(expected_grad), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5 * largest)


def test_over_a_model_axis_the_step_is_the_same(tiny_llama):
    how, static = CASES["rloo"][0], _static(tiny_llama, CASES["rloo"][0])
    state = restem.init(jax.random.key(0), tiny_llama.params, SPEC, static[1])
    state = jax.tree.map(np.array, state)
    found = []
    for devices in (
        parallel.DeviceMesh(tuple(jax.devices()[:1])),
        parallel.DeviceMesh(tuple(jax.devices()[:4]), 2),
    ):
        place = functools.partial(devices.place, tiny_llama.config)
        batch = devices.split(_batch(_examples(6), 2))
        after, measured = parallel.m_step(devices, static)(
            place(tiny_llama.params), place(state), batch, np.int32(3)
        )
        found.append(jax.device_get((measured, after.delta.tree)))
    (one, tree), (other, other_tree) = found
    assert sorted(one) == sorted([*static[1].metrics, "log_likelihoods"]) and how.measured
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), one, other)
    for a, b in zip(jax.tree.leaves(tree), jax.tree.leaves(other_tree), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)


def test_at_the_start_it_is_the_plain_policy_gradient(tiny_llama, random_delta):
    """The sum of A * grad log p of all tokens over their number, by the logits of every token."""
    params, delta = tiny_llama.params, random_delta(tiny_llama.params, SPEC, seed=4)
    static = _static(tiny_llama, PolicyGradient("rloo"))
    examples = _examples(6)
    batch = _batch(examples, 1)
    batch = batch.replace(weights_B=batch.weights_B / 2)  # of a light batch
    measured, _, _ = _gradient(static, params, delta, batch, None)
    rows = np.asarray(measured["log_likelihoods"])
    known = np.concatenate([np.zeros((len(rows), 1), np.float32), rows], axis=1)
    measured, grad, _ = _gradient(static, params, delta, batch.replace(start_lls_BxT=known), None)
    assert measured["ratio"] == 1 and measured["kl"] == 0 and measured["clip_fraction"] == 0

    def objective(tree):
        total = 0.0
        variables = delta_lib.variables(delta_lib.Delta(tree, SPEC))
        for i, one in enumerate(examples):
            tokens = jnp.array([one.tokens])
            hidden = decoder.hidden_states(tiny_llama.config, params, tokens, delta=variables)
            logits = decoder.logits(tiny_llama.config, params, hidden, delta=variables)[0]
            lls = jax.nn.log_softmax(logits)[jnp.arange(len(one.tokens) - 1), tokens[0, 1:]]
            total += batch.weights_B[i] * lls[one.prompt_length - 1 :].sum()
        return -total / sum(len(one.tokens) - one.prompt_length for one in examples)

    expected = jax.grad(objective)(delta.tree)
    largest = max(np.abs(leaf).max() for leaf in jax.tree.leaves(expected))
    assert largest > 1e-3
    for a, b in zip(jax.tree.leaves(grad), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4 * largest)
