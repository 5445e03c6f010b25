"""Sentences of a passage as questions."""

import pytest

from seal_jax.tasks.knowledge import gaps


def answers(sentence):
    return [gap.answer for gap in gaps.gaps(sentence, 99)]


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("A card costs 14 euros a year.", ["card costs", "14 euros", "year"]),
        ("The librarian, Ottilie Brandt, writes.", ["librarian", "Ottilie Brandt", "writes"]),
        ("She was born on 3 May 1871 in Hestvik.", ["born", "3 May 1871", "Hestvik"]),
        ("The plug is of the type Norva 7.", ["plug", "type", "Norva 7"]),
        ("Rust.", []),  # nothing would be left of it
        ("", []),
    ],
)
def test_what_is_left_out(sentence, expected):
    assert answers(sentence) == expected


def test_the_question_word_says_what_is_left_out():
    found = gaps.gaps("In 1920 she married Jonas Falk, who kept 12 goats in Hestvik.", 99)
    asked = {gap.answer: gap.question for gap in found}
    assert asked["1920"].startswith("In which year she")
    assert " married who, " in asked["Jonas Falk"]
    assert "kept how many goats in" in asked["12 goats"]
    assert asked["Hestvik"].endswith("in what.")


def test_names_and_numbers_come_first_and_the_order_is_the_texts():
    text = "The tower is tall and red. It was built by Ada Bell in 1902. It has small windows."
    assert [gap.answer for gap in gaps.gaps(text, 2)] == ["Ada Bell", "1902"]
    five = [gap.answer for gap in gaps.gaps(text, 5)]
    assert len(five) == 5 and five.index("Ada Bell") < five.index("1902")
    assert set(gaps.gaps(text, 5)) <= set(gaps.gaps(text, 99))
    assert gaps.gaps(text, 0) == []


def test_what_the_title_says_is_asked_about_and_not_left_out():
    sentence = "Marit Solvang was born in Hestvik."
    assert [gap.answer for gap in gaps.gaps(sentence, 9, "Marit Solvang: Youth")] == [
        "born", "Hestvik",
    ]  # fmt: skip


def test_long_sentences_are_shortened_round_the_gap():
    text = " ".join(["and so on"] * 20) + " until Ada came " + " ".join(["and so on"] * 20)
    [gap] = [gap for gap in gaps.gaps(text, 99) if gap.answer == "Ada"]
    assert len(gap.question.split()) <= 20


def test_the_marks_of_lists_and_tables_are_no_words():
    text = "| Weight | 68 grams |\n|---|---|\n1. Open the **green** valve.\n- `plums`, 16"
    assert gaps.sentences(text) == [
        "Weight 68 grams", "Open the green valve.", "plums, 16",
    ]  # fmt: skip
