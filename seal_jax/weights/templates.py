"""Chat templates are programs that somebody else wrote: they get so much time and room, no more."""

import ctypes
import functools
import threading
from collections.abc import Callable

import jinja2

_SECONDS = 10.0
_LONGEST = 10**7  # characters of a conversation
_LARGEST = 10**6  # number in a template


def bounded(template: str, write: Callable[[], str]) -> str:
    """What a template writes, if it does so in time and is not absurdly long.

    Args:
      template: its text.
      write: renders it; in a thread of its own, which is stopped when the time is over.

    Raises:
      ValueError: it takes longer, writes more, or repeats a text absurdly often.
      Exception: what the template raises.
    """
    _check(template)
    written: list[str] = []
    raised: list[BaseException] = []

    def work() -> None:
        try:
            written.append(write())
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(_SECONDS)
    if thread.is_alive():
        stop = ctypes.pythonapi.PyThreadState_SetAsyncExc
        stop(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(TimeoutError))
        raise ValueError(f"it takes more than {_SECONDS:.0f} seconds")
    if raised:
        raise raised[0]
    if len(written[0]) > _LONGEST:
        raise ValueError(f"it writes {len(written[0]):,} characters")
    return written[0]


@functools.lru_cache(maxsize=8)
def _check(template: str) -> None:
    """Refuses numbers with which a template could fill the memory before its time is over."""
    told = [(kind, text) for _, kind, text in jinja2.Environment().lex(template)]
    told = [one for one in told if one[0] != "whitespace"] + [("", "")] * 2
    for place, (kind, text) in enumerate(told):
        large = kind == "integer" and _number(text) > _LARGEST
        if text == "*" and told[place - 1][0] == "string":  # a line of dashes is nothing absurd
            (times, number), (_, following) = told[place + 1 : place + 3]
            large = times != "integer" or _number(number) > 1000 or following == "*"
        if large or text == "**":
            raise ValueError(f"it holds {text!r:.40}, which could fill the memory")


def _number(text: str) -> int:
    return int(text.replace("_", ""), 0) if len(text) < 20 else _LARGEST + 1
