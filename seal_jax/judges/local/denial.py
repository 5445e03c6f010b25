"""Which words of an answer it denies: "not X but Y", "X was wrong; it was Y"."""

from collections.abc import Container, Sequence

from seal_jax.tasks.knowledge.words import MARKS, PART, QUESTION, STOP_WORDS

NEGATIONS = frozenset("not never neither nor unlike no".split())
_PAIRS = {("rather", "than"), ("instead", "of"), ("opposed", "to"), ("contrary", "to")}
_REACH = 12  # words between a negation and what it denies, at most
_VERBS = frozenset("is was were are be been did does do has had would could can".split())
_WRONG = frozenset(
    "wrong incorrect false mistaken untrue inaccurate mistake error misconception myth".split()
)
_WRONGLY = frozenset("wrongly mistakenly falsely incorrectly erroneously".split())
_BELIEVED = frozenset("thought believed assumed claimed said rumored rumoured supposed".split())
_RIGHT = frozenset("correct right true answer case one".split())


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
    found = [False] * len(words)
    i = 0
    while i < len(words):
        word, after = words[i], words[i + 1] if i + 1 < len(words) else ""
        if word in _WRONGLY or (word in _BELIEVED and _is_taken_back(words, i)):
            _mark(found, words, i + 1)
        elif word in NEGATIONS:
            _mark(found, words, _next_wanted(words, wanted, asked, i + 1))
        elif (word, after) in _PAIRS:
            _mark(found, words, _next_wanted(words, wanted, asked, i + 2))
        if wanted[i]:
            start = i
            while i + 1 < len(words) and wanted[i + 1]:
                i += 1
            if _is_denied_after(words, asked, i + 1):
                found[start : i + 1] = [True] * (i + 1 - start)
        i += 1
    return found


def _ends(words: Sequence[str], i: int) -> bool:
    """Whether a part of a sentence ends before word i."""
    return i >= len(words) or words[i] in MARKS or words[i] == "but"


def _mark(found: list[bool], words: Sequence[str], i: int | None) -> None:
    """Denies from word i to the end of its part of the sentence."""
    while i is not None and not _ends(words, i) and not found[i]:
        found[i] = True
        i += 1


def _next_wanted(
    words: Sequence[str], wanted: Sequence[bool], asked: Container[str], i: int
) -> int | None:
    """The wanted word that a negation before word i belongs to."""
    for j in range(i, min(i + _REACH, len(words))):
        if wanted[j]:
            return j
        if _ends(words, j) or (words[j] not in STOP_WORDS and words[j] not in asked):
            break
    return None


def _is_taken_back(words: Sequence[str], i: int) -> bool:
    """Whether a "but" follows in the same sentence: "was thought to be X, but it was Y"."""
    for word in words[i + 1 : i + 20]:
        if word in MARKS and word != PART:
            return False
        if word == "but":
            return True
    return False


def _is_denied_after(words: Sequence[str], asked: Container[str], i: int) -> bool:
    """Whether the words from i on deny what stands before them."""
    if not i < len(words):
        return False
    if words[i] == QUESTION:
        return i + 1 < len(words) and words[i + 1] in _WRONG | {"no"}
    i += words[i] == PART
    if i >= len(words) or words[i] not in _VERBS:
        return False
    i += 1
    while i < len(words) and words[i] in {"a", "an", "the", "common", "popular"}:
        i += 1
    if i < len(words) and words[i] in _WRONG:
        return True
    if i >= len(words) or words[i] != "not":
        return False
    i += 1
    while not _ends(words, i) and (
        words[i] in STOP_WORDS or words[i] in asked or words[i] in _RIGHT
    ):
        i += 1
    return _ends(words, i)
