"""Which words an answer denies."""

import pytest

from seal_jax.judges.local.denial import denied


@pytest.mark.parametrize(
    ("text", "expected"),
    [  # the wanted word is rome; what is denied, by position
        ("not rome but paris", [1]),
        ("it was not in rome , it was paris", [4]),
        ("it was not the capital rome", [5]),  # "capital" is asked
        ("it was not far from rome", []),
        ("it did not last until rome", []),
        ("not only rome", []),
        ("paris instead of rome", [3]),
        ("paris unlike rome", [2]),
        ("rome was wrong . it was paris", [0]),
        ("rome is a common misconception", [0]),
        ("rome is not the capital", [0]),
        ("rome is not old", []),
        ("rome ? no , paris", [0]),
        ("rome ? yes", []),
        ("rome ?", []),
        ("some wrongly say rome", [2, 3]),
        ("it was believed to be rome , but was not", [3, 4, 5]),
        ("it was believed to be rome .", []),
        ("neither rome nor paris", [1, 2, 3]),
        ("rome", []),
        ("not", []),
        ("paris rather than", []),
    ],
)
def test_denied(text, expected):
    words = text.split()
    found = denied(words, [word == "rome" for word in words], {"capital"})
    assert [i for i, is_denied in enumerate(found) if is_denied] == expected
