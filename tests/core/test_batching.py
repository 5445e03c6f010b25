"""Shapes, padding and the order of training, with literal inputs and outputs."""

import jax
import numpy as np
import pytest

from seal_jax.core import batching

KEY = jax.random.key(3)


def _order(schedule, present):
    """The ranks below `present`, in the order in which the schedule visits them."""
    ranks = schedule.ranks_KxSxB.max(axis=0)[: int(schedule.num_steps)].ravel()
    return [int(rank) for rank in ranks if 0 <= rank < present]


@pytest.mark.parametrize(
    ("length", "index"), [(0, 0), (1, 0), (8, 0), (9, 1), (16, 1), (17, 2), (64, 2)]
)
def test_bucket_edges_belong_to_the_smaller_bucket(length, index):
    assert batching.bucket_index(length, (8, 16, 64)) == index


def test_a_length_beyond_the_largest_bucket():
    with pytest.raises(batching.TooLong, match=r"65 tokens exceeds the largest bucket \(64\)"):
        batching.bucket_index(65, (8, 64))


def _padded(*buckets):
    """Shapes with room for any number of sequences of these lengths."""
    return tuple((1000, bucket) for bucket in buckets)


def test_inner_problem_sorts_by_length_and_keeps_the_order_of_equals():
    found = batching.inner_problem([[1, 2, 3], [4, 5], [6, 7, 8, 9], [0, 7]], rows=5, length=4)
    np.testing.assert_array_equal(
        found.tokens_NxT,
        [[6, 7, 8, 9], [1, 2, 3, 0], [4, 5, 0, 0], [0, 7, 0, 0], [0, 0, 0, 0]],
    )
    # The mask goes by length: token 0 of [0, 7] is a token.
    np.testing.assert_array_equal(found.mask_NxT.sum(axis=1), [4, 3, 2, 2, 0])
    np.testing.assert_array_equal(found.lengths_N, [4, 3, 2, 2, 0])
    assert found.mask_NxT[3, 0]


def test_inner_problem_sorts_masks_with_their_sequences():
    found = batching.inner_problem(
        [[1, 2], [3, 4, 5]], [[False, True], [True, False, True]], rows=2, length=3
    )
    np.testing.assert_array_equal(found.tokens_NxT, [[3, 4, 5], [1, 2, 0]])
    np.testing.assert_array_equal(found.mask_NxT, [[True, False, True], [False, True, False]])
    np.testing.assert_array_equal(found.lengths_N, [3, 2])
    whole = batching.inner_problem(
        [[1, 2], [3, 4, 5]], [None, [True, False, True]], rows=2, length=3
    )
    np.testing.assert_array_equal(whole.mask_NxT, [[True, False, True], [True, True, False]])


@pytest.mark.fault("15")
def test_inner_problem_knows_what_sequences_are_filled_up_with():
    """At their ends alone; of a sequence of nothing else the first token is attended to."""
    sequences = [[1, 9, 2, 9, 9], [9, 9], [9, 4, 5]]
    found = batching.inner_problem(sequences, rows=4, length=5, filler=9)
    np.testing.assert_array_equal(found.lengths_N, [5, 3, 2, 0])
    np.testing.assert_array_equal(found.attended_N, [3, 3, 1, 0])
    np.testing.assert_array_equal(found.mask_NxT.sum(axis=1), [5, 3, 2, 0])
    assert batching.inner_problem(sequences, rows=4, length=5).attended_N is None


def test_stack_adds_a_leading_axis():
    problems = [batching.inner_problem([[i, i]] * i, rows=3, length=4) for i in (1, 2)]
    stacked = batching.stack(problems)
    assert stacked.tokens_NxT.shape == (2, 3, 4)
    np.testing.assert_array_equal(stacked.lengths_N, [[2, 0, 0], [2, 2, 0]])
    np.testing.assert_array_equal(stacked.tokens_NxT[1], problems[1].tokens_NxT)


