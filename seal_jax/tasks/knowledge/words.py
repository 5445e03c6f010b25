"""Texts as lists of words that can be compared: normalisation, units, and likeness of words."""

import functools
import re
import unicodedata

from seal_jax.tasks.knowledge import lexicon
from seal_jax.tasks.knowledge.numerals import to_digits

ARTICLES = frozenset(("a", "an", "the"))
STOP_WORDS = frozenset(
    """a an the of in on at to for by with from as is was were are be been being it its he she his
    her their they them this that these those and or which who whom whose what when where how why
    did do does had has have will would could can may might must also there into than then such
    about after before during over under between through up out so if not""".split()
)
# What `marked_words` leaves of punctuation: ends of sentences, of their parts, and of questions.
SENTENCE, PART, QUESTION = ".", ",", "?"
MARKS = frozenset((SENTENCE, PART, QUESTION))

_MONTHS = (
    "january february march april may june july august september october november december".split()
)
MONTHS = frozenset(_MONTHS)
_MONTH_SHORT = {month[:3]: month for month in _MONTHS if month != "may"} | {"sept": "september"}
_UNITS = {
    "km": "kilometers", "m": "meters", "cm": "centimeters", "mm": "millimeters", "mi": "miles",
    "ft": "feet", "yd": "yards", "kg": "kilograms", "g": "grams",
    "mg": "milligrams", "lb": "pounds", "lbs": "pounds", "oz": "ounces", "ml": "milliliters",
    "ha": "hectares", "hr": "hours", "hrs": "hours", "min": "minutes", "mins": "minutes",
    "sec": "seconds", "mph": "miles per hour",
    "kph": "kilometers per hour", "km/h": "kilometers per hour", "hz": "hertz", "kw": "kilowatts",
    "mw": "megawatts",
    "°c": "celsius", "°f": "fahrenheit", "°": "degrees",
    "kilometres": "kilometers", "kilometre": "kilometers", "metres": "meters", "metre": "meters",
    "centimetres": "centimeters", "millimetres": "millimeters", "litres": "liters",
    "litre": "liters", "tonnes": "tons", "tonne": "tons", "foot": "feet",
}  # fmt: skip
# Words that name a unit, in the plural: "5 km" and "5 miles" hold the same number.
UNITS = frozenset(
    word for name in _UNITS.values() for word in name.split() if word not in ("per", "degrees")
) | {"dollars", "euros", "yen", "days", "weeks", "months", "years", "percent"}
_SAME = {
    "bce": "bc", "ce": "ad", "usa": "us", "britain": "uk", "british": "uk", "dr": "doctor",
    "st": "saint", "mt": "mount", "vs": "versus", "v": "versus",
}  # fmt: skip
_SAME_PHRASES = (
    (re.compile(r"\bunited states(?: of america)?\b"), "us"),
    (re.compile(r"\b(?:united kingdom|great britain)\b"), "uk"),
    (re.compile(r"\bdegrees? (?=celsius|fahrenheit)"), ""),
    (re.compile(r"\bper cent\b"), "percent"),
    (re.compile(r"\bworld war (?:ii|two)\b|\bwwii\b"), "world war 2"),
    (re.compile(r"\bworld war (?:i|one)\b|\bwwi\b"), "world war 1"),
    (re.compile(r"\bwon't\b"), "will not"),
    (re.compile(r"\bcan(?:'t|not)\b"), "can not"),
    (re.compile(r"n't\b"), " not"),
)

