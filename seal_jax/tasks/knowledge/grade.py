import dataclasses
import math
import re
import unicodedata
from collections.abc import Mapping

from seal_jax.tasks.base import Verdict
from seal_jax.tasks.knowledge.features import NAMES, Compared, answer_of, features
from seal_jax.tasks.knowledge.parse import is_blank
from seal_jax.tasks.knowledge.words import MARKS, MONTHS, SENTENCE, STOP_WORDS, UNITS, has_digit, marked_words, words
from seal_jax.tasks.knowledge.denial import NEGATIONS

GRADER = "local-2"


@dataclasses.dataclass(frozen=True)
class Weights:
    of: Mapping[str, float]
    bias: float
    threshold: float

    def probability(self, features: Mapping[str, float]) -> float:
        logit = self.bias + sum(self.of[name] * features[name] for name in NAMES)
        return 1 / (1 + math.exp(-max(-50.0, min(50.0, logit))))


WEIGHTS = Weights(dict.fromkeys(NAMES, 0.0), 0.0, 0.5)


@dataclasses.dataclass(frozen=True)
class Scored:
    rule: bool | None
    features: Mapping[str, float]
    name: str = ""


def grade(gold: str, prediction: str, question: str = "") -> Verdict:
    if is_part_missing(gold, prediction):
        return Verdict(correct=False, empty=True)
    scored = score_inputs(gold, prediction, question)
    if scored.rule is not None:
        return Verdict(correct=scored.rule, empty=False)
    return Verdict(correct=WEIGHTS.probability(scored.features) >= WEIGHTS.threshold, empty=False)


def is_part_missing(gold: str, prediction: str) -> bool:
    if is_blank(prediction):
        return True
    return not words(prediction, articles=True) and bool(words(gold, articles=True)) and not any(unicodedata.category(c)[0]=="S" for c in prediction)


def score_inputs(gold: str, prediction: str, question: str) -> Scored:
    if is_part_missing(gold, prediction):
        return Scored(False, {}, "nothing")
    if not words(gold, articles=True):
        return Scored(gold.strip() in prediction, {}, "literal")
    c = Compared(gold, prediction, question)
    for rule in (_same, _yes_or_no, _other_number, _other_unit, _other_month, _accident, _part_missing):
        verdict = rule(c)
        if verdict is not None:
            return Scored(verdict, {}, rule.__name__)
    return Scored(None, features(c))


def _same(c):
    return True if [w for w in c.words if w not in MARKS] == c.gold else None

_YES = frozenset("yes yeah true correct indeed right".split())
_NO = frozenset("no nope false incorrect wrong".split())

def _yes_or_no(c):
    if c.gold not in (["yes"], ["no"], ["true"], ["false"]):
        return None
    said = c.words
    for i, word in enumerate(said[:1]):
        if word in _YES | _NO:
            return (word in _YES) == (c.gold[0] in _YES)
    first = said[: said.index(SENTENCE, 1)] if SENTENCE in said[1:] else said
    pol = None
    for i, w in enumerate(first):
        if w in _YES|_NO and (i==0 or first[i-1] in MARKS or first[i-1] in ("is","answer","be")):
            pol = w in _YES
            break
        if w=="not" and i+1<len(first) and first[i+1] in _YES:
            pol=False; break
    if pol is None:
        pol = not (NEGATIONS & set(first)) or bool(NEGATIONS & c.asked)
    return pol == (c.gold[0] in _YES)


def _other_number(c):
    numbers = {w for w in c.gold if has_digit(w)}
    plain=set(c.words)
    missing = numbers - plain
    others = {w for w in plain if has_digit(w)} - numbers - c.asked
    return False if missing and others else None

def _quantities(ws):
    return {(a,b) for a,b in zip(ws,ws[1:]) if has_digit(a) and b in UNITS}
def _other_unit(c):
    wanted=_quantities(c.gold); held=_quantities(c.words)
    for number,unit in wanted:
        same={u for n,u in held if n==number}
        if same and unit not in same: return False
    return None
def _other_month(c):
    wanted={w for w in c.gold if w in MONTHS}; held={w for w in c.words if w in MONTHS}-c.asked
    return False if wanted and held and not wanted & held and any(has_digit(w) for w in c.gold) else None

_LISTED, _ITEM_WORDS = 6, 3


def _accident(c: Compared) -> bool | None:
    """A bare list of many things that happens to hold the answer."""
    own = len(_items(marked_words(c.gold_text)))
    found = _items(c.words)
    opens = sum(map(len, found[:1]))
    answers_first = opens > _ITEM_WORDS and any(map(c.is_telling, c.like[:opens]))
    if not answers_first and len(found) >= _LISTED * own and all(
        len(item) <= _ITEM_WORDS and not STOP_WORDS.intersection(item) for item in found[1:]
    ):
        return False
    return None

def _items(ws):
    out=[[]]
    for w in ws:
        if w in MARKS or w in ("and","or"): out.append([])
        else: out[-1].append(w)
    return [i for i in out if i]

def _part_missing(c):
    parts = _items(marked_words(c.gold_text))
    if len(parts) < 2 or "and" not in c.gold: return None
    for p in parts:
        tell=[w for w in p if c.weights.get(w)==1]
        if tell and not any(c.best[w] for w in tell): return False
    return None