def test_the_order_of_a_candidate_is_its_own_whoever_is_in_the_group():
    mine = [5, 3, 4]
    groups = [[mine], [mine, [9] * 7], [[2] * 5, mine, [30] * 6], [mine, mine]]
    orders = set()
    for group in groups:
        schedule, _ = batching.make_schedule(
            group, epochs=4, batch_size=1, key=KEY, shapes=_padded(8, 32), rows=7
        )
        orders.add(tuple(_order(schedule, 3)))
    assert len(orders) == 1
    # Nor does it depend on how many rows the arrays have.
    wider, _ = batching.make_schedule(
        [mine], epochs=4, batch_size=1, key=KEY, shapes=_padded(8, 32), rows=20
    )
    assert tuple(_order(wider, 3)) in orders


def test_every_candidate_meets_every_rank_once_an_epoch():
    counts = (1, 4, 6)
    schedule, _ = batching.make_schedule(
        [[3] * count for count in counts],
        epochs=5,
        batch_size=1,
        key=KEY,
        shapes=_padded(4),
        rows=8,
    )
    assert schedule.num_steps == 5 * 6
    assert schedule.ranks_KxSxB.shape == (3, 5 * 8, 1)
    assert (schedule.ranks_KxSxB[:, 30:] == -1).all()
    assert (schedule.ranks_KxSxB >= 0).sum(axis=(1, 2)).tolist() == [5 * count for count in counts]
    for count in counts:
        epochs = np.reshape(_order(schedule, count), (5, count))
        np.testing.assert_array_equal(np.sort(epochs, axis=1), [range(count)] * 5)
    assert len({tuple(epoch) for epoch in np.reshape(_order(schedule, 6), (5, 6))}) == 5


def test_fewer_epochs_run_in_the_shapes_of_more():
    """So that recipes with other numbers of epochs compile nothing."""
    arguments = dict(batch_size=1, key=KEY, shapes=_padded(4), rows=4)
    few, few_tokens = batching.make_schedule([[3] * 3], epochs=2, max_epochs=5, **arguments)
    alone, alone_tokens = batching.make_schedule([[3] * 3], epochs=2, **arguments)
    assert few.ranks_KxSxB.shape == (1, 5 * 4, 1) and alone.ranks_KxSxB.shape == (1, 2 * 4, 1)
    assert few.num_steps == alone.num_steps == 6 and few_tokens == alone_tokens
    np.testing.assert_array_equal(few.ranks_KxSxB[:, :6], alone.ranks_KxSxB[:, :6])
    assert (few.ranks_KxSxB[:, 6:] == -1).all()


def test_orders_are_uniform_over_keys():
    """Of 600 epochs each of 4 ranks comes first in about 150, and each of 24 orders in about 25."""
    schedule, _ = batching.make_schedule(
        [[3] * 4], epochs=600, batch_size=1, key=KEY, shapes=_padded(4), rows=4
    )
    orders = np.reshape(_order(schedule, 4), (600, 4))
    firsts = np.bincount(orders[:, 0], minlength=4)
    # Chi-square at 1e-4: 21.1 for 3 degrees of freedom, 60.0 for 23.
    assert ((firsts - 150) ** 2 / 150).sum() < 21.1
    codes = np.unique(orders @ [64, 16, 4, 1], return_counts=True)[1]
    assert len(codes) == 24 and ((codes - 25) ** 2 / 25).sum() < 60.0


def test_another_key_gives_another_order():
    orders = set()
    for seed in range(40):
        schedule, _ = batching.make_schedule(
            [[3] * 4], epochs=1, batch_size=1, key=jax.random.key(seed), shapes=_padded(4), rows=4
        )
        orders.add(tuple(_order(schedule, 4)))
    assert len(orders) > 12  # of 24 possible ones; about 20 are expected


def test_step_shapes():
    """K * B = 6 sequences of 8 tokens are 48; none is longer than 1.5 * 8, nor than the last."""
    assert batching.step_shapes((8, 10, 12), rows=6, spread=1.5) == ((48, 12), (60, 12), (72, 12))
    assert batching.step_shapes((3, 8), rows=2, spread=1.5) == ((6, 5), (16, 8))
    assert batching.step_shapes((3, 8), rows=2, spread=1) == ((6, 3), (16, 8))


