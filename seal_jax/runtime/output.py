"""Standard output, where it is what cannot be written to: a full device, a pipe that was closed."""

import contextlib
import os
import sys

from seal_jax.runtime import terminal


def fails() -> bool:
    """Whether standard output takes no line; then nothing that is left goes there any more."""
    try:
        terminal.say("")
    except (OSError, ValueError):
        drop()
        return True
    return False


def drop() -> None:
    """Sends what is left for standard output nowhere, so that no later flush fails."""
    with contextlib.suppress(OSError, ValueError), open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())
