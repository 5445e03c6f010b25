"""The local grader: does a free-text prediction give the gold answer?

First come rules for what can be told for certain (`RULES`). Where none applies, the features of
`features.py` are weighed: a logistic regression, fitted to the yes/no verdicts of a judge model by
`calibration.py`. docs/grading.md says how far the two agree and where they differ.
"""

import dataclasses
import itertools
import math
import unicodedata
from collections.abc import Callable, Mapping, Sequence

from seal_jax.judges.local.denial import NEGATIONS
from seal_jax.judges.local.features import Compared, features
from seal_jax.tasks.knowledge.words import (
    MARKS,
    MONTHS,
    SENTENCE,
    STOP_WORDS,
    UNITS,
    has_digit,
    marked_words,
    words,
)
from seal_jax.tasks.protocol import Verdict
from seal_jax.tasks.texts import is_blank

# Results record it: verdicts of graders with different names are not to be compared.
GRADER = "local-2"


@dataclasses.dataclass(frozen=True)
class Weights:
    """What the features count for, and the probability from which an answer is correct."""

    of: Mapping[str, float]
    bias: float
    threshold: float

    def probability(self, found: Mapping[str, float]) -> float:
        """The probability of a correct answer with these features."""
        logit = self.bias + sum(weight * found[name] for name, weight in self.of.items())
        return 1 / (1 + math.exp(-logit))


# Printed as `fit` by `python -m seal_jax grade`, on the rows that docs/grading.md names.
WEIGHTS = Weights(
    of={
        "phrase": 0.59,
        "recall": 0.63,
        "window": 0.64,
        "window_squared": 0.46,
        "letters": 0.72,
        "complete": 0.18,
        "first_sentence": 0.86,
        "precision": 1.25,
        "other_names": -0.62,
        "no_number": -0.25,
        "parts": -0.53,
        "capitals": -0.27,
        "why": -0.47,
        "refusal": -1.04,
        "goes_on": -0.81,
    },
    bias=-2.12,
    threshold=0.46,
)


@dataclasses.dataclass(frozen=True)
class Decision:
    """A verdict and how it came about.

    Attributes:
      verdict: the verdict.
      by: the rule's name, or "weights".
      probability: what the weights gave; None where a rule decided.
    """

    verdict: Verdict
    by: str
    probability: float | None = None


def grade(gold: str, prediction: str, question: str = "") -> Verdict:
    """The verdict on one prediction.

    One of which nothing is left without punctuation and control characters is empty and wrong.

    Args:
      gold: the gold answer.
      prediction: what the model answered.
      question: what it was asked. Words that only repeat the question count for little, and some
        short forms (a surname) are taken for the gold answer only if the question fits.

    >>> grade("twenty-one", "There are 21.")
    Verdict(correct=True, empty=False)
    >>> grade("Rome", "It was not Rome but Paris.", "Where was the treaty signed?")
    Verdict(correct=False, empty=False)
    >>> grade("twenty-one", " ...")
    Verdict(correct=False, empty=True)
    """
    return decide(gold, prediction, question).verdict


def decide(gold: str, prediction: str, question: str = "") -> Decision:
    """As `grade`, with the reason."""
    if says_nothing(gold, prediction):
        return Decision(Verdict(correct=False, empty=True), "empty")
    name, correct, found = weigh(gold, prediction, question)
    if correct is not None:
        return Decision(Verdict(correct=correct, empty=False), name)
    probability = WEIGHTS.probability(found)
    correct = probability >= WEIGHTS.threshold
    return Decision(Verdict(correct=correct, empty=False), "weights", probability)


def says_nothing(gold: str, prediction: str) -> bool:
    """Whether a prediction is blank, or only punctuation where the gold answer is not."""
    if is_blank(prediction):
        return True
    is_only_punctuation = all(unicodedata.category(c)[0] not in "LMNS" for c in prediction)
    return is_only_punctuation and bool(words(gold, articles=True))


