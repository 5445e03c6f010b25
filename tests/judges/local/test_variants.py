"""Other ways to write a gold answer."""

import pytest

from seal_jax.judges.local.variants import insert


@pytest.mark.parametrize(
    ("gold", "prediction", "expected"),
    [
        ("World Health Organization", "the WHO.", "the {}."),
        ("Bank of England", "the BE or the BOE", "the {} or the {}"),
        ("Bank of England", "in England", "in England"),
        ("Bank of England", "the Bank of England (BOE)", "the Bank of England (BOE)"),
        ("World Health Organization", "who knows", "who knows"),
        ("WHO", "a World Health Organization", "a WHO"),
        ("W.H.O.", "a World Health Organization", "a W.H.O"),
        ("UN", "uniform nations", "uniform nations"),
        ("CO", "Cars. The long road ahead. Oranges", "Cars. The long road ahead. Oranges"),
        ("the 16th century", "in 1501, 1600 or 1601", "in {}, {} or 1601"),
        ("the 1970s", "1969, 1970, 1979 or 1980", "1969, {}, {} or 1980"),
        ("the 5th century BC", "in 450", "in 450"),
        ("the 5th century", "in 450 BC", "in 450 BC"),
        ("2.1%", "about 2%", "about 2.1%"),
        ("2.1%", "exactly 2%", "exactly 2%"),
        ("21.5%", "about 21.6%", "about 21.6%"),
        ("2.1%", "about 3%", "about 3%"),
        ("2%", "about 2.1%", "about 2.1%"),
        ("1,987 men", "roughly 2,000 men", "roughly 1,987 men"),
        ("1871", "about 1870", "about 1870"),
    ],
)
def test_insert(gold, prediction, expected):
    assert insert(gold, prediction) == expected.replace("{}", gold)
