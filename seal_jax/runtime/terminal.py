"""What people see at the terminal: all of it passes through here.

Texts of data, models and other people's files are shown beside our own words. A control character
in one of them could move the cursor, rename the window or hide what follows, so it is spelled out.
"""

import re
import sys
from logging import LogRecord
from typing import TextIO

# Control characters but line ends and tabs, what turns the direction of writing, the line
# separators at which only some readers end a line, and halves of surrogate pairs.
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def visible(text: str) -> str:
    r"""A text with its control characters as JSON spells them; line ends are those of Unix.

    >>> print(visible("red: \x1b[31m, a title: \x9d0;x\x07, a line\r\n"), end="")
    red: \u001b[31m, a title: \u009d0;x\u0007, a line
    """
    return _HIDDEN.sub(lambda found: f"\\u{ord(found[0]):04x}", text.replace("\r\n", "\n"))


def say(text: object, *, error: bool = False, file: TextIO | None = None) -> None:
    """Prints a text and the end of a line, at once; no text can fail for the stream's encoding.

    Args:
      text: what to print, as `visible` has it.
      error: whether it belongs on standard error.
      file: another stream.
    """
    stream = file or (sys.stderr if error else sys.stdout)
    encoding = getattr(stream, "encoding", None) or "utf-8"
    line = visible(str(text)).encode(encoding, "backslashreplace").decode(encoding)
    print(line, file=stream, flush=True)


def only_visible(record: LogRecord) -> bool:
    """A filter for handlers of logs, which changes messages as `visible` does."""
    record.msg, record.args = visible(record.getMessage()), ()
    return True
