"""Questions and gold answers in what models write."""

import pytest

from seal_jax.tasks.knowledge import asking
from seal_jax.tasks.protocol import Context

QUAY = Context("quay", "Quay", "The quay was built in 1874 by Ida Brandt. It has eleven berths.")


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        ("Question 1: Who built it?\nAnswer: Ida Brandt.", [("Who built it?", "Ida Brandt")]),
        ("**Question 1:** Who built it?\n\n**Answer:** *Ida Brandt*",
         [("Who built it?", "Ida Brandt")]),
        ("Question: Who?\nA: ida brandt\nQuestion: When?\nAnswer 2: in 1874",
         [("Who?", "ida brandt"), ("When?", "in 1874")]),
        ("Question 1: Who? Answer: Ida Brandt. Question 2: How many berths? Answer: 11",
         [("Who?", "Ida Brandt"), ("How many berths?", "11")]),
        ("Question 1: Who?\nAnswer: Ada", []),  # not in the passage
        ("Question 1: Who is Ida Brandt?\nAnswer: Ida Brandt", []),  # in the question
        ("Question 1: The quay is old\nAnswer: 1874", []),
        ("Question 1: Who?\nAnswer:", []),
        ("Question 1: Who?", []),
        ("Question 1: What?\nAnswer: The quay was built in 1874 by Ida Brandt. It has eleven "
         "berths.", []),
        ("Question 1: Who?\nAnswer: Ida Brandt\nQuestion 2: Who?\nAnswer: 1874",
         [("Who?", "Ida Brandt")]),
        ("", []),
    ],
)  # fmt: skip
def test_only_what_can_be_graded_is_read(text, pairs):
    assert [(q.text, q.answer) for q in asking.questions(QUAY, text)] == pairs


def test_ids_tell_questions_apart():
    """Runs whose models wrote other questions are not taken to have asked the same."""
    first, second = (
        asking.questions(QUAY, f"Question 1: {text}\nAnswer: 1874") for text in ("When?", "Year?")
    )
    assert first[0].id.startswith("quay-") and first[0].id != second[0].id
