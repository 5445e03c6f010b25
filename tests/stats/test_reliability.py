"""Reliability and agreement within contexts: by hand, by brute force, and by simulation."""

import itertools
import math

import numpy as np
import pytest

from seal_jax.stats import reliability

NAN = math.nan


def _cells(seed=0, contexts=3, edits=4, questions=4, replicates=3):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(edits + c, questions, replicates)) + 9 * c for c in range(contexts)]


def test_one_way_analysis_by_hand_where_numbers_differ():
    """Self-edits with 2, 1 and 0 replicates; contexts with 2 and 3 self-edits.

    context   n        means   squares between  within   degrees   size
    first     2, 1     2, 4    24/9             2        1, 1      3 - 5/3
    second    2, 2, 2  1, 6, 2 28               4        2, 3      6 - 12/6
    third     2, 2     6, 7    1                4        1, 2      4 - 8/4

    Mean squares 95/12 and 5/3: unexplained 4/19 x (4 - 2) / 4 = 2/19; size 22/3 / 4 = 11/6.
    Mean of 2: 2 (17/19) / (2/19 x 11/6 + 2 (17/19)) = 102/113; of 1: 51/62.
    """
    scores = [
        np.array([[1.0, 3.0], [4.0, NAN], [NAN, NAN]]),
        np.array([[0.0, 2.0], [6.0, 6.0], [1.0, 3.0]]),
        np.array([[5.0, 7.0], [6.0, 8.0]]),
    ]
    assert reliability.across_seeds(scores, draws=5).value == pytest.approx(102 / 113)
    one = reliability.across_seeds(scores, replicates=1, draws=5).value
    assert one == pytest.approx(51 / 62)
    # A context whose only self-edit has no replicate says nothing at all.
    more = [*scores, np.array([[4.0, NAN]])]
    assert reliability.across_seeds(more, draws=5).value == pytest.approx(102 / 113)


def test_context_means_do_not_matter_within_and_are_nearly_all_of_the_pooled_figure():
    rng = np.random.default_rng(1)
    noise = [rng.normal(size=(5, 3)) for _ in range(40)]
    shifted = [of_context + 5 * rng.normal() for of_context in noise]
    within = reliability.across_seeds(noise, draws=5).value
    assert reliability.across_seeds(shifted, draws=5).value == pytest.approx(within)
    assert within < 0.3
    assert reliability.pooled(shifted) > 0.97


def test_pooled_by_hand():
    """Means 1, 2, 6 of two replicates: mean squares 14 and 4/3 without any factor."""
    scores = [np.array([[0.0, 2.0]]), np.array([[2.0, 2.0], [7.0, 5.0]])]
    assert reliability.pooled(scores) == pytest.approx(1 - (4 / 3) / 14)
    assert reliability.pooled([]) is None


@pytest.mark.parametrize(
    "scores",
    [
        [],
        [np.ones((3, 1))] * 5,  # one replicate
        [np.ones((4, 3))] * 5,  # nothing differs
        # Equal means but for rounding, which a ratio would blow up.
        [np.array([[0.1, 0.2, 0.3], [0.3, 0.2, 0.1], [0.2, 0.3, 0.1]])] * 5,
        [np.arange(6.0).reshape(3, 2)],  # 2 degrees of freedom: the factor has no value
        [np.array([[1.0, 2.0]])] * 5,  # one self-edit a context
        [np.full((3, 2), NAN)] * 5,
    ],
)
def test_what_cannot_be_estimated_is_none(scores):
    for replicates in (None, 1):
        found = reliability.across_seeds(scores, replicates=replicates, draws=20)
        assert found == (None, None, None)
    cells = [of_context[:, None, :] for of_context in scores if not np.isnan(of_context).any()]
    assert reliability.apart(cells, "replicates", draws=20) == (None, None, None)


@pytest.mark.fault("18")
def test_exact_rewards_are_exact_without_an_interval():
    scores = [np.array([[0.1, 0.1], [0.3, 0.3], [0.2, 0.2]]) * (c + 1) / 3 for c in range(4)]
    assert reliability.across_seeds(scores, draws=20) == (1, None, None)


