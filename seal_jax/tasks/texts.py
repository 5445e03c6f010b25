"""What every domain and judge asks of a text."""

import unicodedata

# Letters and marks that show nothing: Hangul fillers, a Braille cell without dots, a joiner.
_FILLERS = "\u115f\u1160\u3164\uffa0\u2800\u034f"


def is_blank(text: str) -> bool:
    """True where `text` holds only white space, control and invisible format characters.

    >>> is_blank(" \\t\\x00\\u200b\\n"), is_blank("\\u4eac")
    (True, False)
    """
    return all(
        c.isspace() or unicodedata.category(c) in ("Cc", "Cf") or c in _FILLERS for c in text
    )
