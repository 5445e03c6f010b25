"""Components of variance: found again from draws of the model they are of; what they promise."""

import numpy as np
import pytest

from seal_jax.stats import intervals
from seal_jax.stats.components import components

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
