"""Which words of an answer it denies: "not X but Y", "X was wrong; it was Y"."""

import itertools
import re
from collections.abc import Container, Sequence

from seal_jax.tasks.knowledge.words import PART, QUESTION, SENTENCE, STOP_WORDS

NEGATIONS = frozenset("not never neither nor unlike no".split())
_PAIRS = {("rather", "than"), ("instead", "of"), ("opposed", "to"), ("contrary", "to")}
# A letter for each kind of word, so that an answer becomes a string to which patterns apply.
_KINDS = {
    word: letter
    for letter, some in {
        "n": " ".join(NEGATIONS),
        "v": "is was were are be been did does do has had would could can",
        "t": "a an the common popular",
        "f": "wrong incorrect false mistaken untrue inaccurate mistake error misconception myth",
        "y": "wrongly mistakenly falsely incorrectly erroneously",
        "l": "thought believed assumed claimed said rumored rumoured supposed",
        "r": "correct right true answer case one",
        "b": "but",
        ".": SENTENCE,
        ",": PART,
        "?": QUESTION,
    }.items()
    for word in some.split()
}
# Each denies what its group holds; "W" is a wanted word, "s" a stop word or word of the question.
_PATTERNS = tuple(
    re.compile(pattern)
    for pattern in (
        r"n[svt]{0,12}(W[^.,?b]{0,40})",  # "it was not in Rome"
        r"y([^.,?b]{0,40})",  # "some wrongly say Rome"
        r"l([^.,?b]{0,20})(?=[^.?b]{0,10}b)",  # "was thought to be Rome, but"
        r"(?<!W)(W+),?vt*f",  # "Rome was a mistake"
        r"(?<!W)(W+),?vt*n[svtr]*(?=[.,?b]|$)",  # "Rome is not the capital"
        r"(?<!W)(W+)\?[fn]",  # "Rome? No"
    )
)


def denied(words: Sequence[str], wanted: Sequence[bool], asked: Container[str]) -> list[bool]:
    """For each word, whether the answer says that it is not so.

    A negation counts when nothing but stop words and words of the question stands between it and
    a wanted word ("it was not in Rome"), or when it closes what is said of a wanted word ("Rome
    is not the capital", "Rome was wrong"). One further away ("it did not last until 1945") may
    mean anything and is passed over.

    Args:
      words: the answer's `marked_words`.
      wanted: whether each is a word of the gold answer.
      asked: the words of the question.

    >>> denied("not rome but paris".split(), [False, True, False, False], ())
    [False, True, False, False]
    """
    kinds = []
    for (word, after), is_wanted in zip(itertools.pairwise((*words, "")), wanted, strict=True):
        if is_wanted:
            kinds.append("W")
        elif (word, after) in _PAIRS:
            kinds.append("n")
        elif word in STOP_WORDS or word in asked:
            kinds.append(_KINDS.get(word, "s"))
        else:
            kinds.append(_KINDS.get(word, "x"))
    text, found = "".join(kinds), [False] * len(words)
    for pattern in _PATTERNS:
        for match in pattern.finditer(text):
            found[slice(*match.span(1))] = [True] * len(match[1])
    return found
