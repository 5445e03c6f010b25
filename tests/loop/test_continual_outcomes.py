"""The continual experiment's figures, from answers that are written down here."""

import json
import warnings

import numpy as np
import pytest

from seal_jax.loop.continual import outcomes
from seal_jax.loop.continual.outcomes import Arm

METRIC = "gold_log_likelihood"
DRAWS = {"seed": 0, "draws": 500}


def marked(*values):
    """A passage's marks, of questions with these values; None is not graded, and not finite."""
    answers = [{"question": str(i), METRIC: v} for i, v in enumerate(values)]
    if None in values:
        return {"answers": answers, "scores": {METRIC: None, "accuracy": None}}
    scores = {METRIC: np.mean(values), "accuracy": np.mean([v > -5 for v in values])}
    return {"answers": answers, "scores": scores}


# Two sequences of two passages; the questions' mean is what counts.
START = [[marked(-10, -8), marked(-7)], [marked(-12), marked(-6)]]
STEPS = [
    [[marked(-3, -1)], [marked(-4)]],
    [[marked(-6, -4), marked(-2)], [marked(-9), marked(-1)]],
]
MATRICES = [
    [[-9, -7], [-2, np.nan], [-5, -2]],
    [[-12, -6], [-4, np.nan], [-9, -1]],
]


def test_matrices_are_lower_triangular():
    np.testing.assert_array_equal(outcomes.matrices(START, STEPS, METRIC), MATRICES)


def test_means_and_standard_errors():
    shown = outcomes.shown(np.array(MATRICES, float))
    assert shown["matrix"] == [[-10.5, -6.5], [-3.0, None], [-7.0, -1.5]]
    # Of two values the standard error is half their distance.
    np.testing.assert_allclose(shown["standard_errors"][0], [1.5, 0.5])
    assert shown["standard_errors"][1] == [1.0, None]


def test_one_sequence_has_no_standard_error():
    shown = outcomes.shown(np.array(MATRICES[:1], float))
    assert shown["matrix"][0] == [-9.0, -7.0]
    assert shown["standard_errors"][0] == [None, None]


def test_the_retained_share():
    """Start -8 and -9, own -2 and -2.5, end -3.5 and -5: (8.5 - 4.25) / (8.5 - 2.25)."""
    summary = outcomes.summary(np.array(MATRICES, float), **DRAWS)
    assert (summary["start"], summary["own"], summary["end"]) == (-8.5, -2.25, -4.25)
    # Gains of 6 and 6.5: Student's t with one degree of freedom is 12.706 standard errors of 0.25.
    assert summary["own_gain"]["value"] == 6.25
    assert summary["own_gain"]["interval"] == pytest.approx(
        [6.25 - 3.1766, 6.25 + 3.1766], abs=1e-3
    )
    assert summary["retained_share"]["value"] == pytest.approx(4.25 / 6.25)
    low, high = summary["retained_share"]["interval"]
    assert low <= 4 / 6.5 and high >= 4.5 / 6  # the two sequences' own shares


def test_no_gain_has_no_share():
    worse = np.array(MATRICES, float)
    worse[:, 0] = 0.0
    assert outcomes.summary(worse, **DRAWS)["retained_share"]["value"] is None


def test_the_own_gain_is_compared_with_the_unmitigated_ones():
    unmitigated = np.array(MATRICES, float)
    mitigated = unmitigated.copy()
    mitigated[:, 1, 0] -= 1.0  # -3 and -5: the mean own gain is 6.25 - 0.5
    found = outcomes.summary(mitigated, unmitigated, **DRAWS)
    assert found["own_gain_of_unmitigated"]["value"] == pytest.approx(5.75 / 6.25)


def test_the_share_is_compared_with_the_unmitigated_one():
    """With nothing lost after each own update, the share is 1; unmitigated it is 4.25 / 6.25."""
    unmitigated = np.array(MATRICES, float)
    mitigated = unmitigated.copy()
    mitigated[:, 2, 0] = mitigated[:, 1, 0]
    found = outcomes.summary(mitigated, unmitigated, **DRAWS)["share_over_unmitigated"]
    assert found["value"] == pytest.approx(1 - 4.25 / 6.25)
    # Of the sequences by themselves.
    assert found["interval"] == pytest.approx([1 - 4.5 / 6, 1 - 4 / 6.5])


