"""What every domain and judge asks of a text."""

import unicodedata


def is_blank(text: str) -> bool:
    """True where `text` holds only white space, control and invisible format characters.

    >>> is_blank(" \\t\\x00\\u200b\\n"), is_blank("\\u4eac")
    (True, False)
    """
    return all(c.isspace() or unicodedata.category(c) in ("Cc", "Cf") for c in text)
