"""The local grader: cases, agreement arithmetic, and agreement with real judged answers."""

import json
import subprocess
import sys

import pytest

from seal_jax.tasks.base import Verdict
from seal_jax.tasks.knowledge import grade

CASES = [
    # gold, prediction, correct
    ("Nairobi", "The capital is NAIROBI.", True),
    ("Nairobi", "Mombasa", False),
    ("Mombasa", "It is not far from Mombas.", False),
    ("the pituitary gland", "Pituitary gland", True),
    ("John Paul II", "Pope John Paul II, born in Poland", True),
    ("21", "twenty-one", True),
    ("twenty-one", "There were 21 of them.", True),
    ("21", "twenty two", False),
    ("the 19th century", "in the nineteenth century", True),
    ("first", "It came 1st", True),
    ("10,000", "10000", True),
    ("10000", "about 10,000 people", True),
    ("10,000", "10", False),
    ("1.5 million", "1,500,000", True),
    ("1.5 million", "1.5 billion", False),
    ("205", "two hundred and five", True),
    ("1,2", "12", False),
    ("7%", "seven percent", True),
    ("7 percent", "7%", True),
    ("7 percent", "7 per cent", True),
    ("12 October 1492", "October 12th, 1492", True),
    ("12 October 1492", "October 1493", False),
    ("US", "the U.S. army", True),
    ("Müllner", "Mullner", True),
    ("Luther's teacher", "the teacher of Luther’s", True),
    ("rock’n’roll", "rock'n'roll", True),
    ("ﬁne", "fine", True),
    ("１２ Ａｄａ", "12 Ada", True),
    ("١٢", "12", True),
    ("12,000", "١٢,٠٠٠", True),
    ("Straße", "STRASSE", True),
    ("東京", "首都は東京です", True),
    ("東京", "首都は京都です", False),
    ("Чингис хаан", "чингис ХААН (Genghis)", True),
    ("कि", "की", False),
    ("The", "the", True),
    ("A", "B", False),
    ("?!", "?!", True),
    ("?!", "a", False),
    ("New York New York", "New York", False),
    ("a b c d e f g", "b c d e f g", True),
    ("north by east wind", "north wind", False),
]


@pytest.mark.parametrize(("gold", "prediction", "correct"), CASES)
def test_case(gold, prediction, correct):
    assert grade.grade(gold, prediction) == Verdict(correct=correct, empty=False)


@pytest.mark.parametrize("prediction", ["", " \n\t", "\x00", "\u200b", "\u3000\n"])
def test_empty_prediction_is_wrong_and_counted_apart(prediction):
    assert grade.grade("", prediction) == Verdict(correct=False, empty=True)
    assert grade.grade("x", prediction) == Verdict(correct=False, empty=True)


def test_threshold_is_inclusive():
    assert grade.token_recall("p q r s", "p q r") == 0.75
    assert grade.grade("p q r s", "p q r", threshold=0.75).correct
    assert not grade.grade("p q r s", "p q r", threshold=0.76).correct


def test_long_and_strange_predictions():
    assert grade.grade("Rome", "x " * 200_000 + "Rome").correct
    assert not grade.grade("1.2", "1\x002").correct
    assert grade.grade("Rome", "\x07Rome\x1b[0m \ud800").correct


def test_agreement_by_hand():
    # 10 rows: 4 both yes, 1 only grader, 2 only judge, 3 both no. Equal 0.7; by chance
    # 0.5 * 0.6 + 0.5 * 0.4 = 0.5; kappa (0.7 - 0.5) / 0.5 = 0.4.
    predicted = [True] * 5 + [False] * 5
    judged = [True] * 4 + [False] + [True] * 2 + [False] * 3
    found = grade.agreement(predicted, judged)
    assert found == pytest.approx(
        {"agreement": 0.7, "kappa": 0.4, "precision": 0.8, "recall": 4 / 6}
    )


def test_agreement_where_nothing_is_defined():
    found = grade.agreement([False, False], [False, False])
    assert found == {"agreement": 1.0, "kappa": 0.0, "precision": 0.0, "recall": 0.0}


def test_cross_validation_chooses_the_threshold_on_other_questions():
    # Alone, `low` wants a threshold in (0.25, 0.5] and `high` one in (0.5, 1]. Each is judged by
    # the other's, which costs each one row: 2 of 4. Chosen on all rows it would be 3 of 4.
    low = next(f"q{i}" for i in range(64) if grade.question_fold(f"q{i}", 2) == 0)
    high = next(f"q{i}" for i in range(64) if grade.question_fold(f"q{i}", 2) == 1)
    questions = [low, low, high, high]
    recalls = [0.5, 0.25, 0.5, 1.0]
    judged = [True, False, False, True]
    found = grade.cross_validate(questions, recalls, judged, folds=2)
    assert found["thresholds"] == [1.0, 0.5]
    assert found["agreement"] == 0.5


def test_agreement_with_judged_answers(shared_data):
    rows = grade.read_rows(str(shared_data / "grading" / "verdicts.jsonl"))
    found = grade.report(rows)
    assert (found["n"], found["questions"]) == (3538, 613)
    held_out = found["cross_validated"]
    assert held_out["agreement"] >= 0.875
    assert held_out["kappa"] >= 0.72
    # The figures of the module's docstring, and the threshold that every fold chose.
    assert [round(held_out[name], 3) for name in ("agreement", "kappa", "precision", "recall")] == [
        0.876,
        0.723,
        0.891,
        0.752,
    ]
    assert set(held_out["thresholds"]) == {grade.THRESHOLD}


def test_command_prints_one_json_line(tmp_path):
    rows = [
        {"question": "q", "gold": "Rome", "prediction": "Rome", "correct": True},
        {"question": "r", "gold": "Rome", "prediction": "Paris", "correct": True},
        {"question": "s", "gold": "Rome", "prediction": " ", "correct": False},
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n\n", encoding="utf-8")
    command = [sys.executable, "-m", "seal_jax.tasks.knowledge.grade", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.count("\n") == 1
    found = json.loads(done.stdout)
    assert (found["n"], found["precision"], found["recall"]) == (3, 1.0, 0.5)
    assert found["agreement"] == pytest.approx(2 / 3)
    assert {"agreement", "kappa", "precision", "recall"} <= found["cross_validated"].keys()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"question": "q"}', "line 1: expected an object"),
        ('\n{"question": "q", ', "line 2: not JSON"),
        ('{"question": "q", "gold": "g", "prediction": "p", "correct": "yes"}', "boolean correct"),
        ("", "no rows"),
    ],
)
def test_command_says_what_is_wrong_with_the_rows(tmp_path, capsys, content, message):
    path = tmp_path / "rows.jsonl"
    path.write_text(content, encoding="utf-8")
    assert grade.main([str(path)]) == 2
    assert message in capsys.readouterr().err


def test_command_says_that_the_file_is_missing(tmp_path, capsys):
    assert grade.main([str(tmp_path / "none.jsonl")]) == 2
    assert "none.jsonl" in capsys.readouterr().err
