"""Other ways to write a gold answer: acronyms, years of a century or decade, rounded numbers.

Each is found in the prediction's text and replaced by the gold answer, so that what compares the
two afterwards need not know about it.
"""

import re

from seal_jax.tasks.knowledge.words import STOP_WORDS

_ACRONYM = re.compile(r"(?<![\w.])(?:[A-Z]{2,6}|(?:[A-Z]\.){2,6})(?!\w)")
_CENTURY = re.compile(r"\b(\d{1,2})(?:st|nd|rd|th) century\b(?! bc)", re.IGNORECASE)
_DECADE = re.compile(r"\b(\d{3})0['’]?s\b")
_YEAR = re.compile(r"(?<![\w.,])(\d{3,4})(?![\w]|[.,]\d|\s*bc)", re.IGNORECASE)
_NUMBER = r"(?<![\w.,])(\d[\d,]*(?:\.\d+)?)(?!\w|[.,]\d)"
_ABOUT = re.compile(
    rf"\b(?:about|around|approximately|roughly|nearly|almost|circa) [$£€]?{_NUMBER}"
)
_ROUNDING = 0.05


def insert(gold: str, prediction: str) -> str:
    """The prediction with the gold answer in place of what means the same.

    >>> insert("World Health Organization", "the WHO")
    'the World Health Organization'
    >>> insert("WHO", "the World Health Organization")
    'the WHO'
    >>> insert("the 16th century", "in 1566")
    'in the 16th century'
    >>> insert("2.1%", "about 2%")
    'about 2.1%'
    """
    gold = gold.strip().rstrip(".,;")
    return _numbers(gold, prediction if gold in prediction else _acronyms(gold, prediction))


def _acronyms(gold: str, prediction: str) -> str:
    """The gold phrase for its acronym, or the gold acronym for its phrase."""
    letters = gold.replace(".", "")
    if re.fullmatch(r"[A-Z]{2,6}", letters):
        phrase = r"\w*[ -](?:(?:of|the|and|for|in|de) )?".join(letters)
        # Two words in lower case are too likely to begin so by chance.
        case = re.IGNORECASE if len(letters) > 2 else 0
        return re.sub(rf"\b{phrase}\w*", gold, prediction, count=1, flags=case)
    every = re.findall(r"[^\W\d_]+", gold)
    words = [word for word in every if word.lower() not in STOP_WORDS]
    short = {"".join(word[0] for word in some).upper() for some in (every, words)}
    return _ACRONYM.sub(lambda m: gold if m[0].replace(".", "") in short else m[0], prediction)


def _numbers(gold: str, prediction: str) -> str:
    """Years within a gold century or decade; a number "about" the one of the gold answer."""
    numbers = re.findall(_NUMBER, gold)
    pattern, exact = _YEAR, gold
    if century := _CENTURY.search(gold):
        low, high = 100.0 * int(century[1]) - 99, 100.0 * int(century[1])
    elif decade := _DECADE.search(gold):
        low, high = 10.0 * int(decade[1]), 10.0 * int(decade[1]) + 9
    elif len(numbers) == 1 and not _YEAR.fullmatch(numbers[0]):
        pattern, exact, value = _ABOUT, numbers[0], float(numbers[0].replace(",", ""))
        low, high = value * (1 - _ROUNDING), value * (1 + _ROUNDING)
    else:
        return prediction

    def replace(match: re.Match) -> str:
        is_shorter = len(match[1].rstrip("0.,")) < len(exact.rstrip("0.,"))
        is_near = low <= float(match[1].replace(",", "")) <= high
        return match[0].replace(match[1], exact) if is_near and is_shorter else match[0]

    return pattern.sub(replace, prediction)