_THOUSANDS = re.compile(r"(?<![\d,.])\d{1,3}(?:,\d{3})+(?!\d)")
_SCALE_COMMA = re.compile(r"\b(hundred|thousand|million|billion),(?=\s)")
_POSSESSIVE = re.compile(r"'s\b|(?<=s)'(?=\s|$)")
_INITIALS = re.compile(r"\b(?:[^\W\d_]\.){2,}")  # "U.S." is one word, as "US" is
_POINT = re.compile(r"(?<=\d)\.(?=\d)")
_MONEY = re.compile(
    r"(us)?([$£€¥])\s?(\d[\d.,]*\d|\d)((?:\s(?:hundred|thousand|million|billion|trillion))*)"
)
_CURRENCIES = {"$": "dollars", "£": "pounds", "€": "euros", "¥": "yen"}
_UNIT = re.compile(
    r"(?<=\d)[\s-]?("
    + "|".join(sorted(map(re.escape, _UNITS), key=len, reverse=True))
    + r")(?!\s+\d)(?![^\W_]|/)"
)
_ISO_DATE = re.compile(r"\b(\d{4})-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])\b")
_MONTH = re.compile(
    r"(?:(?<=\d)|(?<=\d[ ]))\s?(" + "|".join(_MONTH_SHORT) + r")\b\.?"
    r"|\b(" + "|".join(_MONTH_SHORT) + r")\b\.?(?=\s\d)"
)
_PAUSE = re.compile(
    r"(?<![.!?;:,])[.!?;:,]+(?=[\s\"'”’)\]]|$)|\n+|[()\"“”]|\s[-–—]{1,3}\s|—|[。？！，、；]"
)
# Scripts without spaces between words (Thai, Lao, Burmese, Khmer, kana, Han): a word a character.
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U0003ffff]"
)
_SUFFIXES = sorted(
    """ational ation ations ition itions ment ments ness ity ities ism isms ist ists istic ally ing
    ings ed ly es s al ical ic ics ive ous er ers or ors ant ent ance ence ian ians an ans ese ish
    able ible ion ions ize ized izes izing ise ised ising ify ied ies y e a i""".split(),
    key=len,
    reverse=True,
)
_ENDINGS = (
    ("ies", "y"), ("es", ""), ("s", ""), ("ing", ""), ("ing", "e"), ("ed", ""), ("ed", "e"),
    ("ly", ""),
)  # fmt: skip
_STEM = 4  # letters that a stem has at least


def marked_words(text: str) -> list[str]:
    """The words of a text with `MARKS` where it pauses; numbers as digits, units spelled out.

    Case, accents, possessives and the way numbers, dates, units and a few names are written do
    not count. Control characters separate words.

    >>> marked_words("On 2001-05-07 the U.S. paid $1,250.50.")
    ['on', '7', 'may', '2001', 'the', 'us', 'paid', '1250.5', 'dollars', '.']
    """
    text = unicodedata.normalize("NFKC", text.replace("\0", " ")).casefold().replace("\u2019", "'")
    # Accents of Latin, Greek and Cyrillic go; the vowel signs of other scripts stay.
    text = "".join(c for c in unicodedata.normalize("NFD", text) if not "\u0300" <= c <= "\u036f")
    text = _INITIALS.sub(lambda match: match[0].replace(".", ""), text)
    for pattern, same in _SAME_PHRASES:
        text = pattern.sub(same, text)
    text = _ISO_DATE.sub(lambda m: f"{int(m[3])} {_MONTHS[int(m[2]) - 1]} {m[1]}", text)
    text = _MONTH.sub(lambda match: f" {_MONTH_SHORT[match[1] or match[2]]}", text)
    text = _MONEY.sub(lambda m: f" {m[3]}{m[4]} {_CURRENCIES[m[2]]}", text)
    text = _THOUSANDS.sub(lambda match: match[0].replace(",", ""), text)
    text = _SCALE_COMMA.sub(r"\1", text)
    text = _UNIT.sub(lambda match: f" {_UNITS[match[1]]}", text)
    text = _POSSESSIVE.sub("", text).replace("'", "").replace("%", " percent ")
    text = _PAUSE.sub(lambda match: _mark(match[0]), _POINT.sub("\0", text))
    text = _UNSPACED.sub(lambda match: f" {match[0]} ", text)
    # Letters, marks and digits make up words; "\0" is the decimal point, \1 to \3 are pauses.
    kept = "".join(c if c <= "\3" or unicodedata.category(c)[0] in "LMN" else " " for c in text)
    for mark, word in zip("\1\2\3", (SENTENCE, PART, QUESTION), strict=True):
        kept = kept.replace(mark, f" {word} ")
    return [_SAME.get(word, word) for word in to_digits(kept.replace("\0", ".").split())]


