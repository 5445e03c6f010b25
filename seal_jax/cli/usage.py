"""What --help prints: of all commands, of one, and of a group of settings."""

import dataclasses
import inspect
import shutil
import textwrap
from collections.abc import Iterable
from typing import get_type_hints

from seal_jax.cli.base import Command, UsageError
from seal_jax.cli.commands import COMMANDS
from seal_jax.settings import reference
from seal_jax.settings.checks import did_you_mean

_WIDEST = 34  # of the names; longer ones stick out


def of_all() -> str:
    """Every command in a line."""
    return f"""usage: seal COMMAND [flags]      (or: python -m seal_jax COMMAND [flags])

commands:
{_lines((name, of.summary()) for name, of in COMMANDS.items())}

The first thing to try: seal train knowledge:demo --workdir=runs/demo

`seal COMMAND --help` shows a command's flags and the groups of settings, `seal configs` the
configs, `seal --version` the version."""


def of_command(name: str, group: str = "") -> str:
    """A command's flags and the groups of settings, or the settings of a group.

    Args:
      name: of the command.
      group: dotted, such as "inner" or "inner.lora"; a single setting; or "" for none.

    Raises:
      UsageError: the command has no settings, or there is no such group.
    """
    of = COMMANDS[name]
    if group and ":" not in group:  # or it is the config of a command line
        if not of.file:
            raise UsageError(f"{name} has no settings: `seal {name} --help` shows its flags.")
        return _settings(group)
    unnamed = f" [{of.unnamed.upper()}]" if of.unnamed else ""
    parts = [f"usage: seal {name}{unnamed} [flags]", inspect.cleandoc(reference.about(of))]
    if of.needs:
        parts.append(f"It needs {of.needs}.")
    parts.append(f"flags:\n{_lines(_flags(of))}")
    if of.file:
        plain, *groups = reference.groups()
        rows = [(setting.key, setting.line) for setting in plain.settings]
        rows += [(group.name, group.about.partition("\n\n")[0]) for group in groups]
        parts.append(
            f"settings, as --config.KEY=VALUE (`seal {name} --help inner` shows those of a group, "
            f"here of inner):\n{_lines(rows)}"
        )
    return "\n\n".join(parts)


def _flags(of: type[Command]) -> Iterable[tuple[str, str]]:
    """A command's flags with their help, those of all commands last."""
    keyed, hints = {field: name for name, (field, _) in of.keyed().items()}, get_type_hints(of)
    common = [field.name for field in dataclasses.fields(Command)]
    for field in sorted(dataclasses.fields(of), key=lambda field: field.name in common):
        text = of.help()[field.name]
        if field.name in keyed:
            yield f"--{keyed[field.name]}.KEY=VALUE", text
            continue
        default = of.file if field.name == "config" else field.default
        flag = reference.setting(f"--{field.name}", hints[field.name], default, text)
        yield flag.key, text if default in ("", None, ()) or default is False else flag.line


def _settings(group: str) -> str:
    """The settings whose keys begin so, a line each."""
    known = []
    for of in reference.groups():
        chosen = [one for one in of.settings if f"{one.key}.".startswith(f"{group}.")]
        if chosen:
            about = f"{of.about}\n\n" if of.name == group else ""
            return about + _lines((one.key, one.line) for one in chosen)
        known += [of.name, *(one.key for one in of.settings)]
    raise UsageError(f"there is no group of settings {group!r}{did_you_mean(group, known)}")


def _lines(rows: Iterable[tuple[str, str]]) -> str:
    """Names and texts in two columns, wrapped where a terminal is narrower."""
    rows = [(name, " ".join(text.split())) for name, text in rows]
    width = min(_WIDEST, max(len(name) for name, _ in rows)) + 2
    columns = max(60, shutil.get_terminal_size((10_000, 24)).columns)
    indent = " " * (width + 2)
    return "\n".join(
        textwrap.fill(
            text,
            columns,
            initial_indent=f"  {name:<{width}}" if len(name) < width else f"  {name}  ",
            subsequent_indent=indent,
            break_on_hyphens=False,
        )
        for name, text in rows
    )
