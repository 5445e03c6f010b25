"""Which fixed lesson is the best, where some could not be tried."""

import numpy as np
import pytest

from seal_jax.loop import sources

NAN = float("nan")


@pytest.mark.fault("11")
@pytest.mark.parametrize(
    ("rewards", "means"),
    [
        ([[1.0, 3.0], [2.0, 0.0]], [1.5, 1.5]),
        # Of what could not be tried in a context: the least that was earned there.
        ([[-5.0, -3.0], [NAN, -7.0]], [-6.0, -5.0]),
        # A context that says nothing draws no mean to 0.
        ([[-5.0, -3.0], [NAN, NAN]], [-5.0, -3.0]),
        ([[NAN, NAN]], [None, None]),
    ],
)
def test_means_leave_out_what_is_not_known(rewards, means):
    assert sources.mean_rewards(np.array(rewards)) == means