def _halves(cells_MxQxR, over):
    """Average over all halvings of the covariance of the halves' means, times M - 1."""
    edits, questions, replicates = cells_MxQxR.shape
    products = []
    for half in itertools.combinations(range(questions), questions // 2):
        other = [q for q in range(questions) if q not in half]
        sides_q = [(list(half), other)] if over != "replicates" else [([*range(questions)],) * 2]
        sides_r = [([*range(replicates)],) * 2]
        if over != "questions":
            sides_r = [([r], [s]) for r, s in itertools.permutations(range(replicates), 2)]
        for (q_a, q_b), (r_a, r_b) in itertools.product(sides_q, sides_r):
            a = cells_MxQxR[:, q_a][:, :, r_a].mean(axis=(1, 2))
            b = cells_MxQxR[:, q_b][:, :, r_b].mean(axis=(1, 2))
            products.append(np.cov(a, b)[0, 1] * (edits - 1))
    return np.mean(products)


@pytest.mark.parametrize("over", ["replicates", "questions", "both"])
@pytest.mark.parametrize("questions", [4, 5])
def test_apart_is_the_average_over_all_halves(over, questions):
    cells = _cells(questions=questions)
    degrees = sum(len(of_context) - 1 for of_context in cells)
    shared = sum(_halves(of_context, over) for of_context in cells)
    total = sum(np.var(x.mean(axis=(1, 2))) * len(x) for x in cells)
    expected = 1 - (1 - shared / total) * (degrees - 2) / degrees
    assert reliability.apart(cells, over, draws=5).value == pytest.approx(expected)


def test_one_question_or_replicate_cannot_be_split():
    cells = _cells(replicates=1)
    assert reliability.apart(cells, "replicates", draws=5).value is None
    assert reliability.apart(cells, "both", draws=5).value is None
    found = reliability.apart(cells, "questions", draws=5)
    assert found.value is not None
    # Contexts of one question drop out, and nothing else changes.
    single = np.random.default_rng(0).normal(size=(5, 1, 1))
    assert reliability.apart([*cells, single], "questions", draws=5).value == found.value


def _simulate(estimate, *, draws, contexts=6, edits=5, questions=1, replicates=3, **variances):
    """Mean and standard error of an estimate over normal scores of known variances.

    Context and question effects are large, and a context has up to two self-edits more or less.
    """
    spread = {"edit": 0.0, "seed": 0.0, "question": 0.0, "cell": 1.0} | variances
    spread = {name: math.sqrt(variance) for name, variance in spread.items()}
    rng = np.random.default_rng(5)
    found = []
    for _ in range(draws):
        cells = []
        for c in range(contexts):
            m = edits + c % 5 - 2
            cells.append(
                3 * rng.normal()
                + 2 * rng.normal(size=(1, questions, 1))
                + spread["edit"] * rng.normal(size=(m, 1, 1))
                + spread["seed"] * rng.normal(size=(m, 1, replicates))
                + spread["question"] * rng.normal(size=(m, questions, 1))
                + spread["cell"] * rng.normal(size=(m, questions, replicates))
            )
        found.append(estimate(cells))
    return np.mean(found), np.std(found) / math.sqrt(draws)


@pytest.mark.parametrize("true", [0.0, 0.3, 0.8])
def test_across_seeds_is_unbiased(true):
    """6 contexts, about 5 self-edits, 3 replicates: variance t / (3 (1 - t)) makes reliability t.

    Without Kristof's factor the mean would be (1 - t) 2 / 19 lower (19 degrees of freedom: 10
    standard errors at t = 0), and with C M - 1 degrees, the context means not counted, 0.3 (1 - t)
    higher. Four standard errors are allowed for.
    """
    mean, error = _simulate(
        lambda cells: reliability.across_seeds([x[:, 0] for x in cells], draws=1).value,
        draws=800,
        edit=true / (1 - true) / 3,
    )
    assert error < 0.016
    assert abs(mean - true) < 4 * error


@pytest.mark.parametrize(
    ("over", "true"),
    [
        # Variance of the mean of 5 x 3 cells: 0.1 + 0.15 / 3 + 0.2 / 5 + 1 / 15 = 0.25667.
        ("replicates", (0.1 + 0.2 / 5) / (0.1 + 0.15 / 3 + 0.2 / 5 + 1 / 15)),
        ("questions", (0.1 + 0.15 / 3) / (0.1 + 0.15 / 3 + 0.2 / 5 + 1 / 15)),
        ("both", 0.1 / (0.1 + 0.15 / 3 + 0.2 / 5 + 1 / 15)),
    ],
)
def test_apart_finds_the_true_shares(over, true):
    """The three differ by 0.04 to 0.19; four standard errors and 0.005 of bias are 0.04."""
    mean, error = _simulate(
        lambda cells: reliability.apart(cells, over, draws=1).value,
        draws=500,
        contexts=10,
        questions=5,
        edit=0.1,
        seed=0.15,
        question=0.2,
    )
    assert error < 0.0085
    assert abs(mean - true) < 4 * error + 0.005


def test_agreement_by_hand():
    """Deviations within contexts: a: -2, 0, 2 and -1, 1; b: -1, 1, 0 and 2, -2.

    Products 2 + 0 + 0 - 2 - 2 = -2 over sqrt((4 + 4 + 1 + 1) (1 + 1 + 4 + 4)) = 10. Ranks: a: -1,
    0, 1 and -1/2, 1/2; b: -1, 1, 0 and 1/2, -1/2: (1 - 1/2) / (2 + 1/2).
    """
    a = [np.array([1.0, 3.0, 5.0]), np.array([7.0, 9.0]), np.array([1.0])]
    b = [np.array([4.0, 6.0, 5.0]), np.array([4.0, 0.0]), np.array([9.0])]
    found = reliability.agreement(
        [x[:, None, None] for x in a], [x[:, None, None] for x in b], exact=(True, True), draws=50
    )
    assert found.pearson.value == pytest.approx(-0.2)
    assert found.corrected_for_attenuation.value == pytest.approx(-0.2)
    assert found.spearman.value == pytest.approx(0.2)
    assert (found.same_best.value, found.same_best_by_chance) == (
        0.0,
        pytest.approx((1 / 3 + 1 / 2) / 2),
    )
    itself = reliability.agreement(
        [x[:, None, None] for x in a], [x[:, None, None] for x in a], exact=(True, True), draws=50
    )
    assert itself.pearson.value == pytest.approx(1) and itself.same_best.value == 1


def test_ties_have_their_mean_rank_and_the_first_is_the_best():
    a = [np.array([0.3, 0.1 + 0.2, 0.0])[:, None, None]] * 3  # 0.3 and 0.30000000000000004
    b = [np.array([2.0, 1.0, 0.0])[:, None, None]] * 3
    found = reliability.agreement(a, b, exact=(True, True), draws=20)
    assert found.same_best.value == 1
    # Deviations of ranks: 1/2, 1/2, -1 and 1, 0, -1.
    assert found.spearman.value == pytest.approx(1.5 / math.sqrt(1.5 * 2))


def test_correction_does_not_count_shared_noise_as_agreement():
    """True correlation 0.6; both rewards have the noise of one inner loop, which is as large.

    By hand, the raw correlation of means of 3 tends to (0.6 + 1/3) / (4/3) = 0.7, and that over the
    reliability 3/4 to 0.93.
    """
    rng = np.random.default_rng(2)
    a, b = [], []
    for _ in range(1500):
        true = rng.normal(size=(5, 1, 1))
        other = 0.6 * true + 0.8 * rng.normal(size=(5, 1, 1))
        noise = rng.normal(size=(5, 1, 3))
        a.append(true + noise)
        b.append(other + noise)
    found = reliability.agreement(a, b, draws=50)
    # The standard error of a correlation of 0.6 from 6000 degrees of freedom is about 0.01.
    assert found.corrected_for_attenuation.value == pytest.approx(0.6, abs=0.04)
    assert found.pearson.value == pytest.approx(0.7, abs=0.04)


def test_correction_needs_replicates():
    cells = _cells(replicates=1)
    assert reliability.agreement(cells, cells, draws=5).corrected_for_attenuation.value is None
    assert reliability.agreement(cells, cells, draws=5).pearson.value == pytest.approx(1)
