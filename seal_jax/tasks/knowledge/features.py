"""What the grader looks at: a handful of numbers about a gold answer and a prediction."""

import collections
import math
import re
from collections.abc import Mapping, Sequence

from seal_jax.tasks.knowledge import variants
from seal_jax.tasks.knowledge.denial import NEGATIONS, denied
from seal_jax.tasks.knowledge.words import (
    ARTICLES,
    MARKS,
    PART,
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
    r"\n\s*(?:Q\s*:|Q\d+\b|Question\b[^\n]{0,8}:|CoT\s*:|You are an?\b|Explain how\b)", re.IGNORECASE
)
_REFUSAL = re.compile(
    r"misunderstanding|does not (?:specify|provide|mention|contain)|"
    r"\bnot (?:specified|provided|mentioned|explicitly|clear)|\bno (?:specific )?(?:information|mention)|"
    r"\b(?:there|it|answer) is no\b|do(?:n't|n’t| not) know|\bunclear|\bunknown|cannot be determined",
    re.IGNORECASE,
)
_ASIDE = re.compile(r"\s*\([^()]*\)")
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
    """A gold answer and a prediction, word by word."""

    def __init__(self, gold: str, prediction: str, question: str = ""):
        without = _ASIDE.sub("", gold)
        gold = without if words(without) else gold
        self.gold_text, self.question_text = gold, question
        self.text = variants.insert(gold, answer_of(prediction), question)
        self.goes_on = len(answer_of(prediction)) < len(prediction.strip())
        self.asked = frozenset(words(question)) 
        self.gold = words(gold) or words(gold, articles=True)
        left_out = ARTICLES - {*self.gold}
        self.words = [word for word in marked_words(self.text) if word not in left_out]
        unique = list(dict.fromkeys(self.gold))
        self.weights = dict(zip(unique, self._weights(unique), strict=True))
        self._by_start = collections.defaultdict(list)
        for word in unique:
            for key in (word[:2], *meanings(word)):
                self._by_start[key].append(word)
        found: dict[str, dict[str, float]] = {}
        for word in self.words:
            if word not in found and word not in MARKS:
                found[word] = self._gold_words_like(word)
        self.like = [found.get(word, {}) for word in self.words]
        self.denied = self._denied()
        self.best = dict.fromkeys(unique, 0.0)
        for like, is_denied in zip(self.like, self.denied, strict=True):
            if not is_denied:
                for word, value in like.items():
                    self.best[word] = max(self.best[word], value)

    def _weights(self, gold: Sequence[str]) -> list[float]:
        """How much each gold word tells: little if a stop word or a word of the question."""

        def weight(word: str, asked) -> float:
            if word in STOP_WORDS:
                return 0.15
            if not has_digit(word) and any(likeness(word, other) >= _FORM for other in asked):
                return 0.3
            return 1.0

        weights = [weight(word, self.asked) for word in gold]
        # Where the question holds the whole answer ("larger or smaller?") its words do count.
        return weights if max(weights) == 1 else [weight(word, ()) for word in gold]

    def _gold_words_like(self, word: str) -> dict[str, float]:
        keys = (word[:2], *meanings(word))
        near = ((o, likeness(o, word)) for key in keys for o in self._by_start.get(key, ()))
        return {other: value for other, value in near if value}

    def _denied(self) -> list[bool]:
        if NEGATIONS & {*self.gold, *self.asked}:
            return [False] * len(self.words)
        return denied(self.words, [self.is_telling(like) for like in self.like], self.asked)

    def is_telling(self, like: Mapping[str, float]) -> bool:
        """Whether a word that is like these gold words is a form of one that tells something."""
        return any(v >= _FORM and self.weights[word] == 1 for word, v in like.items())

    def recall(self, held: Mapping[str, float]) -> float:
        """The share of the gold answer, by weight."""
        total = sum(self.weights.values())
        return sum(self.weights[word] * value for word, value in held.items()) / total


NAMES = (
    "phrase", "recall", "window", "window_squared", "letters", "complete", "first_sentence",
    "precision", "other_names", "no_number", "parts", "capitals", "why", "refusal", "goes_on",
)  # fmt: skip


def features(c: Compared) -> dict[str, float]:
    """The features of `NAMES`."""
    telling = [word for word, weight in c.weights.items() if weight == 1] or list(c.weights)
    plain = [word for word in c.words if word not in MARKS]
    affirmed = [w for w, d in zip(c.words, c.denied, strict=True) if not d and w not in MARKS]
    content = [
        (word, like)
        for word, like in zip(c.words, c.like, strict=True)
        if word not in MARKS and word not in STOP_WORDS and (word not in c.asked or c.is_telling(like))
    ]
    hits = sum(c.is_telling(like) for _, like in content)
    novel = {w for w, like in content if not any(v >= _FORM for v in like.values())}
    numbers = {w for w in c.gold if has_digit(w)}
    missing = numbers - set(plain)
    others = {w for w in plain if has_digit(w)} - numbers - c.asked
    first = c.words[: c.words.index(SENTENCE, 1)] if SENTENCE in c.words[1:] else c.words
    in_first: dict[str, float] = {}
    for like, is_denied in zip(c.like[: len(first)], c.denied, strict=False):
        if not is_denied:
            for word, v in like.items():
                in_first[word] = max(v, in_first.get(word, 0))
    recall = c.recall(c.best)
    window = _window(c)
    complete = all(c.best[w] >= _FORM for w in telling)
    parts = "and" in c.gold
    named = bool(re.search("[A-Z]", c.gold_text))
    names = {w for n in set(_CAPITALISED.findall(c.text)) for w in words(n)[:1]} & novel
    grams, held = _trigrams(telling), _trigrams(w for w, d in zip(c.words, c.denied, strict=True) if not d)
    q = c.question_text.lower()
    return {
        "phrase": float(f" {' '.join(c.gold)} " in f" {' '.join(affirmed)} "),
        "recall": recall,
        "window": window,
        "window_squared": window**2,
        "letters": len(grams & held) / max(1, len(grams)),
        "complete": float(complete),
        "first_sentence": c.recall(in_first),
        "precision": hits / max(1, hits + len([1 for w, _ in content if w in novel])),
        "other_names": named * math.log1p(len(names)) * (1 - recall),
        "no_number": float(bool(missing) and not others),
        "parts": float(parts),
        "capitals": float(named),
        "goes_on": float(c.goes_on),
        "refusal": float(bool(_REFUSAL.search(c.text))),
        "why": float(bool(re.match(r"why|how (?!many|much|long|old|far)", q))),
    }


def _window(c: Compared) -> float:
    """The largest recall within a stretch of the prediction about as long as the gold answer."""
    size = min(60, max(10, 2 * len(c.gold) + 6))
    at = [i for i, (like, d) in enumerate(zip(c.like, c.denied, strict=True)) if like and not d]
    best = 0.0
    for k, start in enumerate(at):
        if best>=1: break
        held: dict[str, float] = {}
        for i in at[k : k + size]:
            if i >= start + size:
                break
            for word, value in c.like[i].items():
                held[word] = max(value, held.get(word, 0))
        best = max(best, c.recall(held))
    return best


def _trigrams(some) -> set[str]:
    return {f"^{word}"[i : i + 3] for word in set(some) for i in range(len(word) - 1)}
