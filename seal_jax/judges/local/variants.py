"""Other ways to write a gold answer: acronyms, surnames, years of a century or decade.

Each is found in the prediction's text and replaced by the gold answer, so that what compares the
two afterwards need not know about it.
"""

import re

from seal_jax.tasks.knowledge.words import STOP_WORDS

_ACRONYM = re.compile(r"(?<![\w.])(?:[A-Z]{2,6}|(?:[A-Z]\.){2,6})(?![\w])")
_WORD = re.compile(r"[^\W\d_]+")
_NAME = re.compile(r"[^\W\d_][\w.'’-]*(?: [^\W\d_][\w.'’-]*){1,3}")
_PARTICLES = frozenset("de da di du del della der den van von la le al bin ibn el".split())
_TITLES = frozenset(
    """mr mrs ms dr sir lord lady saint st king queen pope prince princess president general
    captain admiral professor father explorer""".split()
)
_PERSON = re.compile(r"\b(?:who|whom|whose)\b", re.IGNORECASE)
_CENTURY = re.compile(r"\b(\d{1,2})(?:st|nd|rd|th) century\b(?! bc)", re.IGNORECASE)
_DECADE = re.compile(r"\b(\d{3})0['’]?s\b")
_NUMBER = re.compile(r"(?<![\w.,])\d[\d,]*(?:\.\d+)?(?![\w]|[.,]\d)")
_ABOUT = re.compile(
    r"\b(about|around|approximately|roughly|nearly|almost|circa) ([$£€]?)" + _NUMBER.pattern
)
_ROUNDING = 0.05
_YEAR = re.compile(r"(?<![\w.,])\d{3,4}(?![\w]|[.,]\d|\s*bc)", re.IGNORECASE)


def insert(gold: str, prediction: str, question: str = "") -> str:
    """The prediction with the gold answer in place of what means the same.

    >>> insert("Christopher Columbus", "It was Columbus.", "Who sailed west?")
    'It was Christopher Columbus.'
    >>> insert("WHO", "the World Health Organization")
    'the WHO'
    >>> insert("the 16th century", "in 1566")
    'in the 16th century'
    """
    gold = gold.strip().rstrip(".,;")
    for replace in (_contracted, _spelled_out, _periods, _rounded):
        prediction = replace(gold, prediction)
    # Without a question, a name may be anybody's.
    return _surnames(gold, prediction) if not question or _PERSON.search(question) else prediction


def _initials(words: list[str]) -> str:
    return "".join(word[0] for word in words).upper()


def _contracted(gold: str, prediction: str) -> str:
    """Acronyms of a gold phrase, spelled out."""
    every = _WORD.findall(gold)
    words = [word for word in every if word.lower() not in STOP_WORDS]
    capitals = [word for word in words if word[0].isupper()]
    wanted = {_initials(some) for some in (every, words, capitals) if len(some) > 1}
    return _ACRONYM.sub(
        lambda match: gold if match[0].replace(".", "") in wanted else match[0], prediction
    )


def _spelled_out(gold: str, prediction: str) -> str:
    """The first words whose initials are the gold acronym, contracted."""
    acronym = gold.replace(".", "")
    if not re.fullmatch(r"[A-Z]{2,6}", acronym):
        return prediction
    words = [m for m in _WORD.finditer(prediction) if m[0].lower() not in STOP_WORDS]
    if len(acronym) == 2:  # two lower-case words are too likely to begin so by chance
        words = [match for match in words if match[0][0].isupper()]
    start = _initials([match[0] for match in words]).find(acronym)
    if start < 0:
        return prediction
    first, last = words[start].start(), words[start + len(acronym) - 1].end()
    if re.search(r"[.,;:!?()\n]", prediction[first:last]):  # not one name
        return prediction
    return prediction[:first] + gold + prediction[last:]


def _periods(gold: str, prediction: str) -> str:
    """Years within the century or decade that the gold answer names."""
    if century := _CENTURY.search(gold):
        low, high = 100 * int(century[1]) - 99, 100 * int(century[1])
    elif decade := _DECADE.search(gold):
        low, high = 10 * int(decade[1]), 10 * int(decade[1]) + 9
    else:
        return prediction
    return _YEAR.sub(lambda m: gold if low <= int(m[0]) <= high else m[0], prediction)


def _rounded(gold: str, prediction: str) -> str:
    """A number given as rounded ("about 2 %") where the gold answer has the one exact number."""
    numbers = _NUMBER.findall(gold)
    if len(numbers) != 1 or _YEAR.fullmatch(numbers[0]):
        return prediction
    exact = float(numbers[0].replace(",", ""))

    def replace(match: re.Match) -> str:
        rough = match[0].split()[-1].lstrip("$£€")
        value = float(rough.replace(",", ""))
        digits = len(rough.replace(",", "").replace(".", "").rstrip("0"))
        is_shorter = digits < len(re.sub("[.,]", "", numbers[0]).rstrip("0"))
        if is_shorter and abs(value - exact) <= _ROUNDING * exact:
            return match[0].replace(rough, numbers[0])
        return match[0]

    return _ABOUT.sub(replace, prediction)


def _surnames(gold: str, prediction: str) -> str:
    """The last name of a person: made whole, or left out where another first name is before it."""
    *first, last = gold.split()
    if not _NAME.fullmatch(gold) or len(last) < 4:
        return prediction
    if not all(word[0].isupper() or word.lower() in _PARTICLES for word in (*first, last)):
        return prediction

    own = {word.lower() for word in first} - _PARTICLES
    is_shared = own.isdisjoint(word.lower() for word in _WORD.findall(prediction))

    def whole(match: re.Match) -> str:
        before = match["before"] or ""
        word = before.strip()
        is_free = not word or word[0].islower() or word.lower().strip(".") in _TITLES
        if is_free or word.lower() in STOP_WORDS:
            return before + gold
        return before if is_shared else match[0]  # somebody else of that name

    pattern = rf"(?P<before>\b[^\W\d_][\w.'’-]{{0,40}}\s+)?\b{re.escape(last)}\b(?! [A-Z][a-z])"
    return re.sub(pattern, whole, prediction)
