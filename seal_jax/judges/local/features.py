"""What the grader looks at: a gold answer and a prediction word by word, and numbers about them.

`Compared` finds which words of the prediction are forms of gold words, and which of them the
prediction denies. `features` sums that up in numbers, which the grader weighs.
"""

import collections
import math
import re
from collections.abc import Iterable, Mapping, Sequence

from seal_jax.judges.local import variants
from seal_jax.judges.local.denial import NEGATIONS, denied
from seal_jax.tasks.knowledge.words import (
    ARTICLES,
    MARKS,
    SENTENCE,
    STOP_WORDS,
    has_digit,
    likeness,
    marked_words,
    meanings,
    words,
)

_FORM = 0.7  # from this likeness on, a word is a form of a gold word
# A base model goes on with the next question; what it answered stands before.
_NEXT_QUESTION = re.compile(
    r"^[ \t]*(?:Q\s?:|Q\d+\b|Question\b[^\n]{0,8}:|CoT\s?:|You are an?\b|Explain how\b)",
    re.IGNORECASE | re.MULTILINE,
)
_REFUSAL = re.compile(
    r"misunderstanding|does not (?:specify|provide|mention|contain)|"
    r"\bnot (?:specified|provided|mentioned|explicitly|clear)|"
    r"\bno (?:specific )?(?:information|mention)|"
    r"\b(?:there|it|answer) is no\b|do(?:n't|n’t| not) know|"
    r"\bunclear|\bunknown|cannot be determined",
    re.IGNORECASE,
)
_ASIDE = re.compile(r" ?\([^()]*\)")
_LITTLE, _ASKED, _MUCH = 0.15, 0.3, 1.0  # weights of a stop word, a question word, another word
_LONGEST_WINDOW = 60  # words
_MOST_LIKE = 50  # words that a word is compared with: answers of 10,000 words take no hour
_WHY = re.compile(r"\s*(?:why|how (?!many|much|long|old|far))", re.IGNORECASE)
# Not the first word of a sentence.
_CAPITALISED = re.compile(r"(?<=[^\s.!?:\"“] )[A-Z][a-z]+")


def answer_of(prediction: str) -> str:
    """A prediction up to the next question that the model asks itself.

    >>> answer_of("Rome\\n\\nQ: And France?\\nA: Paris")
    'Rome'
    """
    prediction = prediction.strip()
    found = _NEXT_QUESTION.search(prediction)
    return prediction[: found.start()].rstrip() if found and found.start() else prediction


class Compared:
    """A gold answer and a prediction, word by word.

    Attributes:
      gold: words of the gold answer, without asides in parentheses.
      words: `marked_words` of the prediction's answer, with what means the same as the gold answer
        replaced by it (`variants.insert`).
      asked: words of the question.
      weights: how much each gold word tells: little if a stop word or a word of the question.
      like: for each of `words`, the gold words that it is like, and how much.
      denied: for each of `words`, whether the prediction denies it.
      best: for each gold word, the likeness of the best word that is not denied.
    """

    def __init__(self, gold: str, prediction: str, question: str = ""):
        """Compares; the gold answer must hold a word."""
        shorter = _ASIDE.sub("", gold)
        self.gold_text = shorter if words(shorter) else gold
        self.question_text = question
        answer = answer_of(prediction)
        self.goes_on = len(answer) < len(prediction.strip())
        self.text = variants.insert(self.gold_text, answer, question)
        self.asked = frozenset(words(question))
        self.gold = words(self.gold_text) or words(self.gold_text, articles=True)
        left_out = ARTICLES - {*self.gold}
        self.words = [word for word in marked_words(self.text) if word not in left_out]
        self.weights = _weights(list(dict.fromkeys(self.gold)), self.asked)
        self._total = sum(self.weights.values())
        self.like = self._likenesses()
        self.denied = [False] * len(self.words)
        if not NEGATIONS & {*self.gold, *self.asked}:
            wanted = [self.is_telling(like) for like in self.like]
            self.denied = denied(self.words, wanted, self.asked)
        self.best = self.held(range(len(self.words)))

    def _likenesses(self) -> list[dict[str, float]]:
        index = _index(self.weights)
        found = {word: {} if word in MARKS else _like(word, index) for word in set(self.words)}
        return [found[word] for word in self.words]

    def held(self, indices: Iterable[int]) -> dict[str, float]:
        """The best likeness of each gold word among these words of the prediction."""
        best = dict.fromkeys(self.weights, 0.0)
        for i in indices:
            if not self.denied[i]:
                for word, value in self.like[i].items():
                    best[word] = max(best[word], value)
        return best

    def is_telling(self, like: Mapping[str, float]) -> bool:
        """Whether a word that is like these gold words is a form of one that tells much."""
        return any(v >= _FORM and self.weights[word] == _MUCH for word, v in like.items())

    def recall(self, held: Mapping[str, float]) -> float:
        """The share of the gold answer, by weight."""
        return sum(self.weights[word] * value for word, value in held.items()) / self._total


