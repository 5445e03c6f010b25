"""The local grader: does a free-text prediction give the gold answer?

`Compared` finds which words of the prediction are forms of gold words, and which of them the
prediction denies. First come rules for what can be told for certain (`RULES`). Where none applies,
five features are weighed: a logistic regression, fitted to the yes/no verdicts of a judge model by
`calibration.py`. docs/grading.md says how far the two agree and where they differ.
"""

import collections
import dataclasses
import itertools
import math
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence

from seal_jax.judges.local import variants
from seal_jax.judges.local.denial import NEGATIONS, denied
from seal_jax.tasks.knowledge import words as words_lib
from seal_jax.tasks.knowledge.words import MARKS, STOP_WORDS, has_digit, keys, marked_words, words
from seal_jax.tasks.protocol import Verdict
from seal_jax.tasks.texts import is_blank

# Results record it: verdicts of graders with different names are not to be compared.
GRADER = "local-3"
THRESHOLD = 0.5  # an answer is correct from this probability on

# Of the features; printed as `fit` by `seal grade`, on the rows that docs/grading.md
# names.
WEIGHTS: Mapping[str, float] = {
    "bias": -2.34,
    "recall": 2.02,
    "letters": 1.93,
    "precision": 1.24,
    "other_names": -1.32,
    "why": -0.80,
}
_LITTLE, _ASKED, _MUCH = 0.15, 0.3, 1.0  # how much a stop word, a question word, another word tells
# A base model goes on with the next question; what it answered stands before.
_NEXT_QUESTION = re.compile(
    r"^[ \t]*(?:Q\s?:|Q\d+\b|Question\b[^\n]{0,8}:|CoT\s?:|You are an?\b|Explain how\b)",
    re.IGNORECASE | re.MULTILINE,
)
_ASIDE = re.compile(r" ?\([^()]*\)")
_CAPITALISED = re.compile(r"[A-Z][\w'’-]*")
_TITLES = frozenset(
    """mr mrs ms doctor sir lord lady king queen pope prince princess president general captain
    admiral professor father""".split()
)
_WHY = re.compile(r"\s*(?:why|how (?!many|much|long|old|far))", re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class Decision:
    """A verdict and how it came about.

    Attributes:
      verdict: the verdict.
      by: the rule's name, or "weights".
      probability: what the weights gave; None where a rule decided.
      features: what they weighed; empty where a rule decided.
    """

    verdict: Verdict
    by: str
    probability: float | None = None
    features: Mapping[str, float] = dataclasses.field(default_factory=dict)


def grade(gold: str, prediction: str, question: str = "") -> Verdict:
    """The verdict on one prediction.

    One of which nothing is left without punctuation and control characters is empty and wrong.

    Args:
      gold: the gold answer.
      prediction: what the model answered.
      question: what it was asked. Words that only repeat the question count for little.

    >>> grade("twenty-one", "There are 21.").correct
    True
    >>> grade("Rome", "It was not Rome but Paris.", "Where was the treaty signed?").correct
    False
    >>> grade("twenty-one", " ...").empty
    True
    """
    return decide(gold, prediction, question).verdict


def decide(gold: str, prediction: str, question: str = "") -> Decision:
    """As `grade`, with the reason."""
    has_words = bool(words(gold, articles=True))
    is_only_punctuation = all(unicodedata.category(c)[0] not in "LMNS" for c in prediction)
    if is_blank(prediction) or (is_only_punctuation and has_words):
        return Decision(Verdict(correct=False, empty=True), "empty")
    if not has_words:  # "+", "?!"
        correct = bool(gold.strip()) and gold.strip() in prediction
        return Decision(Verdict(correct=correct, empty=False), "literal text")
    compared = Compared(gold, prediction, question)
    for name, rule in RULES.items():
        if (ruled := rule(compared)) is not None:
            return Decision(Verdict(correct=ruled, empty=False), name)
    found = features(compared)
    logit = sum(weight * found[name] for name, weight in WEIGHTS.items())
    probability = 1 / (1 + math.exp(-logit))
    verdict = Verdict(correct=probability >= THRESHOLD, empty=False)
    return Decision(verdict, "weights", probability, found)


def is_english(gold: str, prediction: str, question: str = "") -> bool:
    """Whether the grader can read a question (without one, an answer) with its gold answer."""
    return words_lib.is_english(f"{question or prediction} {gold}")


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
      gold_text: the gold answer without asides in parentheses.
      gold: its words.
      text: the prediction's answer, with what means the same as the gold answer replaced by it
        (`variants.insert`).
      words: its `marked_words`.
      asked: words of the question.
      weights: how much each gold word tells: little if a stop word or a word of the question.
      telling: the gold words that tell most.
      forms: words of the prediction that are forms of gold words, with these and how surely.
      denied: for each of `words`, whether the prediction denies it.
      held: how surely it holds each gold word.
    """

    def __init__(self, gold: str, prediction: str, question: str = ""):
        """Compares; the gold answer must hold a word."""
        shorter = _ASIDE.sub("", gold)
        self.gold_text = shorter if words(shorter) else gold
        self.gold = words(self.gold_text) or words(self.gold_text, articles=True)
        self.text = variants.insert(self.gold_text, answer_of(prediction))
        left_out = words_lib.ARTICLES - {*self.gold}
        self.words = [word for word in marked_words(self.text) if word not in left_out]
        self.question, self.asked = question, {*words(question)}
        self.weights = _weights(self.gold, self.asked)
        self.telling = {word for word, weight in self.weights.items() if weight == _MUCH}
        self.forms = self._find_forms()
        self.denied = [False] * len(self.words)
        if not NEGATIONS & {*self.gold, *self.asked}:
            wanted = [self.forms.get(word, ("", 0))[0] in self.telling for word in self.words]
            self.denied = denied(self.words, wanted, self.asked)
        self.held = dict.fromkeys(self.weights, 0.0)
        for word, no in zip(self.words, self.denied, strict=True):
            if word in self.forms and not no:
                of, surely = self.forms[word]
                self.held[of] = max(surely, self.held[of])

    def _find_forms(self) -> dict[str, tuple[str, float]]:
        names = {*words(" ".join(_CAPITALISED.findall(self.gold_text)))}
        index: dict[str, str] = {}
        for word in self.weights:
            for key in keys(word):
                if not (key[0] == "~" and word in names):  # Nigeria is no form of Niger
                    index.setdefault(key, word)
        found: dict[str, tuple[str, float]] = {}
        for word in {*self.words} - MARKS:
            for key, surely in keys(word).items():
                if key in index:
                    found.setdefault(word, (index[key], surely))
        return found


def _weights(gold: Iterable[str], asked: Iterable[str]) -> dict[str, float]:
    """How much each gold word tells."""
    known = {key for word in asked for key in keys(word)}
    weights = {}
    for word in gold:
        is_asked = not has_digit(word) and not known.isdisjoint(keys(word))
        weights[word] = _LITTLE if word in STOP_WORDS else _ASKED if is_asked else _MUCH
    # Where the question holds the whole answer ("larger or smaller?") its words do count.
    return weights if _MUCH in weights.values() else dict.fromkeys(gold, _MUCH)


def _same_words(c: Compared) -> bool | None:
    """The gold answer and nothing else."""
    return True if [word for word in c.words if word not in MARKS] == c.gold else None


_YES = frozenset("yes yeah yep true correct indeed right".split())
_NO = frozenset("no nope false incorrect wrong".split())
_BEFORE_YES = MARKS | {"is", "answer"}


def _yes_or_no(c: Compared) -> bool | None:
    """Gold answers of yes, no, true or false: what the first sentence says."""
    if len(c.gold) != 1 or c.gold[0] not in ("yes", "no", "true", "false"):
        return None
    sentence = [*c.words[:1], *itertools.takewhile(words_lib.SENTENCE.__ne__, c.words[1:])]
    said = [
        word in _YES
        for before, word in itertools.pairwise((words_lib.SENTENCE, *sentence))
        if word in _YES | _NO and before in _BEFORE_YES
    ]
    # Without a plain word, a sentence affirms a question unless one of the two is negative.
    is_negative = bool(NEGATIONS & c.asked) != bool(NEGATIONS.intersection(sentence))
    says_yes = said[0] if said else not is_negative
    return says_yes == (c.gold[0] in _YES)


def _other_number_or_month(c: Compared) -> bool | None:
    """A gold number or month is missing, and the prediction has one that the question has not."""
    for kind in (has_digit, words_lib.MONTHS.__contains__):
        gold, held = set(filter(kind, c.gold)), set(filter(kind, c.words))
        if gold - held and held - gold - c.asked:
            return False
    return None


def _other_unit_or_letter(c: Compared) -> bool | None:
    """A gold number has another unit in the prediction only, a gold word another letter."""
    held = _labels(c.words)
    for word, labels in _labels(c.gold).items():
        if labels and held[word] and labels.isdisjoint(held[word]):
            return False
    return None


def _labels(some: Sequence[str]) -> dict[str, set[str]]:
    """The units after each number, and the letters after each word ("type" → "A")."""
    found: dict[str, set[str]] = collections.defaultdict(set)
    for word, label in itertools.pairwise(some):
        if has_digit(word):
            found[word] |= {label, f"{label}s"} & words_lib.UNITS
        elif re.fullmatch("[Ab-hj-z]", label):
            found[word].add(label)
    return found


# A list has so many items for one of the gold answer's, of so many words each.
_LISTED, _ITEM_WORDS = 6, 3


def _mere_list(c: Compared) -> bool | None:
    """A list of many things, the gold answer among them by accident."""
    items, own = _items(c.words), _items(marked_words(c.gold_text))
    is_list = len(items) >= _LISTED * len(own) and max(map(len, items)) <= _ITEM_WORDS
    return False if is_list and not any(c.denied) else None


def _part_missing(c: Compared) -> bool | None:
    """Of a gold answer "A and B", nothing of one part is there."""
    parts = [c.telling.intersection(part) for part in _items(marked_words(c.gold_text))]
    is_missing = any(part and not any(c.held[word] for word in part) for part in parts)
    return False if "and" in c.gold and is_missing else None


def _items(some: Sequence[str]) -> list[list[str]]:
    """The words between marks, "and" and "or"."""
    groups = itertools.groupby(some, key=(MARKS | {"and", "or"}).__contains__)
    return [list(group) for is_between, group in groups if not is_between]


# In this order; the first that gives a verdict decides.
RULES: Mapping[str, Callable[[Compared], bool | None]] = {
    "same words": _same_words,
    "yes or no": _yes_or_no,
    "other number or month": _other_number_or_month,
    "other unit or letter": _other_unit_or_letter,
    "mere list": _mere_list,
    "part missing": _part_missing,
}


def features(c: Compared) -> dict[str, float]:
    """What the grader weighs; all but other_names lie in 0 to 1."""
    affirmed = {w for w, no in zip(c.words, c.denied, strict=True) if not no} - MARKS
    hits = sum(word in c.forms and c.forms[word][0] in c.telling for word in c.words)
    aside = MARKS | STOP_WORDS | _TITLES | c.asked | c.forms.keys()
    others = [word for word in c.words if word not in aside]
    names = {*words(" ".join(_CAPITALISED.findall(c.text)))}
    recall = sum(c.weights[word] * surely for word, surely in c.held.items())
    recall /= sum(c.weights.values())
    pieces, is_name = _pieces(c.telling), _CAPITALISED.search(c.gold_text) is not None
    return {
        "bias": 1,
        # Share of the gold answer, by weight, that is there.
        "recall": recall,
        # Share of the three-letter pieces of the telling gold words.
        "letters": len(pieces & _pieces(affirmed)) / max(1, len(pieces)),
        # Share of gold words among the telling words of the prediction.
        "precision": hits / max(1, hits + len(others)),
        # The gold answer is a name, and part of it is missing while others are there.
        "other_names": is_name * math.log1p(len(names.intersection(others))) * (1 - recall),
        # The question asks why or how.
        "why": _WHY.match(c.question) is not None,
    }


def _pieces(some: Iterable[str]) -> set[str]:
    """All stretches of three letters, beginnings of words marked."""
    return {f"^{word}"[i : i + 3] for word in some for i in range(max(1, len(word) - 1))}
