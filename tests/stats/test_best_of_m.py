"""What the best of M gains where the choice and the test share nothing."""

import itertools
import math

import numpy as np
import pytest

from seal_jax.stats import best_of_m


def _brute_force(choosing, measured, held_out):
    """One context: every fold by itself, from the cells that it may use."""
    _, questions, replicates = measured.shape
    scores = []
    for q, r in itertools.product(range(questions), range(replicates)):
        keep_q = [x for x in range(questions) if held_out == "replicates" or x != q]
        keep_r = [x for x in range(replicates) if held_out == "questions" or x != r]
        chosen_by = choosing[:, keep_q][:, :, keep_r].mean(axis=(1, 2))
        scores.append(measured[np.argmax(chosen_by), q, r])
    return np.mean(scores)


@pytest.mark.parametrize("held_out", ["replicates", "questions", "both"])
def test_every_choice_of_what_is_held_out(held_out):
    rng = np.random.default_rng(0)
    choosing = [rng.normal(size=(m, q, 3)) for m, q in ((5, 4), (2, 2), (3, 5))]
    measured = [rng.normal(size=x.shape) for x in choosing]
    for by in (choosing, measured):
        found = best_of_m.gain(by, measured, held_out, draws=10)
        folds = [_brute_force(a, b, held_out) for a, b in zip(by, measured, strict=True)]
        assert found.chosen == pytest.approx(np.mean(folds))
        assert found.mean == pytest.approx(np.mean([x.mean() for x in measured]))
        assert found.gain.value == pytest.approx(found.chosen - found.mean)


def test_ties_are_shared_and_the_in_sample_figure_is_the_maximum():
    """Replicate 0 held out: self-edits 0 and 2 tie at 1; replicate 1: 1 and 2 do, at 1.

    Held out they score (0 + 1) / 2 and (0 + 1) / 2; in sample self-edit 2 scores 1.
    """
    cells = [np.array([[[0.0, 1.0]], [[1.0, 0.0]], [[1.0, 1.0]]])] * 2
    assert best_of_m.gain(cells, cells, "replicates", draws=10).chosen == 0.5
    found = best_of_m.gain(cells, cells, "nothing", draws=10)
    assert (found.chosen, found.mean) == (1.0, pytest.approx(2 / 3))


def test_rounding_does_not_break_a_tie():
    """By replicates 0 and 1, 0.1 + 0.2 and 0.3 + 0 tie, so each has its half of 4 and 0."""
    cells = [np.array([[[0.1, 0.2, 4.0]], [[0.3, 0.0, 0.0]]])] * 2
    found = best_of_m.gain(cells, cells, "replicates", draws=10)
    assert found.chosen == pytest.approx((0.1 + 0.2 + 2.0) / 3)


def test_noise_gains_nothing_out_of_sample():
    """300 contexts of 5 self-edits that do not differ: in sample the best of 5 means of 3 is 1.163
    standard deviations (of sqrt(1/3)) above the mean; out of sample it is at the mean."""
    rng = np.random.default_rng(3)
    cells = [rng.normal(size=(5, 1, 3)) for _ in range(300)]
    found = best_of_m.gain(cells, cells, "replicates", draws=500)
    assert found.gain.low < 0 < found.gain.high
    assert abs(found.gain.value) < 4 / math.sqrt(300 * 3)
    in_sample = best_of_m.gain(cells, cells, "nothing", draws=500)
    assert in_sample.gain.value == pytest.approx(1.163 / math.sqrt(3), abs=0.1)


def test_a_reward_without_replicates_chooses_the_same_always():
    rng = np.random.default_rng(4)
    measured = [rng.normal(size=(3, 2, 2)) for _ in range(4)]
    lengths = [np.array([1.0, 9.0, 4.0])[:, None, None]] * 4
    expected = np.mean([x[1].mean() for x in measured])
    for held_out in ("nothing", "replicates", "questions", "both"):
        found = best_of_m.gain(lengths, measured, held_out, draws=10)
        assert found.chosen == pytest.approx(expected)
    # How long the chosen are, where accuracy is what chooses.
    found = best_of_m.gain(measured, lengths, "replicates", draws=10)
    assert found.mean == pytest.approx(14 / 3) and 1 <= found.chosen <= 9


def test_what_cannot_be_held_out_is_none():
    one = [np.arange(4.0).reshape(2, 2, 1)] * 3
    assert best_of_m.gain(one, one, "replicates", draws=10).chosen is None
    assert best_of_m.gain(one, one, "both", draws=10).gain.value is None
    assert best_of_m.gain(one, one, "questions", draws=10).chosen == 2.5
    single = [np.ones((1, 2, 2))] * 3  # nothing to choose from
    assert best_of_m.gain(single, single, "questions", draws=10).chosen is None
    alone = best_of_m.gain(one[:1], one[:1], "questions", draws=10)
    assert alone.gain.value == 1.0 and alone.gain.low is None
