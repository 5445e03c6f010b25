"""The diversity of texts, counted by hand."""

import pytest

from seal_jax.stats.diversity import diversity


def test_pairs_counted_by_hand():
    # the red / red tower / tower fell; a red / red tower / tower stood; the mill / mill stood
    found = diversity(["The red tower fell.", "A red tower stood", "the mill stood"])
    assert found.distinct == pytest.approx(7 / 8)
    # one of three, one of three, none of two
    assert found.overlap == pytest.approx((1 / 3 + 1 / 3 + 0) / 3)
    assert found.words == pytest.approx((4 + 4 + 3) / 3)


def test_repeats_count_as_often_as_one_other_text_has_them():
    # "ha ha" three times against once: 1 of 3 pairs is shared, and 1 of 1.
    found = diversity(["ha ha ha ha", "ha ha"])
    assert (found.distinct, found.overlap) == (1 / 4, pytest.approx((1 / 3 + 1) / 2))


def test_the_same_text_twice_and_texts_with_nothing_in_common():
    same = diversity(["one two three"] * 2)
    assert (same.distinct, same.overlap) == (0.5, 1.0)
    apart = diversity(["one two three", "four five six"])
    assert (apart.distinct, apart.overlap) == (1.0, 0.0)


@pytest.mark.parametrize("texts", [[], ["one two"], ["one two", "", "three"]])
def test_two_texts_with_a_pair_are_needed(texts):
    assert diversity(texts) is None
