"""Questions and gold answers in what a model wrote about a passage."""

import hashlib
import re
from collections.abc import Iterator

from seal_jax.tasks.knowledge import parse
from seal_jax.tasks.knowledge.entity_graph import stands_in
from seal_jax.tasks.protocol import Context, Question

READING = frozenset({"title", "passage", "question"})  # of the template that asks a reader
_MOST_WORDS = 12  # of an answer
_MOST_ASKED = 40  # words of a question
_ANSWER = re.compile(r"(?:\bAnswer|^[ \t]*A)[ \t*_]*\d*[ \t*_]*:[ \t*_]*", re.I | re.M)
_QUESTION = re.compile(r"[ \t#*>_-]*Question[ \t*_]*\d*[ \t*_]*:[ \t*_]*", re.I)
_OUTER = " \t*_\"'\u201c\u201d"


def questions(context: Context, text: str) -> tuple[Question, ...]:
    """The questions that a text asks, with their answers.

    Only those that can be graded are kept: a question that ends with its mark, asked once, and an
    answer of a few words that stand together in the passage and not in the question.

    >>> ada = Context("1", "Ada", "Ada Lovelace met Babbage in 1833.", ())
    >>> text = "Question 1: When did they meet?\\nAnswer: 1833.\\nQuestion 2: Where?\\nAnswer: Rome"
    >>> [(q.text, q.answer) for q in questions(ada, text)]
    [('When did they meet?', '1833')]
    """
    found: dict[str, Question] = {}
    for asked, answer in _pairs(text):
        if len(answer.split()) > _MOST_WORDS:
            continue
        if stands_in(answer, context.text) and not stands_in(answer, asked):
            digest = hashlib.sha256(f"{asked}\n{answer}".encode()).hexdigest()[:8]
            found.setdefault(asked, Question(f"{context.id}-{digest}", asked, answer))
    return tuple(found.values())


def asked(text: str) -> list[str]:
    """The questions that a text asks, each once, whatever it answers.

    >>> asked("Question 1: When did they meet?\\nAnswer: Rome\\nQuestion 2: Tell me.")
    ['When did they meet?']
    """
    found = dict.fromkeys(question for question, _ in _pairs(text))
    return [question for question in found if 1 < len(question.split()) <= _MOST_ASKED]


def _pairs(text: str) -> Iterator[tuple[str, str]]:
    """Questions that end with their mark, and what follows them as their answers."""
    for piece in parse.split_questions(text):
        start = _QUESTION.match(piece)
        question, *answers = _ANSWER.split(piece[start.end() :] if start else piece)
        if (question := _line(question)).endswith("?"):
            yield question, _line(answers[0] if answers else "").rstrip(".")


def _line(text: str) -> str:
    """The first line that says something."""
    return next((line.strip(_OUTER) for line in text.splitlines() if line.strip(_OUTER)), "")
