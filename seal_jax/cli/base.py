"""What a command is: a frozen dataclass of its flags, whose docstring is its help."""

import dataclasses
import functools
import pathlib
import re
import types
import typing
from collections.abc import Callable
from typing import Any, ClassVar, Literal, Union

import ml_collections
from absl import flags

from seal_jax.settings import Settings, config_dict, config_files, reference
from seal_jax.settings.checks import Checked


class UsageError(ValueError):
    """The command line is wrong; the message says what to change."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Command(Checked):
    """A command.

    Its fields are its flags: of the types str, bool, int, float, Literal of texts (the values that
    are taken), tuple[str, ...] (may be repeated), and any of these or None. The first line of its
    docstring is its summary, and what stands there under "Attributes" its flags' help. A field
    with metadata "name" and "read" holds what is given as --NAME.KEY=VALUE, by KEY.

    Attributes:
      traceback: Show where an error was raised.
    """

    traceback: bool = False

    needs: ClassVar[str] = (
        ""  # the flags that must be given, as they are written, and what they are
    )
    unnamed: ClassVar[str] = ""  # the flag that arguments without a name are values of
    resumes: ClassVar[bool] = False  # whether the same command continues what was interrupted
    file: ClassVar[str] = ""  # the default config, NAME:VARIANT, of those that take one

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
        return reference.about(cls).partition("\n")[0].rstrip(".")

    @classmethod
    def help(cls) -> dict[str, str]:
        """What each flag is for."""
        found = reference.attributes(cls)
        return {field.name: found.get(field.name, "") for field in dataclasses.fields(cls)}

    @classmethod
    def keyed(cls) -> dict[str, tuple[str, Callable[[str, str], Any]]]:
        """The fields of flags --NAME.KEY=VALUE, by NAME, and what reads KEY and VALUE."""
        fields = dataclasses.fields(cls)
        return {of.metadata["name"]: (of.name, of.metadata["read"]) for of in fields if of.metadata}

    @classmethod
    def define(cls) -> flags.FlagValues:
        """Its other flags, to be parsed."""
        values = flags.FlagValues()
        if cls.unnamed:
            values.set_gnu_getopt()  # flags may follow arguments without a name
        hints = typing.get_type_hints(cls)
        for field in dataclasses.fields(cls):
            if field.metadata:
                continue
            name, kind, text = field.name, hints[field.name], cls.help()[field.name]
            default: Any = field.default
            if typing.get_origin(kind) in (Union, types.UnionType):
                kind, _ = typing.get_args(kind)
            if typing.get_origin(kind) is Literal:
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
      config: NAME:VARIANT of a packaged config, or a config file, FILE.py[:VARIANT]; needs no name.
      print_config: Show every setting and where it is from, and stop.
      overrides: Changes one setting.
    """

    config: str | None = None
    print_config: bool = False
    overrides: dict[str, Any] = dataclasses.field(
        default_factory=dict, metadata={"name": "config", "read": config_dict.parsed}
    )

    unnamed = "config"

    @property
    def named(self) -> str:
        """The config that is named, or the command's own."""
        return self.file if self.config is None else self.config

    def preset(self) -> tuple[str, ml_collections.ConfigDict]:
        """What the overrides change, and what to call it."""
        return self.named, config_files.made(self.named)

    @functools.cached_property
    def values(self) -> ml_collections.ConfigDict:
        """The settings with their overrides."""
        return config_dict.changed(self.preset()[1], self.overrides)

    @property
    def module(self) -> types.ModuleType:
        """The config file."""
        return config_files.load(config_files.find(self.named)[0])

    @property
    def settings(self) -> Settings:
        """The same as settings."""
        return config_dict.from_config(self.values)

    def resolved(self) -> str:
        """The checked config with the origin of each value."""
        config_dict.from_config(self.values)
        name, preset = self.preset()
        name = pathlib.PurePath(name).name
        return config_files.shown(self.values.to_dict(), preset.to_dict(), name, self.overrides)