def weigh(
    gold: str, prediction: str, question: str
) -> tuple[str, bool | None, Mapping[str, float]]:
    """A rule's name and verdict, or "weights", None and the features."""
    if not words(gold, articles=True):  # "+", "?!"
        return "literal text", bool(gold.strip()) and gold.strip() in prediction, {}
    compared = Compared(gold, prediction, question)
    for name, rule in RULES.items():
        if (correct := rule(compared)) is not None:
            return name, correct, {}
    return "weights", None, features(compared)


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
    ends = c.words.index(SENTENCE, 1) if SENTENCE in c.words[1:] else len(c.words)
    says_yes = _says_yes(c.words[:ends], is_negative=bool(NEGATIONS & c.asked))
    return says_yes == (c.gold[0] in _YES)


def _says_yes(sentence: Sequence[str], *, is_negative: bool) -> bool:
    """Whether a sentence affirms a question, which may be a negative one."""
    for before, word in zip((SENTENCE, *sentence), sentence, strict=False):
        if word in _YES | _NO and before in _BEFORE_YES:
            return word in _YES
        if before == "not" and word in _YES:
            return False
    return is_negative == bool(NEGATIONS.intersection(sentence))


def _other_number(c: Compared) -> bool | None:
    """A gold number is missing while the prediction has one that the question has not."""
    numbers, held = set(filter(has_digit, c.gold)), set(filter(has_digit, c.words))
    return False if numbers - held and held - numbers - c.asked else None


def _other_unit(c: Compared) -> bool | None:
    """A gold number stands in the prediction, with another unit only."""
    held = _quantities(c.words)
    for number, unit in _quantities(c.gold):
        units = {other for same, other in held if same == number}
        if units and unit not in units:
            return False
    return None


def _quantities(some: Sequence[str]) -> set[tuple[str, str]]:
    """Numbers with the units after them."""
    return {
        (number, unit)
        for number, unit in itertools.pairwise(some)
        if has_digit(number) and unit in UNITS
    }


def _other_month(c: Compared) -> bool | None:
    """The gold answer is a date, and the prediction has other months only."""
    months, held = MONTHS.intersection(c.gold), MONTHS.intersection(c.words) - c.asked
    is_date = any(map(has_digit, c.gold))
    return False if is_date and months and held and not months & held else None


# A list has so many items for one of the gold answer's, of so many words each.
_LISTED, _ITEM_WORDS = 6, 3


def _mere_list(c: Compared) -> bool | None:
    """A list of many things, the gold answer among them by accident.

    Not one that begins with a sentence that holds the answer: the rest only adds to it.
    """
    items, own = _items(c.words), _items(marked_words(c.gold_text))
    is_list = len(items) >= _LISTED * len(own) and all(
        len(item) <= _ITEM_WORDS and not STOP_WORDS.intersection(item) for item in items[1:]
    )
    opens = len(items[0]) if items else 0
    answers_first = opens > _ITEM_WORDS and any(map(c.is_telling, c.like[:opens]))
    return False if is_list and not answers_first and not any(c.denied) else None


def _part_missing(c: Compared) -> bool | None:
    """Of a gold answer "A and B", nothing of one part is there."""
    if "and" not in c.gold:
        return None
    for part in _items(marked_words(c.gold_text)):
        telling = [word for word in part if c.weights.get(word) == max(c.weights.values())]
        if telling and not any(c.best[word] for word in telling):
            return False
    return None


def _items(some: Sequence[str]) -> list[list[str]]:
    """The words between marks, "and" and "or"."""
    items: list[list[str]] = [[]]
    for word in some:
        if word in MARKS or word in ("and", "or"):
            items.append([])
        else:
            items[-1].append(word)
    return [item for item in items if item]


# In this order; the first that gives a verdict decides.
RULES: Mapping[str, Callable[[Compared], bool | None]] = {
    "same words": _same_words,
    "yes or no": _yes_or_no,
    "other number": _other_number,
    "other unit": _other_unit,
    "other month": _other_month,
    "mere list": _mere_list,
    "part missing": _part_missing,
}
