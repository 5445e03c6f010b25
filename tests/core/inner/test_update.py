"""The inner update against a reference loop in numpy, and what its candidates may not share."""

import dataclasses

import jax
import numpy as np
import pytest

from seal_jax.core import batching, inner

from . import cases


def test_each_candidate_equals_a_reference_loop(group, trained, loss_and_gradient):
    """Rates, steps, warm-ups, decays, masks, order, clipping and losses, all at once."""
    deltas, results = trained
    for k in range(cases.K):
        start, problem, hparams = group.candidate(k)
        tree, losses = cases.reference(loss_and_gradient, start, problem, hparams, group.schedule)
        assert cases.distance(cases.take(deltas.tree, k), tree, start.tree) < 1e-3
        expected_taken = [loss is not None for loss in losses]
        np.testing.assert_array_equal(results.taken_S[k], expected_taken)
        np.testing.assert_allclose(
            results.losses_S[k], [loss or 0.0 for loss in losses], rtol=1e-4, atol=1e-6
        )
        assert results.finite[k]
    np.testing.assert_array_equal(results.taken_S.sum(axis=1), [9, 12, 4])


def test_training_lowers_the_loss_and_moves_the_logits(group, trained, tiny_llama):
    deltas, results = trained
    losses = results.losses_S[1].reshape(cases.EPOCHS, cases.ROWS).mean(axis=1)
    assert losses[0] > losses[1] > losses[2]
    tokens = group.problems.tokens_NxT[1]
    moved = tiny_llama.logits(tokens, cases.take(deltas, 1)) - tiny_llama.logits(tokens)
    assert np.abs(moved).max() > 0.1


