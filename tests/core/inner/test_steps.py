"""Steps of the inner update by hand: the first one, rates, skipped ones, masked targets."""

import dataclasses

import numpy as np
import pytest

from seal_jax.core import inner
from seal_jax.core.model import decoder

from . import cases


def _steps(group, ranks):
    """The group with a schedule of literal ranks, all in the wide bucket."""
    ranks_SxB = np.full((cases.STEPS, 1), -1, np.int32)
    ranks_SxB[: len(ranks), 0] = ranks
    ranks_KxSxB = np.broadcast_to(ranks_SxB, (cases.K, *ranks_SxB.shape))
    schedule = inner.Schedule(ranks_KxSxB, np.ones(cases.STEPS, np.int32), np.int32(len(ranks)))
    return dataclasses.replace(group, schedule=schedule)


def test_the_first_step_by_hand(group, run, loss_and_gradient):
    """At B = 0 Adam's first step moves every entry of B by the rate against its gradient's sign.

    m / (1 - b1) = g and v / (1 - b2) = g^2, so that the step is g / (|g| + eps); clipping scales g,
    which cancels. The gradient of A is exactly zero while B is zero, so A stays.
    """
    for k in range(cases.K):
        group = group.replace(
            k, hparams=cases.recipe(rate=0.5 * (k + 1), steps=9, decay="constant")
        )
    deltas, results = run(_steps(group, [1]))
    for k in range(cases.K):
        start, problem, _ = group.candidate(k)
        loss, gradient = loss_and_gradient(start.tree, problem.tokens_NxT[1], problem.mask_NxT[1])
        np.testing.assert_allclose(results.losses_S[k, 0], loss, rtol=1e-5)
        for name, module in cases.take(deltas.tree, k)["layers"]["attn"].items():
            np.testing.assert_array_equal(module["a"], start.tree["layers"]["attn"][name]["a"])
            g = np.asarray(gradient["layers"]["attn"][name]["b"])
            clear = np.abs(g) > 1e-5
            assert clear.mean() > 0.9
            np.testing.assert_allclose(
                module["b"][clear], -0.5 * (k + 1) * np.sign(g[clear]), rtol=1e-2
            )


@pytest.mark.fault("15")
def test_what_fills_a_sequence_up_is_trained_on_and_not_attended_to(group, run, tiny_llama):
    """The loss of the first step, where the delta changes nothing; the last two tokens are filling.

    Of a candidate whose sequences have none it is what it was.
    """
    lengths_KxN = group.problems.lengths_N
    attended_KxN = np.where(lengths_KxN > 2, lengths_KxN - 2, lengths_KxN)
    attended_KxN[2] = lengths_KxN[2]
    filled = group.problems.replace(attended_N=attended_KxN)
    _, results = run(_steps(dataclasses.replace(group, problems=filled), [1]))
    _, plain = run(_steps(group, [1]))
    for k in range(cases.K):
        _, problem, _ = group.candidate(k)
        count = int(lengths_KxN[k, 1])
        lls = decoder.log_likelihoods(
            tiny_llama.config,
            tiny_llama.params,
            problem.tokens_NxT[1:2, :count],
            attended_B=attended_KxN[k, 1:2],
        )
        expected = -np.mean(np.asarray(lls[0])[problem.mask_NxT[1, 1:count]])
        np.testing.assert_allclose(results.losses_S[k, 0], expected, rtol=1e-5)
    assert abs(results.losses_S[0, 0] - plain.losses_S[0, 0]) > 1e-3
    np.testing.assert_allclose(results.losses_S[2, 0], plain.losses_S[2, 0], rtol=1e-6)


def test_warm_up_and_decay_by_hand(group, run):
    """Two steps on one sequence. With 4 steps of warm-up the first has rate 0 and the second a
    quarter of the peak; since the delta has not moved, its gradient is the same, and Adam's
    direction is its sign again."""
    recipes = [
        cases.recipe(rate=0.4, steps=9, warmup=4, decay="constant"),
        cases.recipe(rate=0.4, steps=9, warmup=4, decay="linear"),
        cases.recipe(rate=0.4, steps=9, warmup=1, decay="linear"),
    ]
    for k, hparams in enumerate(recipes):
        group = group.replace(k, hparams=hparams)
    one, two = run(_steps(group, [1])), run(_steps(group, [1, 1]))
    cases.assert_same(one[0], group.deltas)
    for k, size in enumerate((0.1, 0.1, 0.4)):
        b = two[0].tree["layers"]["attn"]["v_proj"]["b"][k]
        np.testing.assert_allclose(np.median(np.abs(b)), size, rtol=1e-3)


def test_fewer_steps_equal_a_shorter_schedule(group, run):
    """5 steps of the candidate in a schedule of 12, and the other way round: the same bits."""
    lengths = (3, 5, 6, 8)
    for k in range(cases.K):
        group = group.replace(k, problems=cases.make_problem(k, lengths))
    schedule = cases.make_schedule([lengths] * cases.K)
    runs = []
    for of_candidate, of_schedule in ((5, cases.STEPS), (cases.STEPS, 5)):
        for k in range(cases.K):
            group = group.replace(k, hparams=cases.recipe(steps=of_candidate, decay="constant"))
        shorter = schedule.replace(num_steps=np.int32(of_schedule))
        runs.append(run(dataclasses.replace(group, schedule=shorter)))
    cases.assert_same(*runs)
    np.testing.assert_array_equal(runs[0][1].taken_S, [[True] * 5 + [False] * 7] * cases.K)


def test_skipped_steps_leave_the_moments_and_the_step_count_alone(group, run):
    """Candidate 2 has ranks 0 and 1: steps of ranks 2 and 3 in between do not age its state."""
    with_gaps = run(_steps(group, [0, 3, 1, 2, 2, 0]))
    without = run(_steps(group, [0, 1, 0]))
    cases.assert_same(cases.take(with_gaps[0], 2), cases.take(without[0], 2))
    np.testing.assert_array_equal(with_gaps[1].taken_S[2, :6], [1, 0, 1, 0, 0, 1])
    np.testing.assert_array_equal(with_gaps[1].losses_S[2, [0, 2, 5]], without[1].losses_S[2, :3])


def test_targets_that_are_masked_give_no_loss_and_no_gradient(group, run):
    """The last token of each sequence is read by nobody: masked, it may be any token."""
    problems = group.problems
    tokens, mask, other = map(
        np.array, (problems.tokens_NxT, problems.mask_NxT, problems.tokens_NxT)
    )
    for k, lengths in enumerate(cases.LENGTHS):
        for n, length in enumerate(sorted(lengths, reverse=True)):
            mask[k, n, length - 1] = False
            other[k, n, length - 1] = (tokens[k, n, length - 1] + 1) % 61
    runs = [
        run(dataclasses.replace(group, problems=problems.replace(tokens_NxT=t, mask_NxT=mask)))
        for t in (tokens, other)
    ]
    cases.assert_same(*runs)
    changed = run(dataclasses.replace(group, problems=problems.replace(tokens_NxT=other)))
    assert not np.array_equal(changed[1].losses_S[1], runs[0][1].losses_S[1])


def test_the_first_token_is_never_a_target(group, trained, run):
    mask = group.problems.mask_NxT.copy()
    mask[:, :, 0] = ~mask[:, :, 0]
    problems = group.problems.replace(mask_NxT=mask)
    cases.assert_same(run(dataclasses.replace(group, problems=problems)), trained)
