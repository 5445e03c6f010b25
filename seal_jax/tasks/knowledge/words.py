"""Texts as lists of words that can be compared: normalisation, units, and forms of words."""

import functools
import re
import unicodedata
from collections.abc import Mapping

from seal_jax.tasks.knowledge import lexicon
from seal_jax.tasks.knowledge.numerals import roman, to_digits

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
MONTHS = (
    "january february march april may june july august september october november december".split()
)

_MONTH_SHORT = {month[:3]: month for month in MONTHS if month != "may"} | {"sept": "september"}
_UNITS = {
    f"{short}{unit}": f"{long}{name}"
    for short, long in {"": "", "k": "kilo", "c": "centi", "m": "milli"}.items()
    for unit, name in {"m": "meters", "g": "grams", "l": "liters"}.items()
} | {
    "mi": "miles", "ft": "feet", "foot": "feet", "yd": "yards", "lb": "pounds", "lbs": "pounds",
    "oz": "ounces", "ha": "hectares", "hr": "hours", "hrs": "hours", "min": "minutes",
    "mins": "minutes", "sec": "seconds", "mph": "miles per hour", "kph": "kilometers per hour",
    "km/h": "kilometers per hour", "kw": "kilowatts", "mw": "megawatts", "hz": "hertz",
    "tonnes": "tons", "°c": "celsius", "°f": "fahrenheit", "°": "degrees",
}  # fmt: skip
_CURRENCIES = {"$": "dollars", "£": "pounds", "€": "euros", "¥": "yen"}
# Words that name a unit, in the plural: "5 km" and "5 miles" hold the same number.
UNITS = {word for name in _UNITS.values() for word in name.split()} - {"per", "degrees"}
UNITS |= {*_CURRENCIES.values(), "days", "weeks", "months", "years", "percent"}
_SAME = {
    "usa": "US", "bce": "bc", "ce": "ad", "britain": "uk", "british": "uk", "dr": "doctor",
    "st": "saint", "mt": "mount", "vs": "versus", "v": "versus",
}  # fmt: skip

# Before case is lost: Roman numerals, one letter alone only after a name ("Charles V").
_ROMAN = re.compile(
    r"\b(WW|[A-Z]\w+ )?(?=[IVXL])((?:XL|L?X{0,3})(?:IX|IV|V?I{0,3}))(?<=[IVXL])\b(?!['’]|\.\w)"
)
_INITIALS = re.compile(r"\b(?:[^\W\d_]\.){2,}")  # "U.S." is one word, as "US" is
# Names that would else be lost among stop words: US, WHO, IT, and the letter of "Type A".
_NAMES = "|".join(word.upper() for word in sorted(STOP_WORDS) if len(word) > 1)
_CAPITALS = re.compile(
    rf"((?<=[^\W_][ -])A\b(?! [A-Z])|\b[Aa]\b(?=[.,;:!?)]|\s*$)|\b(?:US|{_NAMES})\b)"
)
_SHORT_MONTHS = "|".join(_MONTH_SHORT)
_SHORT_UNITS = "|".join(sorted(map(re.escape, _UNITS), key=len, reverse=True))
_SCALES = "hundred|thousand|million|billion|trillion"
# What is written in many ways, in one; in this order. "\0" stands for the decimal point.
_REWRITES = [
    (re.compile(pattern), same)
    for pattern, same in (
        (r"\bunited states(?: of america)?\b|(?<=\bthe )us\b", "US"),
        (r"\b(?:united kingdom|great britain)\b", "uk"),
        (r"\bdegrees? (?=celsius|fahrenheit)", ""),
        (r"\bper cent\b|%", " percent "),
        (r"\bww(?=\d)", "world war "),
        (r"(?:\b(?:ca|wo))?n't\b|(?<=\bcan)not\b", " not"),
        (r"(?<![^\s(\"“])(?<!\d )[-−–](?=[$£€¥]?\d)", " minus "),
        (
            r"\b(\d{4})-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])\b",
            lambda m: f"{int(m[3])} {MONTHS[int(m[2]) - 1]} {m[1]}",
        ),
        (
            rf"(?:(?<=\d)|(?<=\d[ ]))\s?({_SHORT_MONTHS})\b\.?|\b({_SHORT_MONTHS})\b\.?(?=\s\d)",
            lambda m: f" {_MONTH_SHORT[m[1] or m[2]]}",
        ),
        (
            rf"(?:US)?([$£€¥])\s?(\d[\d.,]*\d|\d)((?:\s(?:{_SCALES}))*)",
            lambda m: f" {m[2]}{m[3]} {_CURRENCIES[m[1]]}",
        ),
        (r"(?<=\d)\s?([$£€¥])", lambda m: f" {_CURRENCIES[m[1]]}"),
        (
            rf"(?<![\d,.])\d{{1,3}}(?:,\d{{3}})+(?!\d)|\b(?:{_SCALES}),(?=\s)",
            lambda m: m[0].replace(",", ""),
        ),
        (r"(?<![\d.,])(\d+),(?=\d{1,2}(?![\d,]))", r"\1."),  # "3,5", as most of Europe writes
        (rf"(?<=\d)[\s-]?({_SHORT_UNITS})(?!\s+\d)(?![^\W_]|/)", lambda m: f" {_UNITS[m[1]]}"),
        (r"(?<![\w.])([\w.]+(?: (?:degrees|celsius|fahrenheit))?) below zero\b", r"minus \1"),
        (r"(met|lit)re(?=s?\b)", r"\1er"),
        (r"'s\b|(?<=s)'(?=\s|$)|'", ""),
        (r"(?<=\d)\.(?=\d)", "\0"),
        (
            r"(?<![.!?;:,])[.!?;:,]+(?=[\s\"'”’)\]]|$)|\n+|[()\"“”]|\s[-–—]{1,3}\s|—|[。、]",
            lambda m: "\3" if "?" in m[0] else "\1" if {*".!;:\n。"} & {*m[0]} else "\2",
        ),
        # Scripts without spaces between words, and Korean, which adds its particles to them: a word
        # a character.
        (
            "([\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
            "\uac00-\ud7af\U00020000-\U0003ffff])",
            r" \1 ",
        ),
    )
]
_PREFIX = 6  # letters that words of one kind may share: democracy, democratic


