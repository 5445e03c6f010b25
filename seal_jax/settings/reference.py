"""What every setting is for, as its class's docstring says: for --help and docs/settings.md.

The page is written by `python -m seal_jax.settings.reference > docs/settings.md`.
"""

import dataclasses
import inspect
import re
import types
import typing
from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple, Union

from seal_jax.runtime import terminal
from seal_jax.settings import Settings

_PAGE = """# Settings

Every key of a config, with its default and its meaning. Defaults are those of the paper's
experiments with SQuAD; `seal train NAME:VARIANT --print_config` shows what a config changes. On a
command line keys are set as `--config.inner.epochs=3`, tuples with commas between their values
(`--config.evaluation.arms=base,prompt`), and `seal train --help inner` shows a group of them.

This page is written from the docstrings of [seal_jax/settings/](../seal_jax/settings):
`python -m seal_jax.settings.reference > docs/settings.md`.
"""


class Setting(NamedTuple):
    """A setting.

    Attributes:
      key: dotted.
      default: as a command line spells it.
      choices: the values that it takes, where they have names that the meaning does not tell.
      meaning: what it is for.
    """

    key: str
    default: str
    choices: tuple[str, ...]
    meaning: str

    @property
    def line(self) -> str:
        """All but its key."""
        choices = f"{' | '.join(self.choices)}; " if self.choices else ""
        return f"{self.meaning} ({choices}default: {self.default})"


class Group(NamedTuple):
    """Settings that belong together.

    Attributes:
      name: dotted; "" is what belongs to no group.
      about: the docstring of its class, without that of its attributes.
      settings: its own and those of the groups in it, in order of declaration.
    """

    name: str
    about: str
    settings: tuple[Setting, ...]


def attributes(cls: type) -> dict[str, str]:
    """What the docstrings of a class and its bases say under "Attributes", by name.

    >>> attributes(Group)["name"]
    'dotted; "" is what belongs to no group.'
    """
    found: dict[str, str] = {}
    for part in reversed(cls.__mro__):
        _, _, section = (inspect.getdoc(part) or "").partition("\nAttributes:\n")
        for names, text in re.findall(r"^  (\w[\w, ]*): (.+(?:\n    .+)*)", section, re.M):
            found |= dict.fromkeys(names.split(", "), " ".join(text.split()))
    return found


def about(cls: type) -> str:
    """A class's docstring before its attributes."""
    return (inspect.getdoc(cls) or "").partition("\nAttributes:\n")[0].strip()


def groups() -> list[Group]:
    """All settings: first those of no group, then each group of the top level."""
    every = list(_inside(Settings(), ""))
    found = [Group("", about(Settings), tuple(one for one in every if "." not in one.key))]
    for field in dataclasses.fields(Settings):
        own = tuple(one for one in every if one.key.startswith(f"{field.name}."))
        found += [Group(field.name, about(type(field.default)), own)] if own else []
    return found


def _inside(group: Any, prefix: str) -> Iterator[Setting]:
    """The settings of an object of them and of those inside it, with their defaults."""
    meanings = attributes(type(group))
    for name, hint in typing.get_type_hints(type(group)).items():
        value, key = getattr(group, name), f"{prefix}{name}"
        if dataclasses.is_dataclass(hint):
            yield from _inside(value, f"{key}.")
        else:
            yield setting(key, hint, value, meanings.get(name, ""))


def setting(key: str, hint: Any, default: Any, meaning: str) -> Setting:
    """A setting, or a flag, of a type."""
    if typing.get_origin(hint) in (Union, types.UnionType):
        hint = typing.get_args(hint)[0]
    choices = typing.get_args(hint) if typing.get_origin(hint) is Literal else ()
    if all(f'"{choice}"' in meaning for choice in choices):  # it says what each of them is
        choices = ()
    return Setting(key, spelled(default), choices, meaning)


def spelled(value: Any) -> str:
    """A value as a command line spells it.

    >>> spelled((16, 32)), spelled(1e-3), spelled("")
    ('16,32', '0.001', '""')
    """
    return (",".join(map(str, value)) if isinstance(value, tuple) else str(value)) or '""'


def page() -> str:
    """docs/settings.md."""
    lines = [_PAGE]
    for group in groups():
        lines += [f"## {group.name or 'General'}", "", group.about, "", *_table(group.settings)]
        lines.append("")
    return "\n".join(lines).rstrip()


def _table(settings: Sequence[Setting]) -> list[str]:
    rows = [("key", "default", "meaning"), ("---",) * 3]
    for of in settings:
        choices = f" ({', '.join(f'`{choice}`' for choice in of.choices)})" if of.choices else ""
        rows.append((f"`{of.key}`", f"`{of.default}`", of.meaning.rstrip(".") + choices))
    return [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows]


if __name__ == "__main__":
    terminal.say(page())
