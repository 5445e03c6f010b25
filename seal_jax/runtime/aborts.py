"""Saying why a library aborts the process, and ending it with the code of an interruption."""

import ctypes
import os
import signal
from collections.abc import Callable
from typing import Any

from seal_jax.runtime.interruption import EXIT_CODE


def explain(why: Callable[[], str | None]) -> None:
    """Says why JAX aborts the process, and ends it with the code of an interruption.

    The client of the coordination service calls abort() in a thread of its own as soon as the
    service is gone, and offers Python no way to be asked first.

    Args:
      why: what to say; None leaves the abort alone.
    """

    def handle(_: int) -> None:
        setsig(signal.SIGABRT, kind(0))  # the default again
        text = why()
        if text:
            say(text)
            os._exit(EXIT_CODE)

    kind = ctypes.CFUNCTYPE(None, ctypes.c_int)
    setsig = ctypes.pythonapi.PyOS_setsig
    setsig.argtypes, setsig.restype = [ctypes.c_int, kind], ctypes.c_void_p
    _handlers.append(kind(handle))
    setsig(signal.SIGABRT, _handlers[-1])


def say(text: str) -> None:
    """Writes a line past Python's buffers, whose locks another thread may hold."""
    os.write(2, f"\nerror: {text}\n".encode())


_handlers: list[Any] = []  # C holds no reference to them
