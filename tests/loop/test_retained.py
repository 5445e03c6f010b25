"""The continual experiment's figures, from answers that are written down here."""

import numpy as np
import pytest

from seal_jax.loop.continual import outcomes, retained
from seal_jax.loop.continual.outcomes import Arm, Start

METRIC = "gold_log_likelihood"
DRAWS = {"seed": 0, "draws": 500}


def answers(*values):
    return [{"question": str(i), METRIC: v, "correct": v > -5} for i, v in enumerate(values)]


# Two sequences of two passages; the questions' mean is what counts.
START = [[answers(-10, -8), answers(-7)], [answers(-12), answers(-6)]]
STEPS = [
    [[answers(-3, -1)], [answers(-4)]],
    [[answers(-6, -4), answers(-2)], [answers(-9), answers(-1)]],
]
MATRICES = [
    [[-9, -7], [-2, np.nan], [-5, -2]],
    [[-12, -6], [-4, np.nan], [-9, -1]],
]


def test_matrices_are_lower_triangular():
    np.testing.assert_array_equal(retained.matrices(START, STEPS, METRIC), MATRICES)


def test_means_and_standard_errors():
    shown = retained.shown(np.array(MATRICES, float))
    assert shown["matrix"] == [[-10.5, -6.5], [-3.0, None], [-7.0, -1.5]]
    # Of two values the standard error is half their distance.
    np.testing.assert_allclose(shown["standard_errors"][0], [1.5, 0.5])
    assert shown["standard_errors"][1] == [1.0, None]


def test_one_sequence_has_no_standard_error():
    shown = retained.shown(np.array(MATRICES[:1], float))
    assert shown["matrix"][0] == [-9.0, -7.0]
    assert shown["standard_errors"][0] == [None, None]


def test_the_retained_share():
    """Start -8 and -9, own -2 and -2.5, end -3.5 and -5: (8.5 - 4.25) / (8.5 - 2.25)."""
    summary = retained.summary(np.array(MATRICES, float), **DRAWS)
    assert (summary["start"], summary["own"], summary["end"]) == (-8.5, -2.25, -4.25)
    assert summary["retained_share"]["value"] == pytest.approx(4.25 / 6.25)
    low, high = summary["retained_share"]["interval"]
    assert low <= 4 / 6.5 and high >= 4.5 / 6  # the two sequences' own shares


def test_no_gain_has_no_share():
    worse = np.array(MATRICES, float)
    worse[:, 0] = 0.0
    assert retained.summary(worse, **DRAWS)["retained_share"]["value"] is None


def test_the_own_gain_is_compared_with_the_uncured_ones():
    uncured = np.array(MATRICES, float)
    cured = uncured.copy()
    cured[:, 1, 0] -= 1.0  # -3 and -5: the mean own gain is 6.25 - 0.5
    found = retained.own_gain_kept(cured, uncured, **DRAWS)
    assert found["value"] == pytest.approx(5.75 / 6.25)


def test_the_share_is_compared_with_the_uncured_one():
    """With nothing lost after each own update, the share is 1; the uncured one is 4.25 / 6.25."""
    uncured = np.array(MATRICES, float)
    cured = uncured.copy()
    cured[:, 2, 0] = cured[:, 1, 0]
    found = retained.share_over_uncured(cured, uncured, **DRAWS)
    assert found["value"] == pytest.approx(1 - 4.25 / 6.25)
    # Of the sequences by themselves.
    assert found["interval"] == pytest.approx([1 - 4.5 / 6, 1 - 4 / 6.5])


def test_results_and_table():
    start = Start(answers=START, unrelated_S=[3.0, 3.0])
    arms = [
        Arm(name="none", steps=STEPS, unrelated_S=[3.5, 3.3], trained_tokens=7, failed=1),
        Arm(name="replay", steps=STEPS, unrelated_S=[3.1, None], keeps_old_data=True),
        Arm(name="joint", end=START, unrelated_S=[3.0, 3.2], keeps_old_data=True),
        Arm(name="separate", end=[row[0:2] for row in STEPS[1]]),
    ]
    found = outcomes.results(start, arms, metrics=("accuracy", METRIC), **DRAWS)
    none, replay = found["continual"]["none"], found["continual"]["replay"]
    assert none["unrelated"]["rise"]["value"] == pytest.approx(0.4)
    assert (none["trained_tokens"], none["failed_updates"]) == (7, 1)
    assert "own_gain_of_uncured" not in none["summary"][METRIC]
    assert replay["summary"][METRIC]["own_gain_of_uncured"]["value"] == pytest.approx(1.0)
    assert "share_over_uncured" not in none["summary"][METRIC]
    assert replay["summary"][METRIC]["share_over_uncured"]["value"] == 0
    # A model whose loss is not finite is left out, and its pair with it.
    assert replay["unrelated"]["sequences"] == 1
    assert replay["unrelated"]["rise"]["interval"] is None
    assert found["bounds"]["joint"]["end"][METRIC] == -8.5
    assert found["bounds"]["separate"]["unrelated"] is None
    assert none["matrices"]["accuracy"]["matrix"][1] == [1.0, None]
    lines = outcomes.table(found).splitlines()
    assert lines[1].startswith("none                     -8.50   -2.25   -4.25   0.68 [")
    assert lines[2].startswith("replay (old data) ")
    assert lines[-1].split() == ["separate", "-4.25"]