def _mark(pause: str) -> str:
    """The stand-in for a run of punctuation."""
    if "?" in pause or "？" in pause:
        return "\3"
    return "\1" if any(c in ".!;:\n。！；" for c in pause) else "\2"


def words(text: str, *, articles: bool = False) -> list[str]:
    """The words and numbers that count when answers are compared.

    Args:
      text: any text.
      articles: whether "a", "an" and "the" are kept.

    >>> words("The Café's twenty-first guest ran 5 km.")
    ['cafe', '21', 'guest', 'ran', '5', 'kilometers']
    """
    left_out = MARKS if articles else MARKS | ARTICLES
    return [word for word in marked_words(text) if word not in left_out]


def has_digit(word: str) -> bool:
    """Whether a word is or contains a number."""
    return any(c.isdigit() for c in word)


@functools.lru_cache(maxsize=50_000)
def meanings(word: str) -> tuple[str, ...]:
    """Keys that a word shares with its irregular forms and synonyms."""
    keys = [f"form {i}" for i in lexicon.FORMS.get(word, ())]
    for form in (word, *_plain(word)):
        keys += [f"synonym {i}" for i in lexicon.SYNONYMS.get(form, ())]
    return tuple(keys)


def _plain(word: str) -> list[str]:
    """What a word may be without a regular ending."""
    return [
        word[: -len(ending)] + instead
        for ending, instead in _ENDINGS
        if word.endswith(ending) and len(word) - len(ending) >= 3
    ]


@functools.lru_cache(maxsize=100_000)
def likeness(a: str, b: str) -> float:
    """How surely two words mean the same in an answer: 1 the same, 0 different.

    Plurals are the same; irregular forms and words of one stem nearly so; synonyms, a long common
    beginning, or one slip of the keyboard in a word of five letters or more, less so. Numbers are
    the same or different.

    >>> [likeness("cities", "city"), likeness("Turkey", "Turkish") > 0.8, likeness("1990", "1991")]
    [1.0, True, 0.0]
    """
    if a == b:
        return 1.0
    if has_digit(a) or has_digit(b):
        return 0.0
    short, long = sorted((a, b), key=len)
    if len(short) > 2 and long in (f"{short}s", f"{short}es", f"{short[:-1]}ies"):
        return 1.0
    shared = {*meanings(a)} & {*meanings(b)}
    if shared:
        return 0.95 if any(key[0] == "f" for key in shared) else 0.8
    stems = sorted((_stem(a), _stem(b)), key=len)
    if min(map(len, stems)) >= _STEM and stems[1].startswith(stems[0]):
        if len(stems[0]) == len(stems[1]):
            return 0.95
        if len(stems[1]) - len(stems[0]) <= 2:
            return 0.85
    common = 0
    while common < len(short) and short[common] == long[common]:
        common += 1
    if len(short) >= 5 and _one_slip(short, long, common):
        return 0.8
    return common / len(long) if common >= _STEM and common >= 0.55 * len(long) else 0.0


@functools.lru_cache(maxsize=50_000)
def _stem(word: str) -> str:
    """A word without its ending, of at least `_STEM` letters."""
    for suffix in _SUFFIXES:
        if word.endswith(suffix) and len(word) - len(suffix) >= _STEM:
            return word[: -len(suffix)]
    return word


def _one_slip(short: str, long: str, common: int) -> bool:
    """Whether one letter was changed, added or left out, or two neighbours were swapped."""
    if len(short) < len(long):
        return short[common:] == long[common + 1 :]
    swapped = short[common : common + 2] == long[common : common + 2][::-1]
    return short[common + 1 :] == long[common + 1 :] or (
        swapped and short[common + 2 :] == long[common + 2 :]
    )
