"""Words that can be compared: what normalisation keeps, and which words are alike."""

import collections

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
        ("the United States of America", "the US"),
        ("World War II", "world war 2"),
        ("20 °C or 20 degrees Celsius", "20 celsius or 20 celsius"),
        ("首都は、東京。", "首 都 は , 東 京 ."),
        ("Henry VIII, Charles V and I", "henry 8 , charles 5 and i"),
        ("WWII or World War I", "world war 2 or world war 1"),
        ("What I saw in X-ray IV", "what i saw in x ray 4"),
        ("They told us of the US, the u.s. and USA", "they told us of the US , the US and US"),
        ("Who is the WHO? A type A.", "who is the WHO ? a type A ."),
        ("WHO IS AT THE DOOR", "who is at the door"),
        ("-5, \u22125, minus five, 5-6", "-5 , -5 , -5 , 5 6"),
        ("-$5 or 3 - 2", "-5 dollars or 3 , 2"),
        ("3,5 or 12,75 and 1,2,3 and 1,250", "3.5 or 12.75 and 1 2 3 and 1250"),
        ("I can't, won't and cannot", "i not , not and can not"),
        ("1874년에", "1874 년 에"),
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
        ("nigerian", "nigeria", 1.0),
        ("women", "woman", 0.95),
        ("spanish", "spain", 0.95),
        ("democratic", "democracy", 0.8),
        ("rome", "roma", 0),
        ("1990", "1991", 0),
        ("1990", "1990s", 0),
        ("legal", "illegal", 0),
        ("hydrogen", "hydroxide", 0),
        ("north", "south", 0),
        ("as", "a", 0),
    ],
)
def test_keys(a, b, expected):
    shared = {*words.keys(a).items()} & {*words.keys(b).items()}
    assert max((surely for _, surely in shared), default=0) == expected


def test_no_number_and_no_lone_word_is_in_the_lexicon():
    sizes = collections.Counter()
    for word, groups in lexicon.FORMS.items():
        assert word == word.lower() and not words.has_digit(word)
        sizes.update(groups)
    assert min(sizes.values()) >= 2