@pytest.mark.parametrize(
    ("total", "longest", "index"),
    [(0, 0, 0), (8, 4, 0), (9, 4, 1), (8, 5, 1), (16, 8, 1), (5, 9, 2), (17, 1, 2), (64, 32, 2)],
)
def test_a_shape_holds_all_tokens_and_the_longest_sequence(total, longest, index):
    assert batching.shape_index(total, longest, ((8, 4), (16, 8), (64, 32))) == index


@pytest.mark.parametrize(("total", "longest"), [(65, 1), (33, 33)])
def test_a_step_that_no_shape_holds(total, longest):
    with pytest.raises(batching.TooLong, match=rf"{total} tokens.* {longest}, .*\(64, 32\)"):
        batching.shape_index(total, longest, ((8, 4), (64, 32)))


def test_a_step_runs_at_the_smallest_shape_that_holds_its_rank():
    # Longest first: [9, 7, 2] and [4, 4]. Ranks 0, 1 and 2 have 13, 11 and 2 tokens.
    shapes = ((4, 4), (12, 6), (12, 8), (16, 16))
    schedule, tokens = batching.make_schedule(
        [[9, 2, 7], [4, 4]], epochs=2, batch_size=1, key=KEY, shapes=shapes, rows=4
    )
    assert schedule.num_steps == 6
    expected = {0: 3, 1: 2, 2: 0}
    assert schedule.shapes_S[:6].tolist() == [expected[r] for r in schedule.ranks_KxSxB[0, :6, 0]]
    # Two epochs of 18 + 8 real tokens, and of 16 + 12 + 4 computed ones.
    assert tokens == batching.TokenCounts(real=2 * 26, computed=2 * 32)


def test_batches_of_several_sequences():
    schedule, tokens = batching.make_schedule(
        [[1, 2, 3, 4, 5], [6] * 5], epochs=3, batch_size=2, key=KEY, shapes=((32, 8),), rows=6
    )
    assert schedule.ranks_KxSxB.shape == (2, 3 * 3, 2) and schedule.num_steps == 3 * 3
    for epoch in schedule.ranks_KxSxB.reshape(6, 6):
        assert sorted(epoch) == [-1, 0, 1, 2, 3, 4]
        assert epoch[-1] == -1  # the last batch is the short one
    # 9 steps of 32 tokens.
    assert tokens == batching.TokenCounts(real=3 * (15 + 30), computed=9 * 32)


def test_batches_of_several_sequences_are_a_candidates_own():
    """Candidates of 4, 3 and no sequences with 1, 3 and 2 epochs: steps of 2, 2 an epoch."""
    lengths, epochs = ([4, 4, 4, 4], [5, 5, 5], []), (1, 3, 2)
    arguments = dict(batch_size=2, key=KEY, shapes=((8, 8), (16, 8), (24, 8)), rows=4)
    schedule, tokens = batching.make_schedule(lengths, epochs=epochs, **arguments)
    assert schedule.num_steps == 6 and schedule.ranks_KxSxB.shape == (3, 3 * 2, 2)
    assert (schedule.ranks_KxSxB[0, 2:] == -1).all() and (schedule.ranks_KxSxB[2] == -1).all()
    for k, candidate in enumerate(lengths[:2]):
        alone, _ = batching.make_schedule([candidate], epochs=epochs[k], max_epochs=3, **arguments)
        np.testing.assert_array_equal(schedule.ranks_KxSxB[k], alone.ranks_KxSxB[0])
        for epoch in schedule.ranks_KxSxB[k].reshape(3, 4)[: epochs[k]]:
            assert sorted(epoch[epoch >= 0]) == list(range(len(candidate)))
    # Steps of 18, 13, 10, 5, 10 and 5 tokens.
    assert schedule.shapes_S.tolist() == [2, 1, 1, 0, 1, 0]
    assert tokens == batching.TokenCounts(real=16 + 45, computed=24 + 16 + 16 + 8 + 16 + 8)