def test_results_and_table():
    start = Arm(name="start", end=START, unrelated_S=[3.0, 3.0])
    arms = [
        Arm(name="none", steps=STEPS, unrelated_S=[3.5, 3.3], trained_tokens=7, failed=1),
        Arm(name="replay", steps=STEPS, unrelated_S=[3.1, None], keeps_old_data=True),
    ]
    bounds = [
        Arm(name="joint", end=START, unrelated_S=[3.0, 3.2], keeps_old_data=True),
        Arm(name="separate", end=[row[0:2] for row in STEPS[1]]),
    ]
    found = outcomes.results(start, arms, bounds, metrics=("accuracy", METRIC), **DRAWS)
    none, replay = found["continual"]["none"], found["continual"]["replay"]
    assert none["unrelated"]["rise"]["value"] == pytest.approx(0.4)
    assert (none["trained_tokens"], none["failed_updates"]) == (7, 1)
    assert "own_gain_of_unmitigated" not in none["summary"][METRIC]
    assert replay["summary"][METRIC]["own_gain_of_unmitigated"]["value"] == pytest.approx(1.0)
    assert "share_over_unmitigated" not in none["summary"][METRIC]
    assert replay["summary"][METRIC]["share_over_unmitigated"]["value"] == 0
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


def test_what_is_missing_is_left_out():
    """The first sequence has lost a passage: only its other one counts, at the start as well."""
    steps = [STEPS[0], [[marked(None), marked(-2)], STEPS[1][1]]]
    found = outcomes.matrices(START, steps, METRIC)
    summary = outcomes.summary(found, **DRAWS)
    assert (summary["start"], summary["own"], summary["end"]) == (-8.0, -2.25, -3.5)
    assert summary["retained_share"]["value"] == pytest.approx((-3.5 + 8) / (-2.25 + 8))
    assert summary["retained_share"]["interval"]


@pytest.mark.parametrize("lost", ["start", "one", "all"])
def test_sequences_that_are_wholly_ungraded_give_no_figure(lost):
    """Neither do they keep the others from theirs; below two there is no interval."""
    nothing = [marked(None), marked(None)]
    start, steps = START, STEPS
    if lost == "start":
        start = [nothing, nothing]
    if lost in ("one", "all"):
        gone = slice(0, 1 if lost == "one" else 2)
        steps = [[*of] for of in STEPS]
        steps[0][gone] = [nothing[:1]] * len(steps[0][gone])
        steps[1][gone] = [nothing] * len(steps[1][gone])
    arms = [
        Arm(name="none", steps=steps, unrelated_S=[None, 3.3 if lost == "one" else None]),
        Arm(name="kl", steps=STEPS, unrelated_S=[3.2, 3.4]),
    ]
    bounds = [Arm(name="separate", end=steps[1])]
    before = Arm(name="start", end=start, unrelated_S=[3.0, 3.0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # such as the mean of nothing
        found = outcomes.results(before, arms, bounds, metrics=("accuracy", METRIC), **DRAWS)
    json.dumps(found, allow_nan=False)
    none, kl = found["continual"]["none"], found["continual"]["kl"]
    own = none["summary"][METRIC]
    if lost == "one":  # the second sequence is left: -9 to -2.5, then -5
        assert (own["start"], own["own"], own["end"]) == (-9.0, -2.5, -5.0)
        assert own["retained_share"] == {"value": pytest.approx(4 / 6.5), "interval": None}
        assert none["unrelated"]["rise"] == {"value": pytest.approx(0.3), "interval": None}
        assert kl["summary"][METRIC]["retained_share"]["interval"]
        assert kl["summary"][METRIC]["own_gain_of_unmitigated"]["value"] == 1.0
        assert found["bounds"]["separate"]["end"][METRIC] == -5.0
    else:
        assert own["start"] is own["own"] is own["end"] is own["retained_share"]["value"] is None
        assert none["unrelated"] is None
        assert kl["summary"][METRIC]["share_over_unmitigated"]["value"] is None
        if lost == "all":
            assert kl["summary"][METRIC]["start"] == -8.5  # the rest of the table
            assert none["matrices"][METRIC]["matrix"][1:] == [[None, None]] * 2
            assert found["bounds"]["separate"]["end"][METRIC] is None
    lines = outcomes.table(found).splitlines()
    assert lines[1].split()[:4] == (
        ["none", "-9.00", "-2.50", "-5.00"] if lost == "one" else ["none", "-", "-", "-"]
    )
    assert len(lines) == 4
