"""Flags and dispatch: `python -m seal_jax COMMAND --config=FILE[:VARIANT] ...`."""

import importlib.util
import os
import pathlib
import sys
from collections.abc import Sequence
from unittest import mock

from absl import flags, logging
from ml_collections import config_flags

from seal_jax import config_dict
from seal_jax.settings import Settings, SettingsError
from seal_jax.weights import demo_model

USAGE = """usage: python -m seal_jax COMMAND [flags]

commands:
  train     ReST-EM rounds, then the evaluation of every arm
  evaluate  the evaluation alone, of the base model or of a run's policy (--policy_from=RUN)
  adapt     one text: answers before and after adapting (--passage=FILE --question='...')
  grade     the local grader on a file of answers (--rows=FILE.jsonl)

flags of every command but grade:
  --config=FILE[:VARIANT]   a config file (default: knowledge.py:demo, or :adapt for adapt)
  --config.KEY=VALUE        overrides one setting, e.g. --config.inner.lora.rank=16

`python -m seal_jax COMMAND --help` lists the command's own flags."""


_MENDABLE = (ValueError, OSError, flags.Error, demo_model.DemoModelError)


class UsageError(ValueError):
    """The command line is wrong; the message says what to change."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command.

    Returns:
      The exit code: 0; 2 after an error that the person at the terminal can mend (one message, no
      traceback, unless --traceback is given); 130 after an interruption.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(USAGE)
        return 0
    command, rest = argv[0], argv[1:]
    logging.set_verbosity(logging.WARNING)
    # transformers is here for its tokenizers; it need not advise anybody to install PyTorch.
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    try:
        if command not in _COMMANDS:
            raise UsageError(f"unknown command {command!r}.\n\n{USAGE}")
        if {"-h", "--help"} & set(rest):
            print(_help(command))
            return 0
        _COMMANDS[command](_parse(command, rest))
    except KeyboardInterrupt:
        continues = "" if command == "adapt" else "; the same command continues the run"
        print(f"\ninterrupted{continues}.", file=sys.stderr)
        return 130
    except _MENDABLE as error:
        if "--traceback" in rest:
            raise
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _train(values: flags.FlagValues) -> None:
    from seal_jax.programs import train

    train.train(
        _settings(values),
        _workdir(values),
        overwrite=values.overwrite,
        quiet=values.quiet,
    )


def _evaluate(values: flags.FlagValues) -> None:
    from seal_jax.programs import evaluate

    evaluate.evaluate(
        _settings(values),
        _workdir(values),
        policy_from=values.policy_from,
        overwrite=values.overwrite,
        quiet=values.quiet,
    )


def _adapt(values: flags.FlagValues) -> None:
    from seal_jax.programs import adapt

    if not values.passage:
        raise UsageError("adapt needs --passage=FILE (a text file) and --question='...'.")
    passage = pathlib.Path(values.passage).read_text(encoding="utf-8")
    adapted = adapt.adapt(
        _settings(values),
        passage,
        list(values.question),
        title=values.title or pathlib.Path(values.passage).stem.replace("_", " "),
        edit=values.edit,
    )
    if adapted.self_edit:
        print(f"self-edit:\n{adapted.self_edit}\n")
    if adapted.dropped_tokens or adapted.dropped_sequences:
        print(
            f"not trained on, for lack of room: {adapted.dropped_sequences} lines and "
            f"{adapted.dropped_tokens} tokens of others (raise --config.inner.max_sequences, or "
            "add a larger bucket to --config.inner.buckets)\n"
        )
    for question, before, after in zip(values.question, adapted.before, adapted.after, strict=True):
        print(
            f"question: {question}\n  before: {before or '(empty)'}\n  after:  {after or '(empty)'}"
        )


def _grade(values: flags.FlagValues) -> None:
    from seal_jax.programs import grade

    if not values.rows:
        raise UsageError("grade needs --rows=FILE.jsonl, lines {question, gold, prediction}.")
    grade.grade_rows(values.rows, show=values.show)


_COMMANDS = {"train": _train, "evaluate": _evaluate, "adapt": _adapt, "grade": _grade}
_WITHOUT_CONFIG = ("grade",)


def _define(command: str) -> flags.FlagValues:
    values = flags.FlagValues()
    flags.DEFINE_bool("traceback", False, "Show where an error was raised.", values)
    if command == "grade":
        flags.DEFINE_string("rows", "", "JSON lines {question, gold, prediction, correct}.", values)
        flags.DEFINE_bool("show", False, "Also print the rows that differ, one a line.", values)
        return values
    config_flags.DEFINE_config_file("config", None, "Config file, FILE[:VARIANT].", values)
    if command == "adapt":
        flags.DEFINE_string("passage", "", "Text file with the passage.", values)
        flags.DEFINE_multi_string("question", [], "A question; may be repeated.", values)
        flags.DEFINE_string("title", "", "What it is about (default: the file's name).", values)
        flags.DEFINE_bool("edit", True, "Write a self-edit; else train on the passage.", values)
        return values
    flags.DEFINE_string("workdir", "", "Directory of the run.", values)
    flags.DEFINE_bool("overwrite", False, "Delete a finished or other run in --workdir.", values)
    flags.DEFINE_bool("quiet", False, "Print nothing but errors.", values)
    if command == "evaluate":
        flags.DEFINE_string("policy_from", "", "Directory of a run whose policy to test.", values)
    return values


def _parse(command: str, rest: list[str]) -> flags.FlagValues:
    """Flag values; config_flags looks for overrides in sys.argv, so that is set meanwhile."""
    _check_overrides(rest)
    has_config = command not in _WITHOUT_CONFIG
    if has_config and not any(
        argument.split("=")[0] in ("--config", "-config") for argument in rest
    ):
        variant = "adapt" if command == "adapt" else "demo"
        rest = [f"--config={_default_config()}:{variant}", *rest]
    values = _define(command)
    arguments = [f"seal_jax {command}", *rest]
    with mock.patch.object(sys, "argv", arguments):
        try:
            left = values(arguments)
        except flags.IllegalFlagValueError as error:
            # config_flags puts a traceback into the message; its last line says what is wrong.
            raise UsageError(
                str(error).strip().splitlines()[-1].removeprefix("ValueError: ")
            ) from None
    if left[1:]:
        raise UsageError(f"unexpected argument {left[1]!r}: flags have the form --name=value.")
    return values


def _check_overrides(rest: Sequence[str]) -> None:
    """Names the nearest setting for one that does not exist, before config_flags sees it."""
    known = set(config_dict.all_keys())
    for argument in rest:
        name = argument.lstrip("-").split("=")[0]
        if argument.startswith("--config.") and name.removeprefix("config.") not in known:
            raise SettingsError(config_dict.unknown_key(name.removeprefix("config.")))


def _default_config() -> str:
    """knowledge.py of the repository's configs/, or of the installed package."""
    beside = pathlib.Path(__file__).resolve().parent.parent / "configs" / "knowledge.py"
    if beside.exists():
        return str(beside)
    found = importlib.util.find_spec("seal_jax.configs.knowledge")
    if found is None or found.origin is None:
        raise UsageError("no default config was found: give --config=FILE.")
    return found.origin


def _settings(values: flags.FlagValues) -> Settings:
    return config_dict.from_config(values.config)


def _workdir(values: flags.FlagValues) -> str:
    if not values.workdir:
        raise UsageError("give --workdir=DIR, a directory for this run.")
    return values.workdir


def _help(command: str) -> str:
    own = _define(command)
    names = [name for name in own if name not in ("config",)]
    lines = [f"  --{name}: {own[name].help}" for name in sorted(names)]
    flags_text = "\n".join(lines)
    found = f"{USAGE}\n\nflags of {command}:\n{flags_text}"
    if command in _WITHOUT_CONFIG:
        return found
    known = "\n".join(f"  --config.{key}" for key in config_dict.all_keys())
    return f"{found}\n\nsettings:\n{known}"
