"""English numerals to digits, in lists of lower-case words."""

import decimal

_ONES = "one two three four five six seven eight nine".split()
_TEENS = "ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen".split()
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
_SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_IRREGULAR = {
    "first": "one", "second": "two", "third": "three", "fifth": "five", "eighth": "eight",
    "ninth": "nine", "twelfth": "twelve",
}  # fmt: skip
_SUFFIXES = ("st", "nd", "rd", "th")
_MAX_DIGITS = 15  # longer digit strings are names, not quantities, and stay as they are


def _vocabulary() -> dict[str, tuple[str, int, bool]]:
    """Word → (kind, value, whether it is an ordinal)."""
    kinds = [("one", _ONES, 1, 1), ("teen", _TEENS, 10, 1), ("ten", _TENS, 20, 10)]
    cardinals = {
        word: (kind, start + step * i)
        for kind, words, start, step in kinds
        for i, word in enumerate(words)
    }
    cardinals["hundred"] = ("hundred", 100)
    cardinals |= {word: ("scale", value) for word, value in _SCALES.items()}
    words = {word: (kind, value, False) for word, (kind, value) in cardinals.items()}
    regular = set(cardinals) - set(_IRREGULAR.values())
    for cardinal in regular:
        ordinal = cardinal[:-1] + "ieth" if cardinal.endswith("y") else cardinal + "th"
        words[ordinal] = (*cardinals[cardinal], True)
    for ordinal, cardinal in _IRREGULAR.items():
        words[ordinal] = (*cardinals[cardinal], True)
    words["zero"] = ("zero", 0, False)
    return words


_WORDS = _vocabulary()
# What may stand before a word of each kind within one numeral (None: it may begin one).
_AFTER: dict[str, set[str | None]] = {
    "zero": {None},
    "one": {None, "ten", "hundred", "scale"},
    "teen": {None, "hundred", "scale"},
    "ten": {None, "hundred", "scale"},
    "hundred": {None, "one", "teen", "digits", "scale"},
    "scale": {None, "one", "teen", "ten", "hundred", "digits"},
}


def to_digits(words: list[str]) -> list[str]:
    """Every numeral of `words` as one token of digits; other words stay.

    Ordinals become the same token as their cardinals ("12th", "twelfth" and "12"), a scale word
    multiplies the digits before it, and zeros that do not count are dropped ("07", "1.50").

    >>> to_digits("the twenty first of 1.5 million".split())
    ['the', '21', 'of', '1500000']
    >>> to_digits("two hundred and five men and two dogs".split())
    ['205', 'men', 'and', '2', 'dogs']
    >>> to_digits("the 1990s and May 07th".split())
    ['the', '1990s', 'and', 'May', '7']
    """
    tokens, i = [], 0
    while i < len(words):
        value, used = _numeral(words, i)
        if value is None:
            tokens.append(words[i])
        else:
            tokens.append(format(value.normalize(), "f"))
        i += used
    return tokens


def _numeral(words: list[str], start: int) -> tuple[decimal.Decimal | None, int]:
    """The value of the longest numeral at `start` and its number of words; (None, 1) if none."""
    total = decimal.Decimal(0)
    group: decimal.Decimal | int = decimal.Decimal(0)
    last: str | None = None
    limit: decimal.Decimal | int | None = None
    i = start
    # What was read up to and including the last scale word.
    to_scale: tuple[decimal.Decimal | None, int] = (None, 1)
    while i < len(words):
        word, step = words[i], 1
        if word == "and" and last in ("hundred", "scale") and i + 1 < len(words):
            word, step = words[i + 1], 2
        if last is None and (digits := _digits(word)) is not None:
            group, is_ordinal = digits
            kind = "digits"
        else:
            kind, value, is_ordinal = _WORDS.get(word, ("", 0, False))
            if not kind or last not in _AFTER[kind]:
                break
            if step == 2 and kind in ("hundred", "scale"):
                break
            if kind == "scale":
                if limit is not None and value >= limit:
                    return to_scale  # "two million three million" is two numerals
                total, group, limit = (
                    total + (group if last else 1) * value,
                    decimal.Decimal(0),
                    value,
                )
            elif kind == "hundred":
                group = (group or 1) * value
            else:
                group += value
        last = kind
        i += step
        if kind == "scale":
            to_scale = (total, i - start)
        if is_ordinal:
            break
    return (total + group, i - start) if last else (None, 1)


def _digits(word: str) -> tuple[decimal.Decimal, bool] | None:
    """The value of a token of digits, and whether it has an ordinal's ending."""
    is_ordinal = word.endswith(_SUFFIXES) and word[:-2].isdecimal()
    number = word[:-2] if is_ordinal else word
    whole, point, fraction = number.partition(".")
    if len(number) > _MAX_DIGITS or not whole.isdecimal() or (point and not fraction.isdecimal()):
        return None
    return decimal.Decimal(number), is_ordinal
