"""Components of variance: found again from draws of the model they are of; what they promise."""

import numpy as np
import pytest
from scipy import stats

from seal_jax.stats import intervals
from seal_jax.stats.components import components, over_seeds

CONTEXT, EDIT, QUESTION, REST = 0.5, 2.0, 1.0, 3.0  # variances


def _drawn(rng, contexts, edits, questions):
    def normal(variance, *shape):
        return rng.normal(0, variance**0.5, shape)

    return [
        normal(CONTEXT, 1, 1)
        + normal(EDIT, edits, 1)
        + normal(QUESTION, 1, count)
        + normal(REST, edits, count)
        for count in rng.choice(questions, contexts)
    ]


def test_the_components_are_found_again():
    found = components(_drawn(np.random.default_rng(0), 4000, 3, [4, 6]))
    assert found.edit == pytest.approx(EDIT, rel=0.1)
    assert found.question == pytest.approx(QUESTION, rel=0.1)
    assert found.rest == pytest.approx(REST, rel=0.1)
    assert found.context == pytest.approx(CONTEXT, rel=0.3)
    assert sum(found.shares().values()) == pytest.approx(1)
    assert found.of_mean(6)["edits"] == pytest.approx(found.edit / 6)


def test_for_the_design_there_was_it_agrees_with_the_spread_of_contexts():
    cells = _drawn(np.random.default_rng(1), 500, 2, [5])
    values = [of.mean(axis=0).tolist() for of in cells]
    spread = intervals.detectable(values, [[0.0] * 5] * 500)
    assert components(cells).detectable(500, 2) == pytest.approx(spread, rel=0.02)
    more = components(cells).detectable(500, 8)
    assert more < components(cells).detectable(500, 2)
    assert components(cells).detectable(1, 2) is None


@pytest.mark.parametrize(
    "cells",
    [
        [],
        [np.ones((2, 2))],
        [np.ones((1, 3)), np.zeros((1, 3))],  # one self-edit a context
        [np.ones((3, 1)), np.zeros((3, 1))],  # one question a context
    ],
)
def test_too_little_for_components(cells):
    assert components(cells) is None


def test_cells_that_do_not_vary_have_no_shares():
    found = components([np.ones((2, 2)), np.ones((2, 2))])
    assert found.shares() == {} and found.detectable(2, 2) == 0


SEED, BETWEEN, WITHIN = 1.5, 0.8, 2.0  # variances of seeds, and of a seed on a context


def _of_seeds(rng, seeds, contexts, questions, edit=0.0):
    """For each context [S, Q]; self-edits vary what a seed does to it, in all questions alike."""

    def normal(variance, *shape):
        return rng.normal(0, variance**0.5, shape)

    of_seed = normal(SEED, seeds, 1)
    return [
        of_seed
        + normal(BETWEEN, 1, 1)
        + normal(WITHIN + edit, seeds, 1)
        + normal(QUESTION, 1, count)
        + normal(REST, seeds, count)
        for count in rng.choice(questions, contexts)
    ]


def test_outer_seeds_and_the_other_components_are_found_again():
    rng, fifth = np.random.default_rng(0), np.mean([1 / 4, 1 / 6])
    found = [over_seeds(_of_seeds(rng, 20, 100, [4, 6], 0.5), edit=0.5) for _ in range(100)]
    seed, context, question, edit, rest = np.mean([of[:5] for of in found], axis=0)
    assert seed == pytest.approx(SEED, rel=0.1)
    assert context == pytest.approx(BETWEEN, rel=0.1)
    assert question == pytest.approx(QUESTION * fifth, rel=0.1)
    assert edit == 0.5
    assert rest == pytest.approx(WITHIN + REST * fifth, rel=0.05)
    assert sum(found[0].shares().values()) == pytest.approx(1)


def test_three_seeds_promise_on_average_what_their_means_vary_by():
    """The share of seeds is right on average even where one run of three seeds says little."""
    rng = np.random.default_rng(2)
    drawn = [_of_seeds(rng, 3, 12, [4, 6]) for _ in range(1500)]
    means = [np.mean([of.mean() for of in cells]) for cells in drawn]
    parts = [over_seeds(cells).of_mean(3, 12) for cells in drawn]
    assert np.mean([sum(of.values()) for of in parts]) == pytest.approx(np.var(means), rel=0.1)
    assert np.mean([of["seeds"] for of in parts]) == pytest.approx(SEED / 3, rel=0.1)


def test_what_more_seeds_and_contexts_would_find():
    found = over_seeds(_of_seeds(np.random.default_rng(3), 50, 100, [5]))
    assert found.detectable(12, 12) < found.detectable(6, 12) < found.detectable(3, 12)
    assert found.detectable(12, 48) < found.detectable(12, 12)


def test_a_difference_that_is_detectable_is_found_in_four_of_five():
    """By a t test over seeds, which vary most here: 800 designs with the true difference added."""
    rng = np.random.default_rng(4)
    least = over_seeds(_of_seeds(rng, 300, 300, [5])).detectable(5, 40)
    means = [
        np.mean([of.mean(axis=1) for of in _of_seeds(rng, 5, 40, [5])], axis=0) + least
        for _ in range(800)
    ]
    found = [stats.ttest_1samp(of, 0.0).pvalue < 0.05 for of in means]
    assert np.mean(found) == pytest.approx(0.8, abs=0.08)


def test_too_little_for_outer_seeds():
    assert over_seeds([np.ones((3, 2))]) is None
    assert over_seeds([np.ones((1, 2)), np.zeros((1, 2))]) is None
    alone = over_seeds([np.array([[1.0], [3.0]]), np.array([[2.0], [8.0]])], edit=9.0)
    assert (alone.question, alone.edit, alone.rest) == (0.0, 4.0, 0.0)  # no more than there is
