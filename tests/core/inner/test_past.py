"""The inner update of candidates that learned something before."""

import jax
import numpy as np
import pytest

from seal_jax.core import delta as delta_lib
from seal_jax.core import inner, retention
from seal_jax.core.model import decoder

from . import cases


@pytest.fixture(scope="module")
def earlier(tiny_llama, random_delta):
    """Each candidate's earlier deltas, two slots of which one is used."""
    deltas = [random_delta(tiny_llama.params, cases.SPEC, k, size=0.2) for k in range(cases.K)]
    totals = [retention.put(retention.empty(delta, slots=2), delta, 0) for delta in deltas]
    return jax.tree.map(np.asarray, delta_lib.stack(totals))


@pytest.fixture(scope="module")
def run_past(tiny_llama, group):
    def run(past, params=tiny_llama.params, group=group):
        static = (tiny_llama.config, cases.SETTINGS)
        found = inner.update_candidates(static, params, *group.candidates(), group.schedule, past)
        return jax.tree.map(np.asarray, found)

    return run


@pytest.fixture(scope="module")
def anchored():
    """(weight) -> one anchor of 5 tokens a candidate, and a padding row."""

    def make(weight, lengths=(5, 0)):
        tokens = np.random.default_rng(5).integers(0, 61, (cases.K, 2, 6)).astype(np.int32)
        lengths_KxA = np.tile(np.int32(lengths), (cases.K, 1))
        return inner.Anchors(tokens, lengths_KxA, np.full(cases.K, weight, np.float32))

    return make


def test_a_frozen_delta_is_part_of_the_model(tiny_llama, group, earlier, run_past):
    """Training beside it equals training on the weights that it is merged into."""
    deltas, results = run_past(inner.Past(frozen=earlier))
    static = (tiny_llama.config, cases.SETTINGS)
    for k in range(cases.K):
        merged = delta_lib.merge(tiny_llama.params, cases.take(earlier, k))
        alone, expected = cases.update_one(
            static, merged, *group.candidate(k), group.schedule_of(k)
        )
        start, *_ = group.candidate(k)
        assert cases.distance(cases.take(deltas.tree, k), alone.tree, start.tree) < 1e-3
        np.testing.assert_allclose(results.losses_S[k], expected.losses_S, rtol=1e-4, atol=1e-5)


def test_an_empty_past_changes_nothing(group, trained, earlier, run_past):
    empty = jax.tree.map(np.zeros_like, earlier)
    deltas, results = run_past(inner.Past(frozen=empty))
    assert cases.distance(deltas.tree, trained[0].tree, group.deltas.tree) < 1e-4
    np.testing.assert_allclose(results.losses_S, trained[1].losses_S, rtol=1e-5, atol=1e-6)


def test_forbidden_directions_are_never_read(earlier, run_past):
    directions = jax.vmap(lambda total: retention.input_directions(total, 1.0))(earlier)
    directions = jax.tree.map(np.asarray, directions)
    free, _ = run_past(inner.Past(frozen=earlier))
    spared, results = run_past(inner.Past(frozen=earlier, directions=directions))

    def read(deltas):
        """How much of each A lies in the directions."""
        return [
            np.abs(np.swapaxes(basis, -1, -2) @ a).max()
            for basis, a in zip(jax.tree.leaves(directions), _leaves_a(deltas.tree), strict=True)
        ]

    assert min(read(free)) > 0.05
    assert max(read(spared)) < 1e-5
    assert results.taken_S.sum() == 9 + 12 + 4  # it learns all the same
    assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(spared.tree))


def _leaves_a(tree):
    return [
        module["a"]
        for module in (tree["layers"]["attn"]["q_proj"], tree["layers"]["attn"]["v_proj"])
    ]


def _divergences(model, earlier, deltas, anchors):
    """[K] KL(before || after) of the next token over the real anchor tokens, in numpy."""
    found = []
    for k in range(cases.K):
        both = delta_lib.concatenate([cases.take(earlier, k), cases.take(deltas, k)])
        length = anchors.lengths_A[k, 0]
        tokens = anchors.tokens_AxT[k, :1, :length]
        log_p, log_q = (
            np.asarray(jax.nn.log_softmax(model.logits(tokens, delta)), np.float64)[0, :-1]
            for delta in (cases.take(earlier, k), both)
        )
        found.append((np.exp(log_p) * (log_p - log_q)).sum(axis=-1).mean())
    return np.array(found)


def test_anchors_hold_predictions(tiny_llama, earlier, anchored, run_past):
    kls = []
    for weight in (0.0, 30.0):
        anchors = anchored(weight)
        deltas, _ = run_past(inner.Past(frozen=earlier, anchors=anchors))
        kls.append(_divergences(tiny_llama, earlier, deltas, anchors))
    assert (kls[1] < 0.6 * kls[0]).all(), kls


def test_the_penalty_is_the_divergence(tiny_llama, earlier, anchored):
    """Its value against numpy, padding rows and tokens left out."""
    anchors = anchored(1.0)
    moved = jax.tree.map(lambda leaf: leaf * 1.5, earlier)
    after = delta_lib.concatenate([cases.take(earlier, 0), cases.take(moved, 0)])
    states = [
        decoder.hidden_states(
            tiny_llama.config,
            tiny_llama.params,
            anchors.tokens_AxT[0],
            delta=delta_lib.variables(delta),
        )
        for delta in (cases.take(earlier, 0), after)
    ]
    found = inner._divergence(tiny_llama.config, tiny_llama.params, *states, anchors.lengths_A[0])
    expected = _divergences(tiny_llama, earlier, moved, anchors)[0]
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_anchors_without_tokens_change_nothing(group, earlier, anchored, run_past):
    plain, _ = run_past(inner.Past(frozen=earlier))
    empty = anchored(30.0, lengths=(0, 0))
    deltas, results = run_past(inner.Past(frozen=earlier, anchors=empty))
    assert cases.distance(deltas.tree, plain.tree, group.deltas.tree) < 1e-4
    assert results.finite.all()


def test_candidates_do_not_share_their_past(group, earlier, anchored, run_past):
    """Another past of candidate 2 leaves the others as they were."""
    anchors = anchored(1.0)
    before, _ = run_past(inner.Past(frozen=earlier, anchors=anchors))
    changed = jax.tree.map(lambda leaf: np.concatenate([leaf[:2], -leaf[2:]]), earlier)
    weights = np.float32([1.0, 1.0, 5.0])
    past = inner.Past(frozen=changed, anchors=anchors.replace(weight=weights))
    after, _ = run_past(past)
    for k, same in enumerate((True, True, False)):
        moved = cases.distance(
            cases.take(after.tree, k), cases.take(before.tree, k), group.candidate(k)[0].tree
        )
        assert (moved < 1e-5) == same, (k, moved)
