"""Work in processes of their own: a crash, a time-out or a full memory ends that process alone.

Thread pools of PyTorch and XLA never share a process, a device's memory is free again when the
process ends, and peak memory is that of its own work. A worker that waits sleeps in a pipe read.
"""

import importlib
import multiprocessing
import os
import signal
import sys
import traceback
from collections.abc import Mapping
from typing import Any

from seal_jax.doctor import machine

_NONE: Mapping[str, str] = {}


class WorkerError(RuntimeError):
    """A worker failed; the message ends with its traceback."""


class Worker:
    """A spawned process: `module.open_worker(spec)` and the methods of what that returns."""

    def __init__(
        self,
        module: str,
        spec: Any,
        within: float | None = None,
        variables: Mapping[str, str] = _NONE,
    ):
        """Starts the process, which opens what it works on.

        Args:
          within: seconds that it may take; None is any time.
          variables: of its environment, beside those of this process.

        Raises:
          WorkerError: it could not, or not in time.
        """
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._module = module
        arguments = (theirs, module, spec, dict(variables))
        self._process = context.Process(target=_serve, args=arguments, daemon=True)
        self._process.start()
        theirs.close()
        self._receive(within)

    def call(self, method: str, *args: Any, within: float | None = None, **named: Any) -> dict:
        """Calls a method there.

        Returns:
          Its dict, with "peak_bytes": the most memory that the process held during the call.

        Raises:
          WorkerError: the method raised, took longer than `within` seconds, or the process died.
        """
        self._pipe.send((method, args, named))
        return self._receive(within)

    def close(self, patience: float = 10) -> None:
        """Ends the process."""
        self._pipe.close()
        self._process.join(timeout=patience)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    @property
    def alive(self) -> bool:
        """Whether the process can be asked for more."""
        return self._process.is_alive()

    def _receive(self, within: float | None):
        if not self._pipe.poll(within):
            self.close(patience=0)
            raise WorkerError(f"it did not end within {within:.0f} s.")
        try:
            failed, value = self._pipe.recv()
        except EOFError:
            self._process.join(timeout=10)
            raise WorkerError(
                f"{self._module} ended with exit code {self._process.exitcode} (a negative 9 mostly"
                " means that memory ran out): try a smaller model or fewer candidates."
            ) from None
        if failed:
            raise WorkerError(f"{self._module} failed:\n{value}")
        return value


def _set(variables: Mapping[str, str]) -> None:
    """Sets variables of the environment; JAX, if it is imported by now, has read its own."""
    os.environ.update(variables)
    if "jax" in sys.modules and "JAX_PLATFORMS" in variables:
        sys.modules["jax"].config.update("jax_platforms", variables["JAX_PLATFORMS"])


def _serve(pipe: Any, module: str, spec: Any, variables: dict[str, str]) -> None:
    """The worker process: answers calls until the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that asks
    _set(variables)
    try:
        work = importlib.import_module(module).open_worker(spec)
        pipe.send((False, None))
    except Exception:
        pipe.send((True, traceback.format_exc()))
        return
    while True:
        try:
            method, args, named = pipe.recv()
        except EOFError:
            return
        try:
            machine.reset_peak_memory()
            value = getattr(work, method)(*args, **named)
            pipe.send((False, {"peak_bytes": machine.peak_memory(), **value}))
        except Exception:
            pipe.send((True, traceback.format_exc()))
