"""What a command is: a frozen dataclass of its flags, whose docstring is its help."""

import dataclasses
import inspect
import re
import types
import typing
from collections.abc import Callable
from typing import Any, ClassVar, Literal, Union

import ml_collections
from absl import flags
from ml_collections import config_flags

from seal_jax.settings import Settings, config_dict, config_files
from seal_jax.settings.checks import Checked


class UsageError(ValueError):
    """The command line is wrong; the message says what to change."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Command(Checked):
    """A command.

    Its fields are its flags: of the types str, bool, int, float, Literal of texts (the values that
    are taken), tuple[str, ...] (may be repeated), and any of these or None. The first line of its
    docstring is its summary, and what stands there under "Attributes" its flags' help.

    Attributes:
      traceback: Show where an error was raised.
    """

    traceback: bool = False

    needs: ClassVar[str] = (
        ""  # the flags that must be given, as they are written, and what they are
    )
    unnamed: ClassVar[str] = ""  # the flag that arguments without a name are values of
    resumes: ClassVar[bool] = False  # whether the same command continues what was interrupted
    file: ClassVar[str] = ""  # the default config, FILE:VARIANT, of those that take --config

    def execute(self) -> None:
        """Does it."""
        raise NotImplementedError

    def check_needs(self) -> None:
        """Refuses a command without what it needs."""
        needed = re.findall(r"--(\w+)=", self.needs) or [self.unnamed]
        if self.needs and not all(self.given(*needed).values()):
            raise UsageError(f"{type(self).__name__.lower()} needs {self.needs}.")

    def given(self, *names: str) -> dict[str, Any]:
        """Some flags' values."""
        return {name: getattr(self, name) for name in names}

    @classmethod
    def summary(cls) -> str:
        """One line for the list of commands."""
        return (inspect.getdoc(cls) or "").partition("\n")[0].rstrip(".")

    @classmethod
    def help(cls) -> dict[str, str]:
        """What each flag is for."""
        found: dict[str, str] = {}
        for part in reversed(cls.__mro__):
            described = re.findall(r"^  (\w+): (.+(?:\n   .+)*)", inspect.getdoc(part) or "", re.M)
            found |= {name: " ".join(text.split()) for name, text in described}
        return {field.name: found.get(field.name, "") for field in dataclasses.fields(cls)}

    @classmethod
    def define(cls) -> flags.FlagValues:
        """Its flags, to be parsed."""
        values = flags.FlagValues()
        if cls.unnamed:
            values.set_gnu_getopt()  # flags may follow arguments without a name
        hints = typing.get_type_hints(cls)
        for field in dataclasses.fields(cls):
            name, kind, text = field.name, hints[field.name], cls.help()[field.name]
            default: Any = field.default
            if typing.get_origin(kind) in (Union, types.UnionType):
                kind, _ = typing.get_args(kind)
            if kind is flags.Flag:
                config_flags.DEFINE_config_file(name, None, text, values)
            elif typing.get_origin(kind) is Literal:
                flags.DEFINE_enum(name, default, list(typing.get_args(kind)), text, values)
            else:
                _DEFINE[kind](name, default, text, flag_values=values)
        return values


_DEFINE: dict[Any, Callable[..., Any]] = {
    str: flags.DEFINE_string,
    bool: flags.DEFINE_bool,
    int: flags.DEFINE_integer,
    float: flags.DEFINE_float,
    tuple[str, ...]: flags.DEFINE_multi_string,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Configured(Command):
    """A command with settings.

    Attributes:
      config: Config file, FILE[:VARIANT].
      print_config: Show every setting and where it is from, and stop.
    """

    config: flags.Flag
    print_config: bool = False

    @property
    def values(self) -> ml_collections.ConfigDict:
        """What --config and its overrides make."""
        values: Any = self.config.value
        if not isinstance(values, ml_collections.ConfigDict):
            file = config_flags.get_config_filename(self.config)
            raise UsageError(f"--config={file}: expected a get_config that returns a ConfigDict.")
        return values

    @property
    def module(self) -> types.ModuleType:
        """The config file."""
        file, _, _ = config_flags.get_config_filename(self.config).partition(":")
        return config_files.load(file)

    @property
    def settings(self) -> Settings:
        """The same as settings."""
        return config_dict.from_config(self.values)

    def resolved(self) -> str:
        """The checked config with the origin of each value."""
        config_dict.from_config(self.values)
        file = config_flags.get_config_filename(self.config)
        overrides = list(config_flags.get_override_values(self.config))
        return config_files.shown(self.values.to_dict(), file, overrides)
