"""Words that can be compared: what normalisation keeps, and which words are alike."""

import pytest

from seal_jax.tasks.knowledge import lexicon, words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Rome? No, Paris.", "rome ? no , paris ."),
        ("It isn't 5 km; it's 1,250.5 m long", "it is not 5 kilometers . it 1250.5 meters long"),
        ("the 1990s", "the 1990s"),
        ("in 5 in the morning", "in 5 in the morning"),
        ("8 May", "8 may"),
        ("Sept. 9, 2001", "september 9 , 2001"),
        ("2001-09-11", "11 september 2001"),
        ("He may sep. them", "he may sep . them"),
        ("US$ 5 and €6.50", "5 dollars and 6.5 euros"),
        ("$3 million", "3000000 dollars"),
        ("James' and Ann's", "james and ann"),
        ("one thousand, two hundred", "1200"),
        ("three, four", "3 , 4"),
        ("the United States of America", "the us"),
        ("World War II", "world war 2"),
        ("20 °C or 20 degrees Celsius", "20 celsius or 20 celsius"),
        ("首都は、東京。", "首 都 は , 東 京 ."),
    ],
)
def test_marked_words(text, expected):
    assert " ".join(words.marked_words(text)) == expected


def test_words_leaves_out_marks_and_articles():
    assert words.words("The end, a start.") == ["end", "start"]
    assert words.words("The end.", articles=True) == ["the", "end"]


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ("cities", "city", 1.0),
        ("boxes", "box", 1.0),
        ("women", "woman", 0.95),
        ("spanish", "spain", 0.95),
        ("democratic", "democracy", 0.7),
        ("buys", "purchased", 0.8),
        ("teachings", "teacher", 0.95),
        ("rome", "roma", 0.0),  # too short for a slip
        ("lsibon", "lisbon", 0.8),
        ("lisbon", "lisben", 0.8),
        ("1990", "1991", 0.0),
        ("1990", "1990s", 0.0),
        ("legal", "illegal", 0.0),
        ("hydrogen", "hydroxide", 5 / 9),
        ("north", "south", 0.0),
        ("as", "a", 0.0),
    ],
)
def test_likeness(a, b, expected):
    assert words.likeness(a, b) == words.likeness(b, a)
    assert words.likeness(a, b) == pytest.approx(expected)


def test_no_number_and_no_lone_word_is_in_the_lexicon():
    for table in (lexicon.FORMS, lexicon.SYNONYMS):
        sizes = {}
        for word, groups in table.items():
            assert word == word.lower() and not words.has_digit(word)
            for group in groups:
                sizes[group] = sizes.get(group, 0) + 1
        assert min(sizes.values()) >= 2
