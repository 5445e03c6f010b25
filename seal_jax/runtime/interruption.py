"""SIGTERM and SIGUSR1 end a run between two units of work, or soon after, with exit code 75.

A unit of work is recorded whole or not at all, so dropping the one in hand costs its time and
nothing else. A thread of its own hears the signals (Python's handlers wait for as long as the main
thread is inside a compiled program): it asks for the end, which `check` grants at the next safe
place, and ends the process itself once the grace period is over.
"""

import contextlib
import os
import select
import signal
import threading
import time
from collections.abc import Callable, Iterator

from seal_jax.runtime import terminal

EXIT_CODE = 75  # EX_TEMPFAIL of sysexits.h: launchers start the command again
SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
GRACE_SECONDS = 20.0
_GRACE_VARIABLE = "SEAL_JAX_GRACE_SECONDS"
# A launcher and the scheduler above it may each send the same signal.
_ONE_SIGNAL_SECONDS = 1.0

_asked: list[signal.Signals] = []


class Interrupted(BaseException):
    """The process was asked to end and is at a safe place; like KeyboardInterrupt, no Exception."""


def check() -> None:
    """Ends the work here if a signal asked for it; called where nothing would be lost.

    Raises:
      Interrupted: it was asked for; the message names the signal.
    """
    if _asked:
        raise Interrupted(_asked[0].name)


def is_asked() -> bool:
    """Whether the next `check` ends the work."""
    return bool(_asked)


@contextlib.contextmanager
def heard(end: Callable[[int], None] = os._exit) -> Iterator[None]:
    """Hears SIGTERM and SIGUSR1 during a `with` block of the main thread.

    The first one is granted by `check`. A second one, or the end of the grace period
    (SEAL_JAX_GRACE_SECONDS, 20), ends the process wherever it is.

    Args:
      end: ends the process with an exit code.
    """
    grace = _grace_seconds()
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    wakeup = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    # The handlers do nothing: what counts is the signal's number in the pipe, written at once.
    handlers = {number: signal.signal(number, lambda *_: None) for number in SIGNALS}
    thread = threading.Thread(target=_listen, args=(reader, end, grace), daemon=True)
    thread.start()
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(wakeup)
        os.close(writer)
        thread.join()
        os.close(reader)
        _asked.clear()


def _listen(reader: int, end: Callable[[int], None], grace: float) -> None:
    """Reads signals from the pipe until it is closed or the process has to end."""
    first = None
    while True:
        left = None if first is None else max(0.0, first + grace - time.monotonic())
        if not select.select([reader], [], [], left)[0]:
            _drop(f"{grace:g} s are over", end)
            return
        numbers = os.read(reader, 64)
        if not numbers:
            return
        for number in numbers:
            if number not in SIGNALS:
                continue
            if first is None:
                first = time.monotonic()
                _asked.append(signal.Signals(number))
            elif time.monotonic() - first > _ONE_SIGNAL_SECONDS:
                _drop("asked a second time", end)
                return


def _drop(why: str, end: Callable[[int], None]) -> None:
    """Ends the process in the midst of a unit of work."""
    terminal.say(f"\n{message(_asked[0].name)} ({why}: the unit in hand is dropped)", error=True)
    end(EXIT_CODE)


def message(name: str) -> str:
    """What to say of an interruption by the signal of that name."""
    return f"interrupted by {name}; the same command continues the run"


def _grace_seconds() -> float:
    text = os.environ.get(_GRACE_VARIABLE, "")
    try:
        return max(0.0, float(text)) if text else GRACE_SECONDS
    except ValueError:
        raise ValueError(f"{_GRACE_VARIABLE}={text!r}: expected seconds, such as 60.") from None
