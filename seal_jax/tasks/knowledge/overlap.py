"""How many words an answer shares with the gold one: SQuAD's F1."""

import collections
import string
from collections.abc import Iterable

_ARTICLES = {"a", "an", "the"}
_NO_MARKS = str.maketrans("", "", string.punctuation)


def f1(answer: str, golds: Iterable[str]) -> float:
    """The best over gold answers of the harmonic mean of precision and recall of words.

    Case, punctuation and articles do not count (Rajpurkar et al., arXiv 1606.05250, section 6.1).

    >>> f1("the red Tower.", ["tower", "a red mill"]), f1("", ["tower"])
    (0.6666666666666666, 0.0)
    """
    return max((_f1(_words(answer), _words(gold)) for gold in golds), default=0.0)


def _words(text: str) -> list[str]:
    found = text.lower().translate(_NO_MARKS).split()
    return [word for word in found if word not in _ARTICLES]


def _f1(answer: list[str], gold: list[str]) -> float:
    if not answer or not gold:
        return float(answer == gold)
    shared = sum((collections.Counter(answer) & collections.Counter(gold)).values())
    return 2 * shared / (len(answer) + len(gold))