def marked_words(text: str) -> list[str]:
    """The words of a text with `MARKS` where it pauses; numbers as digits, units spelled out.

    Case, accents, possessives and the way numbers, dates, units and a few names are written do
    not count. Control characters separate words. Capitals are left only to names that would else
    be stop words.

    >>> marked_words("On 2001-05-07 the U.S. paid $1,250.50.")
    ['on', '7', 'may', '2001', 'the', 'US', 'paid', '1250.5', 'dollars', '.']
    >>> marked_words("It told us that Henry VIII saw -5 °C.")
    ['it', 'told', 'us', 'that', 'henry', '8', 'saw', '-5', 'celsius', '.']
    """
    text = unicodedata.normalize("NFKC", re.sub("[\0-\3]", " ", text)).replace("\u2019", "'")
    # Accents of Latin, Greek and Cyrillic go; the vowel signs of other scripts stay.
    text = re.sub("[\u0300-\u036f]", "", unicodedata.normalize("NFD", text))
    text = _lower(_ROMAN.sub(_to_digits, unicodedata.normalize("NFC", text)))
    for pattern, same in _REWRITES:
        text = pattern.sub(same, text)
    # Letters, marks and digits make up words.
    kept = "".join(c if c <= "\3" or unicodedata.category(c)[0] in "LMN" else " " for c in text)
    kept = kept.translate({0: ".", 1: f" {SENTENCE} ", 2: f" {PART} ", 3: f" {QUESTION} "})
    return [_SAME.get(word, word) for word in to_digits(kept.split())]


def _to_digits(found: re.Match) -> str:
    """A Roman numeral in digits; one letter alone only after a name."""
    name = found[1] or ""
    is_word = len(found[2]) == 1 and (not name or name.strip().lower() in STOP_WORDS)
    return found[0] if is_word else f"{name}{roman(found[2])}"


def _lower(text: str) -> str:
    """In lower case, except for names that would else be stop words."""
    text = _INITIALS.sub(lambda m: m[0].replace(".", "").upper(), text)
    if text.isupper() and len(text.split()) > 3:
        return text.casefold()
    parts = _CAPITALS.split(text)
    parts[::2] = [part.casefold() for part in parts[::2]]
    parts[1::2] = [part.upper() for part in parts[1::2]]
    return "".join(parts)


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


@functools.lru_cache(maxsize=100_000)
def keys(word: str) -> Mapping[str, float]:
    """Words that share a key mean the same in an answer, as surely as the key's value.

    Plurals are the same (1); irregular forms and words of one stem (keys with "~") nearly so.
    Numbers are the same or different.

    >>> [max(keys("cities")[key] for key in {*keys("cities")} & {*keys("city")})]
    [1.0]
    >>> {*keys("1990")} & {*keys("1991")}
    set()
    """
    if len(word) < 3 or has_digit(word):
        return {word: 1.0}
    endings = (("s", ""), ("es", ""), ("ies", "y"), ("an", "a"), ("ans", "a"))
    same = [word, *(word.removesuffix(end) + y for end, y in endings if word.endswith(end))]
    found = dict.fromkeys(same, 1.0)
    found |= {f"={i}": 0.95 for form in same for i in lexicon.FORMS.get(form, ())}
    if len(word) >= _PREFIX:
        found[f"~{word[:_PREFIX]}"] = 0.8
    return found


def is_english(text: str) -> bool:
    """Whether a text may be English: Latin letters, and a stop word in fifteen words.

    Of 7,979 questions of SQuAD none is taken for another language. A text of fewer than five words
    is judged by its letters alone; stop words that other languages have too do not count.

    >>> [is_english(text) for text in ("Who built the bridge?", "Wer hat den Turm gebaut?")]
    [True, False]
    """
    some = words(text, articles=True)
    stops = sum(word in STOP_WORDS - {"a", "an", "in", "on"} for word in some)
    foreign = sum((1 if c > "\u024f" else -1) for c in text if c.isalpha())
    return foreign <= 0 and (len(some) < 5 or 15 * stops >= len(some))
