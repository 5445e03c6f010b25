"""Flags and dispatch: `python -m seal_jax COMMAND --config=FILE[:VARIANT] ...`."""

import contextlib
import logging as python_logging
import os
import signal as signals
import sys
from collections.abc import Sequence
from logging import LogRecord
from typing import Any
from unittest import mock

from absl import flags, logging

from seal_jax.cli.base import Command, Configured, UsageError
from seal_jax.cli.commands import COMMANDS
from seal_jax.judges.endpoint import EndpointError
from seal_jax.runtime import hosts, interruption, output, terminal
from seal_jax.settings import SettingsError, config_dict, config_files
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
    if name in ("-h", "--help", "help"):
        terminal.say(_usage())
        return
    if name not in COMMANDS:
        raise UsageError(f"unknown command {name!r}.\n\n{_usage()}")
    if {"-h", "--help"} & set(rest):
        terminal.say(_help(name))
        return
    command = _parse(COMMANDS[name], rest)
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


def _usage() -> str:
    width = max(map(len, COMMANDS)) + 2
    commands = "\n".join(f"  {name:<{width}}{of.summary()}" for name, of in COMMANDS.items())
    without = ", ".join(name for name, of in COMMANDS.items() if not of.file)
    return f"""usage: python -m seal_jax COMMAND [flags]

commands:
{commands}

flags of every command but {without}:
  --config=FILE[:VARIANT]   a config file (`python -m seal_jax configs` lists them)
  --config.KEY=VALUE        overrides one setting, e.g. --config.inner.lora.rank=16

`python -m seal_jax COMMAND --help` lists the command's own flags."""


def _parse(kind: type[Command], rest: list[str]) -> Command:
    """A command; config_flags looks for overrides in sys.argv, so that is set meanwhile."""
    if kind.file:
        _check_overrides(rest)
        given = _config(rest)
        if given is None:
            given = config_files.default(kind.file)
            rest = [f"--config={given}", *rest]
        if not os.path.isfile(os.path.expanduser(given.partition(":")[0])):
            raise UsageError(f"--config={given}: there is no such file; expected FILE[:VARIANT].")
    sys.modules.pop("config_config", None)  # config_flags would add to what the last file defined
    values = kind.define()
    arguments = [f"seal_jax {kind.__name__.lower()}", *map(_underscored, rest)]
    with mock.patch.object(sys, "argv", arguments):
        try:
            left = values(arguments)[1:]
        except flags.IllegalFlagValueError as error:
            # config_flags puts a traceback into the message; its last line says what is wrong.
            raise UsageError(
                str(error).strip().splitlines()[-1].removeprefix("ValueError: ")
            ) from None
        except (ValueError, OSError, flags.Error):
            raise
        except Exception as error:  # what a config file does is its own
            raise UsageError(config_files.failed(f"--config={given}", error)) from error
    found: dict[str, Any] = {name: values[name].value for name in kind.help()}
    found |= {name: tuple(given) for name, given in found.items() if isinstance(given, list)}
    if kind.file:
        found["config"] = values["config"]
    if left and kind.unnamed:
        if isinstance(found[kind.unnamed], tuple):
            found[kind.unnamed] += tuple(left)
            left = []
        elif not found[kind.unnamed]:
            found[kind.unnamed] = left.pop(0)
    if left:
        raise UsageError(f"unexpected argument {left[0]!r}: flags have the form --name=value.")
    return kind(**found)


def _underscored(argument: str) -> str:
    """A flag as it is defined: --base-model is --base_model."""
    name, equals, value = argument.partition("=")
    flag = name.startswith("--") and not name.startswith("--config.")
    return f"--{name[2:].replace('-', '_')}{equals}{value}" if flag else argument


def _config(rest: Sequence[str]) -> str | None:
    """What --config is given, in either form; None where it is not."""
    for argument, following in zip(rest, [*rest[1:], ""], strict=False):
        name, equals, value = argument.partition("=")
        if name in ("--config", "-config"):
            return value if equals else following
    return None


def _check_overrides(rest: Sequence[str]) -> None:
    """Names the nearest setting for one that does not exist, before config_flags sees it."""
    known = set(config_dict.all_keys())
    for argument in rest:
        name = argument.lstrip("-").split("=")[0]
        if argument.startswith("--config.") and name.removeprefix("config.") not in known:
            raise SettingsError(config_dict.unknown_key(name.removeprefix("config.")))


def _help(name: str) -> str:
    own = COMMANDS[name].help()
    lines = [f"  --{flag}: {own[flag]}" for flag in sorted(own) if flag != "config"]
    text = "\n".join([_usage(), "", f"flags of {name}:", *lines])
    if not COMMANDS[name].file:
        return text
    known = "\n".join(f"  --config.{key}" for key in config_dict.all_keys())
    return f"{text}\n\nsettings:\n{known}"
