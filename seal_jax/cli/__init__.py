"""Flags and dispatch: `python -m seal_jax COMMAND --config=FILE[:VARIANT] ...`."""

import contextlib
import os
import signal as signals
import sys
from collections.abc import Sequence
from logging import LogRecord
from typing import Any
from unittest import mock

from absl import flags, logging
from ml_collections import config_flags

from seal_jax.cli.commands import COMMANDS, Command, UsageError
from seal_jax.judges.endpoint import EndpointError
from seal_jax.runtime import hosts, interruption, output
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
        print(f"\n{interruption.message(str(signal))}.", file=sys.stderr)
        return interruption.EXIT_CODE, f"interrupted by {signal}"
    except KeyboardInterrupt:
        continues = "; the same command continues the run" if COMMANDS[name].resumes else ""
        print(f"\ninterrupted{continues}.", file=sys.stderr)
        return 130, "interrupted"
    except _MENDABLE as error:
        if "--traceback" in rest:
            hosts.leave_after(error)
            raise
        told = str(error)
        if isinstance(error, OSError) and error.errno and not error.filename and output.fails():
            told = f"standard output cannot be written to ({error.strerror})."
        print(f"error: {told}", file=sys.stderr)
        return 2, told
    except BaseException as error:
        hosts.leave_after(error)
        raise
    return 0, ""


def _do(name: str, rest: list[str]) -> None:
    """Does what a command line asks for."""
    if name in ("-h", "--help", "help"):
        print(_usage())
        return
    if name not in COMMANDS:
        raise UsageError(f"unknown command {name!r}.\n\n{_usage()}")
    if {"-h", "--help"} & set(rest):
        print(_help(name))
        return
    values = _parse(name, rest)
    if COMMANDS[name].config and values.print_config:
        print(_resolved(values))
        return
    with interruption.heard() if COMMANDS[name].resumes else contextlib.nullcontext():
        COMMANDS[name].run(values)


def _is_not_orbax(record: LogRecord) -> bool:
    """Orbax logs a traceback in each of its threads, and then raises what it says as well."""
    return "/orbax/" not in record.pathname


def _tell_unless_told(unraisable: Any) -> None:
    """TensorStore's threads report each array that failed to a loop that the first one ended."""
    if str(unraisable.exc_value) != "Event loop is closed":
        sys.__unraisablehook__(unraisable)


def _usage() -> str:
    width = max(map(len, COMMANDS)) + 2
    commands = "\n".join(
        f"  {name:<{width}}{command.summary}" for name, command in COMMANDS.items()
    )
    without = ", ".join(name for name, command in COMMANDS.items() if not command.config)
    return f"""usage: python -m seal_jax COMMAND [flags]

commands:
{commands}

flags of every command but {without}:
  --config=FILE[:VARIANT]   a config file (`python -m seal_jax configs` lists them)
  --config.KEY=VALUE        overrides one setting, e.g. --config.inner.lora.rank=16

`python -m seal_jax COMMAND --help` lists the command's own flags."""


def _define(command: Command) -> flags.FlagValues:
    values = flags.FlagValues()
    if command.unnamed:
        values.set_gnu_getopt()  # flags may follow arguments without a name
    flags.DEFINE_bool("traceback", False, "Show where an error was raised.", values)
    if command.config:
        config_flags.DEFINE_config_file("config", None, "Config file, FILE[:VARIANT].", values)
        flags.DEFINE_bool(
            "print_config", False, "Show every setting and where it is from, and stop.", values
        )
    command.define(values)
    return values


def _parse(name: str, rest: list[str]) -> flags.FlagValues:
    """Flag values; config_flags looks for overrides in sys.argv, so that is set meanwhile."""
    command = COMMANDS[name]
    if command.config:
        _check_overrides(rest)
        if not any(argument.split("=")[0] in ("--config", "-config") for argument in rest):
            rest = [f"--config={config_files.default(command.config)}", *rest]
    values = _define(command)
    arguments = [f"seal_jax {name}", *rest]
    with mock.patch.object(sys, "argv", arguments):
        try:
            left = values(arguments)[1:]
        except flags.IllegalFlagValueError as error:
            # config_flags puts a traceback into the message; its last line says what is wrong.
            raise UsageError(
                str(error).strip().splitlines()[-1].removeprefix("ValueError: ")
            ) from None
    if left and command.unnamed:
        flag = values[command.unnamed]
        if isinstance(flag.value, list):
            flag.value, left = [*flag.value, *left], []
        elif not flag.value:
            flag.value, left = left[0], left[1:]
    if left:
        raise UsageError(f"unexpected argument {left[0]!r}: flags have the form --name=value.")
    return values


def _resolved(values: flags.FlagValues) -> str:
    """The checked config with the origin of each value."""
    config_dict.from_config(values.config)
    flag = values["config"]
    file = config_flags.get_config_filename(flag)
    overrides = list(config_flags.get_override_values(flag))
    return config_files.shown(config_files.origins(values.config.to_dict(), file, overrides))


def _check_overrides(rest: Sequence[str]) -> None:
    """Names the nearest setting for one that does not exist, before config_flags sees it."""
    known = set(config_dict.all_keys())
    for argument in rest:
        name = argument.lstrip("-").split("=")[0]
        if argument.startswith("--config.") and name.removeprefix("config.") not in known:
            raise SettingsError(config_dict.unknown_key(name.removeprefix("config.")))


def _help(name: str) -> str:
    own = _define(COMMANDS[name])
    lines = [f"  --{flag}: {own[flag].help}" for flag in sorted(own) if flag != "config"]
    text = "\n".join([_usage(), "", f"flags of {name}:", *lines])
    if not COMMANDS[name].config:
        return text
    known = "\n".join(f"  --config.{key}" for key in config_dict.all_keys())
    return f"{text}\n\nsettings:\n{known}"