def test_batches_of_several_sequences_come_in_the_order_of_one_a_step():
    """The same draws, whatever the batch size: other orders in other epochs."""
    arguments = dict(epochs=6, key=KEY, shapes=_padded(8), rows=5)
    single, _ = batching.make_schedule([[3] * 5], batch_size=1, **arguments)
    pairs, _ = batching.make_schedule([[3] * 5], batch_size=2, **arguments)
    orders = np.reshape(_order(single, 5), (6, 5))
    np.testing.assert_array_equal(np.reshape(_order(pairs, 5), (6, 5)), orders)
    assert len({tuple(order) for order in orders.tolist()}) > 3


def test_epochs_of_each_candidate_with_one_sequence_a_step():
    schedule, _ = batching.make_schedule(
        [[4, 4, 4], [5, 5]], epochs=(1, 2), batch_size=1, key=KEY, shapes=_padded(8), rows=3
    )
    first, second = schedule.ranks_KxSxB[..., 0].tolist()
    assert schedule.num_steps == 5 and first[3:] == [-1, -1, -1]
    shared = [(a, b) for a, b in zip(first, second, strict=True) if a >= 0 and b >= 0]
    assert len(shared) == 2 and all(a == b for a, b in shared)
    assert sorted(second) == [-1, -1, 0, 0, 1, 1]


def test_a_limit_of_steps():
    arguments = dict(epochs=2, batch_size=2, key=KEY, shapes=_padded(8), rows=6)
    schedule, _ = batching.make_schedule([[4] * 3], max_steps=4, **arguments)
    assert schedule.shapes_S.shape == (4,) and schedule.num_steps == 4
    with pytest.raises(ValueError, match="takes 4 steps, more than the 3 there are"):
        batching.make_schedule([[4] * 3], max_steps=3, **arguments)


@pytest.mark.parametrize(
    ("count", "epochs", "batch_size", "steps"), [(5, 3, 1, 15), (5, 3, 2, 9), (0, 3, 2, 0)]
)
def test_steps_of(count, epochs, batch_size, steps):
    assert batching.steps_of(count, epochs=epochs, batch_size=batch_size) == steps


@pytest.mark.parametrize(("size", "groups"), [(2, [[2, 3], [0, 4], [1]]), (8, [[2, 3, 0, 4, 1]])])
def test_plan(size, groups):
    """By the first cost, then the second, then the index."""
    costs = [(1, 9), (3, 3), (1, 4), (1, 4), (2, 10)]
    assert batching.groups_of_like_cost(costs, size=size) == groups
    assert batching.groups_of_like_cost([], size=size) == []


def test_right_align():
    tokens, lengths = batching.right_align(
        [[1, 2, 3], [4], []], rows=4, buckets=(2, 4, 8), what="sampling.buckets"
    )
    np.testing.assert_array_equal(tokens, [[0, 1, 2, 3], [0, 0, 0, 4], [0, 0, 0, 0], [0, 0, 0, 0]])
    np.testing.assert_array_equal(lengths, [3, 1, 0, 0])


def test_right_align_names_the_setting_to_raise():
    with pytest.raises(batching.TooLong, match=r"9 tokens .* \(8\)\. Raise sampling\.buckets"):
        batching.right_align([[1] * 9], rows=1, buckets=(4, 8), what="sampling.buckets")


def test_queries():
    found = batching.queries(
        [[1, 2, 3], [4]], [[5, 6], [7, 8, 9]], rows=3, length=3, answer_length=2
    )
    np.testing.assert_array_equal(
        found.tokens_QxT, [[1, 2, 3, 5, 6], [4, 7, 8, 0, 0], [0, 0, 0, 0, 0]]
    )
    np.testing.assert_array_equal(found.answers_QxA, [[5, 6], [7, 8], [0, 0]])
    np.testing.assert_array_equal(found.prompt_lengths_Q, [3, 1, 0])
    np.testing.assert_array_equal(found.answer_lengths_Q, [2, 2, 0])


def test_half_as_many_still_divide_over_the_devices():
    smaller = batching.smaller_size
    assert [smaller(16, 8), smaller(24, 8), smaller(8, 8)] == [8, 8, None]
    assert [smaller(6, 4), smaller(3, 4), smaller(1, 4)] == [3, 1, None]
