"""Dispatch: `seal COMMAND ...`, or `python -m seal_jax COMMAND ...`."""

import contextlib
import logging as python_logging
import os
import signal as signals
import sys
from collections.abc import Sequence
from logging import LogRecord
from typing import Any

from absl import flags, logging

import seal_jax
from seal_jax.cli import arguments, usage
from seal_jax.cli.base import Configured, UsageError
from seal_jax.cli.commands import COMMANDS
from seal_jax.judges.endpoint import EndpointError
from seal_jax.runtime import hosts, interruption, output, terminal
from seal_jax.settings.checks import did_you_mean
from seal_jax.weights import demo_model

_MENDABLE = (ValueError, OSError, flags.Error, demo_model.DemoModelError, EndpointError)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command.

    Returns:
      The exit code: 0; 2 after an error that the person at the terminal can mend (one message, no
      traceback, unless --traceback is given); 75 where SIGTERM or SIGUSR1 ended a run that the same
      command continues; 130 after Ctrl-C; 141, quietly, where its output was closed.
    """
    argv = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    name, rest = argv[0], argv[1:]
    logging.set_verbosity(logging.WARNING)
    logging.get_absl_logger().addFilter(_is_not_orbax)
    for handler in (python_logging.lastResort, logging.get_absl_handler()):
        if handler:
            handler.addFilter(terminal.only_visible)
    sys.unraisablehook = _tell_unless_told
    # transformers is here for its tokenizers; it need not advise anybody to install PyTorch.
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    code, reason = _run(name, rest)
    return hosts.leave(code, reason)


def _run(name: str, rest: list[str]) -> tuple[int, str]:
    """The exit code of a command, and what to tell other hosts of an end before the end."""
    try:
        _do(name, rest)
        sys.stdout.flush()  # here its errors can be told
    except BrokenPipeError:  # who reads it, such as `head`, has seen enough
        output.drop()
        return 128 + signals.SIGPIPE, "its output was closed"
    except interruption.Interrupted as signal:
        terminal.say(f"\n{interruption.message(str(signal))}.", error=True)
        return interruption.EXIT_CODE, f"interrupted by {signal}"
    except KeyboardInterrupt:
        continues = "; the same command continues the run" if COMMANDS[name].resumes else ""
        terminal.say(f"\ninterrupted{continues}.", error=True)
        return 130, "interrupted"
    except _MENDABLE as error:
        if "--traceback" in rest:
            hosts.leave_after(error)
            raise
        told = str(error)
        if isinstance(error, OSError) and error.errno and not error.filename and output.fails():
            told = f"standard output cannot be written to ({error.strerror})."
        terminal.say(f"error: {told}", error=True)
        return 2, told
    except BaseException as error:
        hosts.leave_after(error)
        raise
    return 0, ""


def _do(name: str, rest: list[str]) -> None:
    """Does what a command line asks for."""
    if name == "--version":
        terminal.say(f"seal_jax {seal_jax.__version__}")
        return
    if name in ("-h", "--help", "help"):  # `seal help train` is `seal train --help`
        if not rest:
            terminal.say(usage.of_all())
            return
        name, rest = rest[0], ["--help", *rest[1:]]
    if name not in COMMANDS:
        near = did_you_mean(name, COMMANDS)
        raise UsageError(f"unknown command {name!r}{near} `seal --help` lists them.")
    for argument, following in zip(rest, [*rest[1:], ""], strict=False):
        if argument in ("-h", "--help"):
            terminal.say(usage.of_command(name, "" if following.startswith("-") else following))
            return
    command = arguments.parse(COMMANDS[name], rest)
    if isinstance(command, Configured) and command.print_config:
        terminal.say(command.resolved())
        return
    command.check_needs()
    with interruption.heard() if command.resumes else contextlib.nullcontext():
        command.execute()


def _is_not_orbax(record: LogRecord) -> bool:
    """Orbax logs a traceback in each of its threads, and then raises what it says as well."""
    return "/orbax/" not in record.pathname


def _tell_unless_told(unraisable: Any) -> None:
    """TensorStore's threads report each array that failed to a loop that the first one ended."""
    if str(unraisable.exc_value) != "Event loop is closed":
        sys.__unraisablehook__(unraisable)