def test_mapped_candidates_equal_a_loop_over_them(group, trained, tiny_llama):
    static = (tiny_llama.config, cases.SETTINGS)
    for k in range(cases.K):
        delta, result = cases.update_one(
            static, tiny_llama.params, *group.candidate(k), group.schedule_of(k)
        )
        start, *_ = group.candidate(k)
        assert cases.distance(cases.take(trained[0].tree, k), delta.tree, start.tree) < 1e-4
        np.testing.assert_allclose(trained[1].losses_S[k], result.losses_S, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(trained[1].taken_S[k], result.taken_S)
        assert trained[1].finite[k] == result.finite


def test_packed_equals_padded(group, trained, tiny_llama):
    """Steps at shapes with room for every sequence at the length of the longest: nothing packed."""
    runs = []
    for shapes in (
        batching.step_shapes((4, 8), rows=cases.K, spread=1),
        ((6, 8), (10, 8), (15, 8), (21, 8)),
    ):
        schedule, tokens = batching.make_schedule(
            cases.LENGTHS,
            epochs=cases.EPOCHS,
            batch_size=1,
            key=cases.ORDER_KEY,
            shapes=shapes,
            rows=cases.ROWS,
        )
        static = (tiny_llama.config, inner.InnerSettings(shapes))
        found = inner.update_candidates(static, tiny_llama.params, *group.candidates(), schedule)
        runs.append((tokens, *found))
    (tokens, deltas, results), (packed_tokens, packed, packed_results) = runs
    # Longest first the ranks have 21, 13, 6 and 2 tokens, padded to 3 times 8, 8, 4 and 4.
    assert packed_tokens == batching.TokenCounts(
        real=42 * cases.EPOCHS, computed=(21 + 15 + 6 + 6) * cases.EPOCHS
    )
    assert tokens == batching.TokenCounts(real=42 * cases.EPOCHS, computed=72 * cases.EPOCHS)
    for k in range(cases.K):
        start, *_ = group.candidate(k)
        assert (
            cases.distance(cases.take(packed.tree, k), cases.take(deltas.tree, k), start.tree)
            < 1e-4
        )
    np.testing.assert_allclose(packed_results.losses_S, results.losses_S, rtol=1e-5, atol=1e-6)


GARBAGE = {
    "tokens": lambda d, p, h: dict(problems=p.replace(tokens_NxT=60 - p.tokens_NxT)),
    "mask": lambda d, p, h: dict(problems=p.replace(mask_NxT=~p.mask_NxT)),
    "sequences": lambda d, p, h: dict(problems=p.replace(lengths_N=0 * p.lengths_N)),
    "steps": lambda d, p, h: dict(hparams=h.replace(num_steps=np.int32(1))),
    "delta": lambda d, p, h: dict(deltas=jax.tree.map(lambda leaf: leaf + 0.5, d)),
    "huge rate": lambda d, p, h: dict(hparams=cases.recipe(rate=1e30)),
    "nan rate": lambda d, p, h: dict(hparams=cases.recipe(rate=np.nan)),
    "infinite rate": lambda d, p, h: dict(hparams=cases.recipe(rate=np.inf)),
    "nan delta": lambda d, p, h: dict(deltas=jax.tree.map(lambda leaf: leaf * np.nan, d)),
}
NOT_FINITE = ("nan rate", "infinite rate", "nan delta")


@pytest.mark.parametrize("name", GARBAGE)
def test_nothing_that_a_candidate_brings_reaches_its_neighbours(group, trained, run, name):
    """Bit for bit: candidates 0 and 2 are what they were, whatever becomes of candidate 1."""
    found = run(group.replace(1, **GARBAGE[name](*group.candidate(1))))
    for k in (0, 2):
        cases.assert_same(cases.take(found, k), cases.take(trained, k))
    changed = jax.tree.leaves(cases.take(found[0], 1)), jax.tree.leaves(cases.take(trained[0], 1))
    assert any(not np.array_equal(a, b) for a, b in zip(*changed, strict=True))
    np.testing.assert_array_equal(found[1].finite, [True, name not in NOT_FINITE, True])


def test_a_candidate_that_is_not_finite_stops_there(group, run):
    """The first step breaks the delta, the second sees it in its loss and is the last."""
    _, results = run(group.replace(1, hparams=cases.recipe(rate=np.inf)))
    assert results.taken_S[1].sum() == 2
    assert np.isfinite(results.losses_S[1, 0]) and not np.isfinite(results.losses_S[1, 1])
    assert (results.losses_S[1, 2:] == 0).all()


def test_a_delta_that_only_the_last_step_breaks_is_not_finite(group, run):
    """One step: the loss before it is finite, what it leaves behind is not."""
    deltas, results = run(group.replace(2, hparams=cases.recipe(rate=np.nan, steps=1)))
    assert np.isfinite(results.losses_S[2]).all() and results.taken_S[2].sum() == 1
    assert not np.isfinite(deltas.tree["layers"]["attn"]["q_proj"]["b"][2]).all()
    np.testing.assert_array_equal(results.finite, [True, True, False])


def test_what_padding_holds_never_matters(group, trained, run):
    """Other tokens behind every sequence and in every missing row: the same bits."""
    tokens = group.problems.tokens_NxT
    lengths = np.array(
        [
            sorted(lengths, reverse=True) + [0] * (cases.ROWS - len(lengths))
            for lengths in cases.LENGTHS
        ]
    )
    padding = np.arange(cases.LENGTH) >= lengths[..., None]
    assert padding.sum() > 40
    noise = np.random.default_rng(0).integers(1, 61, tokens.shape).astype(np.int32)
    problems = group.problems.replace(tokens_NxT=np.where(padding, noise, tokens))
    cases.assert_same(run(dataclasses.replace(group, problems=problems)), trained)


def test_missing_rows_are_not_trained_on_whatever_their_mask_says(group, trained, run):
    missing = np.arange(cases.ROWS) >= (group.problems.lengths_N > 0).sum(axis=1)[:, None]
    problems = group.problems.replace(mask_NxT=group.problems.mask_NxT | missing[..., None])
    cases.assert_same(run(dataclasses.replace(group, problems=problems)), trained)


def test_the_group_of_a_candidate_matters_to_the_last_bits_only(group, trained, run, tiny_llama):
    """Candidate 2 with other neighbours, and alone: other buckets, the same steps in order."""
    lengths = ((2, 2), (3, 3, 2), cases.LENGTHS[2])
    others = group.replace(0, problems=cases.make_problem(8, lengths[0]))
    others = others.replace(1, problems=cases.make_problem(9, lengths[1]))
    others = dataclasses.replace(others, schedule=cases.make_schedule(lengths))
    alone, static = cases.make_schedule(cases.LENGTHS[2:]), (tiny_llama.config, cases.SETTINGS)
    runs = [
        (cases.take(trained, 2), group.schedule),
        (cases.take(run(others), 2), others.schedule),
        (cases.update_one(static, tiny_llama.params, *group.candidate(2), alone), alone),
    ]
    assert not np.array_equal(group.schedule.shapes_S, others.schedule.shapes_S)
    visited = [
        schedule.ranks_KxSxB.max(axis=0)[np.asarray(result.taken_S), 0].tolist()
        for (_, result), schedule in runs
    ]
    assert visited[0] == visited[1] == visited[2] and len(visited[0]) == 4
    (first, first_result), _ = runs[0]
    start, *_ = group.candidate(2)
    for (delta, result), _ in runs[1:]:
        assert cases.distance(delta.tree, first.tree, start.tree) < 1e-4
        np.testing.assert_allclose(
            result.losses_S[result.taken_S], first_result.losses_S[first_result.taken_S], rtol=1e-5
        )
