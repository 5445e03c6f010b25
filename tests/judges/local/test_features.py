"""The features, on answers whose arithmetic fits in a line."""

import math

import pytest

from seal_jax.judges.local.grade import WEIGHTS, Compared, answer_of, features


def _features(gold, prediction, question=""):
    return features(Compared(gold, prediction, question))


def test_every_feature_has_a_weight():
    assert _features("a red tower", "the red tower").keys() == WEIGHTS.keys()


def test_recall_is_by_weight():
    # "of" weighs 0.15; "salt" is in the question (0.3); "port" and "lisbon" tell (1 each).
    found = _features("salt port of Lisbon", "the port of salt", "Where was salt sold?")
    assert found["recall"] == pytest.approx(1.45 / 2.45)


def test_a_form_of_a_gold_word_is_held_in_part():
    # "democratic" shares six letters with "democracy" (0.8), "women" is in the lexicon (0.95).
    found = _features("democracy for women", "a democratic woman")
    assert found["recall"] == pytest.approx((0.8 + 0.95) / 2.15)


def test_the_question_holds_the_whole_answer():
    found = _features("larger", "larger", "Is it larger or smaller?")
    assert (found["recall"], found["precision"]) == (1, 1)
    assert _features("of salt", "salt", "Is it salt?")["recall"] == 1 / 2  # no word tells more


def test_asides_in_the_gold_answer_do_not_count():
    assert _features("salt (from mines)", "salt")["recall"] == 1
    assert _features("(salt)", "salt")["recall"] == 1


def test_a_denied_word_is_not_held():
    found = _features("Rome", "It was not Rome but Paris.")
    assert (found["recall"], found["letters"]) == (0, 0)
    # Where the gold answer or the question is negative, nothing is denied.
    assert _features("Rome", "It was not Rome.", "Where was it not signed?")["recall"] == 1
    assert _features("not Rome", "It was not Rome.")["recall"] == 1


def test_precision():
    found = _features("Rome", "Kings met. Later they met in Rome.")
    # kings, met, later, met and rome tell; one of the five is a gold word.
    assert found["precision"] == 1 / 5


def test_other_names_count_where_a_name_is_incomplete():
    found = _features("Ada Brown", "It was Cara Brown of Oslo.", "Which town?")
    assert found["other_names"] == pytest.approx(math.log(3) * 0.5)  # Cara, Oslo
    assert _features("Ada Brown", "It was Ada Brown of Oslo.")["other_names"] == 0
    assert _features("ada brown", "It was Cara Brown of Oslo.")["other_names"] == 0


@pytest.mark.parametrize(
    ("name", "gold", "prediction", "question", "expected"),
    [
        ("why", "rain", "rain", "Why did it fail?", True),
        ("why", "rain", "rain", "How many failed?", False),
        ("letters", "tower", "towed", "", 4 / 4 - 1 / 4),  # ^to tow owe, without wer
    ],
)
def test_feature(name, gold, prediction, question, expected):
    assert _features(gold, prediction, question)[name] == expected


def test_answer_of():
    assert answer_of(" Rome\n\nQuestion: And?\nAnswer: Oslo") == "Rome"
    assert answer_of("Rome\nQ: And?") == "Rome"
    assert answer_of("Questions of law") == "Questions of law"
    assert answer_of("\nQ: And?") == "Q: And?"
