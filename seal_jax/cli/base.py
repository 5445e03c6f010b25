"""What a command is, and what several of them share."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

from absl import flags
from ml_collections import config_flags

from seal_jax.runtime import terminal
from seal_jax.settings import Settings, config_dict


class UsageError(ValueError):
    """The command line is wrong; the message says what to change."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Command:
    """One command.

    Attributes:
      summary: one line for the list of commands.
      run: starts it with its flags' values.
      define: defines its own flags.
      config: the default config, FILE:VARIANT; "" for commands that take no --config.
      unnamed: the flag that arguments without a name are values of; "" refuses them. A flag that
        may be repeated takes any number of them.
      resumes: whether the same command continues what was interrupted.
    """

    summary: str
    run: Callable[[flags.FlagValues], None]
    define: Callable[[flags.FlagValues], None]
    config: str = ""
    unnamed: str = ""
    resumes: bool = False


def settings(values: flags.FlagValues) -> Settings:
    """The settings that --config and its overrides make."""
    return config_dict.from_config(values.config)


def workdir(values: flags.FlagValues) -> str:
    """The directory that --workdir names."""
    if not values.workdir:
        raise UsageError("give --workdir=DIR, a directory for this run.")
    return values.workdir


def define_run(values: flags.FlagValues) -> None:
    """Defines the flags of a recorded run."""
    flags.DEFINE_string("workdir", "", "Directory of the run.", values)
    flags.DEFINE_bool("overwrite", False, "Delete a finished or other run in --workdir.", values)
    flags.DEFINE_bool("quiet", False, "Print nothing but errors.", values)
    flags.DEFINE_string("sweep", "", "A sweep of the config file: a run for each point.", values)


def start(values: flags.FlagValues, program: Callable[..., dict[str, Any]], **given: Any) -> None:
    """Starts a recorded run, or all runs of a sweep.

    Args:
      program: runs or continues one in a directory and returns its results.
      **given: what it is given beside the settings, the directory and the flags of every run.
    """
    program = functools.partial(program, overwrite=values.overwrite, quiet=values.quiet, **given)
    if not values.sweep:
        program(settings(values), workdir(values))
        return
    from seal_jax.runtime import hosts
    from seal_jax.settings import config_files, sweeps

    if not hosts.join().alone:
        raise UsageError("--sweep is for one host: start its runs one by one.")
    file, _, _ = config_flags.get_config_filename(values["config"]).partition(":")
    declared = getattr(config_files.load(file), "SWEEPS", {})
    if values.sweep not in declared:
        raise UsageError(
            f"--sweep={values.sweep}: {file} declares {', '.join(declared) or 'no sweeps'}."
        )
    sweeps.run(
        declared[values.sweep],
        values.config,
        workdir(values),
        program,
        overwrite=values.overwrite,
        say=(lambda line: None) if values.quiet else terminal.say,
    )


def define_adapter(values: flags.FlagValues) -> None:
    """Defines the flags of an adapter that is written out."""
    flags.DEFINE_enum(
        "onto",
        "original",
        ["original", "policy"],
        "The model that an adapter is for: model.path, or what its last delta was trained on.",
        values,
    )
    flags.DEFINE_string(
        "base", "", "That model's name or directory (default: model.path where it is).", values
    )
    flags.DEFINE_bool("overwrite", False, "Replace an export in --out.", values)
