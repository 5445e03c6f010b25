"""English and Roman numerals to digits."""

import itertools
import re
from decimal import Decimal

_SMALL = """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen
    fifteen sixteen seventeen eighteen nineteen""".split()
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
_CARDINALS = (
    dict(zip(_SMALL, range(20), strict=True))
    | dict(zip(_TENS, range(20, 100, 10), strict=True))
    | {"hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
)
_IRREGULAR = {
    "one": "first", "two": "second", "three": "third", "five": "fifth", "eight": "eighth",
    "nine": "ninth", "twelve": "twelfth",
}  # fmt: skip
_ORDINALS = {
    _IRREGULAR.get(word, f"{word.removesuffix('y')}{'ie' * word.endswith('y')}th"): value
    for word, value in _CARDINALS.items()
}
_DIGITS = re.compile(r"(\d+(?:\.\d+)?)(st|nd|rd|th)?")
_MAX_DIGITS = 15  # longer digit strings are names, not quantities, and stay as they are


def to_digits(words: list[str]) -> list[str]:
    """Every numeral of `words` as one token of digits; other words stay.

    Ordinals become the same token as their cardinals ("12th", "twelfth" and "12"), a scale word
    multiplies the digits before it, a "minus" before a numeral becomes its sign, and zeros that
    do not count are dropped ("07", "1.50").

    >>> to_digits("the twenty first of 1.5 million".split())
    ['the', '21', 'of', '1500000']
    >>> to_digits("two hundred and five men and minus two dogs".split())
    ['205', 'men', 'and', '-2', 'dogs']
    >>> to_digits("the 1990s and May 07th".split())
    ['the', '1990s', 'and', 'May', '7']
    """
    found: list[str] = []
    i = 0
    while i < len(words):
        value, end = _numeral(words, i)
        if value is None:
            found.append(words[i])
        else:
            sign = "-" if found and found[-1] in ("minus", "negative") and value else ""
            found[len(found) - len(sign) :] = [sign + format(value.normalize(), "f")]
        i = end
    return found


def _numeral(words: list[str], start: int) -> tuple[Decimal | None, int]:
    """The value of the longest numeral at `start`, or None, and where what was read ends."""
    # The last word's value: digits count as "one", for what may follow; nothing follows 0.
    group, last = _digits(words[start])
    total, scale = Decimal(0), Decimal("inf")  # what scale words closed, and the last of them
    closed: tuple[Decimal | None, int] = (None, start + 1)
    i = start + (last is not None)
    while i < len(words):
        joined = words[i] == "and" and i + 1 < len(words) and last is not None and last >= 100
        word = words[i + joined]
        value = _CARDINALS.get(word, _ORDINALS.get(word))
        if value is None or not _fits(last, value, joined=joined):
            break
        if value >= scale:
            return closed  # "two million three million" is two numerals
        i += 1 + joined
        if value < 100:
            group += value
        elif value == 100:
            group = Decimal(value) * (group or 1)
        else:
            total, group, scale = total + (group or 1) * value, Decimal(0), Decimal(value)
            closed = total, i
        last = 0 if word in _ORDINALS else value
    return (total + group, i) if last is not None else (None, start + 1)


def _fits(last: int | None, value: int, *, joined: bool) -> bool:
    """Whether a word of this value may follow one of that value, or begin a numeral."""
    if last is None:
        return True
    if value < 100:
        return value > 0 and last >= (20 if value < 10 else 100)
    return not joined and (0 < last < 1000 if value > 100 else 0 < last < 20 or last >= 1000)


def _digits(word: str) -> tuple[Decimal, int | None]:
    """The value of a token of digits, and 1, or 0 if it is an ordinal; else 0 and None."""
    found = _DIGITS.fullmatch(word)
    if not found or len(found[1]) > _MAX_DIGITS:
        return Decimal(0), None
    return Decimal(found[1]), 0 if found[2] else 1


def roman(numeral: str) -> int:
    """The value of a Roman numeral of I, V, X and L.

    >>> [roman("VIII"), roman("XIV"), roman("XLIX")]
    [8, 14, 49]
    """
    values = [{"I": 1, "V": 5, "X": 10, "L": 50}[letter] for letter in numeral]
    return sum(v if v >= after else -v for v, after in itertools.pairwise((*values, 0)))
