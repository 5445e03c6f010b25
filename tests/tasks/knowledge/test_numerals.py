"""Number words to digits."""

import pytest

from seal_jax.tasks.knowledge import numerals


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("zero", "0"),
        ("nineteen", "19"),
        ("ninety nine", "99"),
        ("fortieth", "40"),
        ("twenty first", "21"),
        ("ninth twelfth fifth eighth", "9 12 5 8"),
        ("first second third", "1 2 3"),
        ("one hundred", "100"),
        ("hundred", "100"),
        ("hundredth", "100"),
        ("twelve hundred", "1200"),
        ("two hundred and five", "205"),
        ("two hundred thousand", "200000"),
        ("three million two hundred thousand and six", "3200006"),
        ("one thousand nine hundred eighty four", "1984"),
        ("1.5 million", "1500000"),
        ("20 billion barrels", "20000000000 barrels"),
        ("3rd 21st 4th 22nd", "3 21 4 22"),
        ("one two three", "1 2 3"),
        ("ten five", "10 5"),
        ("five twenty", "5 20"),
        ("twenty thirteen", "20 13"),
        ("two million three million", "2000000 3000000"),
        ("five thousand two million", "5000 2000000"),
        ("two and three", "2 and 3"),
        ("one hundred and dogs", "100 and dogs"),
        ("a million and", "a 1000000 and"),
        ("first twenty", "1 20"),
        ("first hundred", "1 100"),
        ("3rd million", "3 1000000"),
        ("one hundred and million", "100 and 1000000"),
        ("007", "7"),
        ("1.50", "1.5"),
        ("100", "100"),
        ("1990s 1.2.3 x2 2x 4st5", "1990s 1.2.3 x2 2x 4st5"),
        ("9" * 40, "9" * 40),
        ("minus five and negative two million", "-5 and -2000000"),
        ("minus the minus", "minus the minus"),
        ("ones", "ones"),
        ("", ""),
    ],
)
def test_numeral(text, expected):
    assert numerals.to_digits(text.split()) == expected.split()


def test_every_word_below_a_hundred_counts_up():
    ones = "one two three four five six seven eight nine".split()
    tens = "twenty thirty forty fifty sixty seventy eighty ninety".split()
    words = [[ten] for ten in tens] + [[ten, one] for ten in tens for one in ones]
    values = [20 + 10 * i for i in range(8)] + [
        20 + 10 * i + j for i in range(8) for j in range(1, 10)
    ]
    assert [numerals.to_digits(word) for word in words] == [[str(value)] for value in values]


def test_roman_numerals_count_up():
    tens = ["", "X", "XX", "XXX", "XL", "L", "LX", "LXX", "LXXX"]
    ones = ["", "I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX"]
    numerals_in_order = [ten + one for ten in tens for one in ones][1:]
    assert [*map(numerals.roman, numerals_in_order)] == [*range(1, 90)]