def _index(some: Iterable[str]) -> dict[str, list[str]]:
    """Words by themselves, their first letters and their meanings, `_MOST_LIKE` by one key."""
    index: dict[str, list[str]] = collections.defaultdict(list)
    for word in some:
        index[f"={word}"].append(word)
        for key in (word[:2], *meanings(word)):
            if len(index[key]) < _MOST_LIKE:
                index[key].append(word)
    return index


def _like(word: str, index: Mapping[str, Sequence[str]]) -> dict[str, float]:
    """The words of an index that a word is like, and how much."""
    keys = (f"={word}", word[:2], *meanings(word))
    near = {other: likeness(other, word) for key in keys for other in index.get(key, ())}
    return {other: value for other, value in near.items() if value}


def _weights(gold: Sequence[str], asked: Iterable[str]) -> dict[str, float]:
    """The weight of each gold word."""
    index = _index(asked)

    def weight(word: str, index: Mapping[str, Sequence[str]]) -> float:
        if word in STOP_WORDS:
            return _LITTLE
        is_asked = max(_like(word, index).values(), default=0.0) >= _FORM
        return _ASKED if is_asked and not has_digit(word) else _MUCH

    # Where the question holds the whole answer ("larger or smaller?") its words do count.
    for known in (index, {}):
        weights = {word: weight(word, known) for word in gold}
        if _MUCH in weights.values():
            return weights
    return dict.fromkeys(gold, _MUCH)


def features(c: Compared) -> dict[str, float]:
    """What the grader weighs; all but other_names lie in 0 to 1."""
    telling = [word for word, weight in c.weights.items() if weight == _MUCH]
    affirmed = [w for w, no in zip(c.words, c.denied, strict=True) if not no and w not in MARKS]
    aside = MARKS | STOP_WORDS | c.asked
    hits, others = 0, []
    for word, like in zip(c.words, c.like, strict=True):
        if c.is_telling(like):
            hits += 1
        elif word not in aside and not any(value >= _FORM for value in like.values()):
            others.append(word)
    ends = c.words.index(SENTENCE, 1) if SENTENCE in c.words[1:] else len(c.words)
    recall, window = c.recall(c.best), _window(c)
    is_name = re.search("[A-Z]", c.gold_text) is not None
    names = {word for name in set(_CAPITALISED.findall(c.text)) for word in words(name)}
    pieces = _pieces(telling)
    return {
        # The gold words stand in a row.
        "phrase": f" {' '.join(c.gold)} " in f" {' '.join(affirmed)} ",
        # Share of the gold answer (by weight, forms of words included) that is there.
        "recall": recall,
        # The same within one stretch of the prediction.
        "window": window,
        "window_squared": window**2,
        # Share of the three-letter pieces of the telling gold words.
        "letters": len(pieces & _pieces(affirmed)) / max(1, len(pieces)),
        # Every telling gold word is there in some form.
        "complete": all(c.best[word] >= _FORM for word in telling),
        # Recall within the first sentence.
        "first_sentence": c.recall(c.held(range(ends))),
        # Share of gold words among the telling words of the prediction.
        "precision": hits / max(1, hits + len(others)),
        # The gold answer is a name, and part of it is missing while others are there.
        "other_names": is_name * math.log1p(len(names.intersection(others))) * (1 - recall),
        # The gold answer has a number, and the prediction has none.
        "no_number": any(map(has_digit, c.gold)) and not any(map(has_digit, affirmed)),
        # The gold answer joins things by "and".
        "parts": "and" in c.gold,
        # The gold answer has a capital letter.
        "capitals": is_name,
        # The question asks why or how.
        "why": _WHY.match(c.question_text) is not None,
        # The prediction says that it does not know.
        "refusal": _REFUSAL.search(c.text) is not None,
        # The prediction went on with a question of its own (`answer_of`).
        "goes_on": c.goes_on,
    }


def _window(c: Compared) -> float:
    """The largest recall within a stretch of the prediction about twice as long as the gold."""
    size = min(_LONGEST_WINDOW, max(10, 2 * len(c.gold) + 6))
    at = [i for i, (like, no) in enumerate(zip(c.like, c.denied, strict=True)) if like and not no]
    best = 0.0
    for k, start in enumerate(at):
        held: dict[str, float] = {}
        for i in at[k : k + size]:
            if i >= start + size:
                break
            for word, value in c.like[i].items():
                held[word] = max(value, held.get(word, 0.0))
        best = max(best, c.recall(held))
        if best >= 1:
            break
    return best


def _pieces(some: Iterable[str]) -> set[str]:
    """All stretches of three letters, beginnings of words marked."""
    return {f"^{word}"[i : i + 3] for word in set(some) for i in range(max(1, len(word) - 1))}


# Of all features, in their order; which answers are compared does not matter.
NAMES = tuple(features(Compared("any", "any")))
