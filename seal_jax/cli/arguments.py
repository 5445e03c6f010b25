"""From the arguments of a command line to a command."""

from typing import Any

from absl import flags

from seal_jax.cli.base import Command, UsageError
from seal_jax.settings import config_dict
from seal_jax.settings.checks import did_you_mean


def parse(kind: type[Command], rest: list[str]) -> Command:
    """A command of what follows its name.

    Raises:
      UsageError, SettingsError, flags.Error: with what to change.
    """
    keyed, rest = _keyed(kind, rest)
    values = kind.define()
    name = kind.__name__.lower()
    try:
        left = values([f"seal {name}", *rest])[1:]
    except flags.UnrecognizedFlagError as error:
        near = did_you_mean(error.flagname, values)
        lists = f"`seal {name} --help` lists its flags."
        raise UsageError(f"{name} has no flag {error.flagname!r}{near} {lists}") from None
    found: dict[str, Any] = {flag: values[flag].value for flag in values}
    found |= {flag: tuple(given) for flag, given in found.items() if isinstance(given, list)}
    if left and kind.unnamed:
        if isinstance(found[kind.unnamed], tuple):
            found[kind.unnamed] += tuple(left)
            left = []
        elif not found[kind.unnamed]:
            found[kind.unnamed] = left.pop(0)
    if left:
        raise UsageError(f"unexpected argument {left[0]!r}: flags have the form --name=value.")
    return kind(**found | keyed)


def _keyed(kind: type[Command], rest: list[str]) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """The values of flags --NAME.KEY=VALUE, --NAME.KEY VALUE and --NAME.KEY, and what is left.

    What is left has flags with underscores: --policy-from is --policy_from.
    """
    found: dict[str, dict[str, Any]] = {field: {} for field, _ in kind.keyed().values()}
    left, given = [], iter(rest)
    for argument in given:
        flag, equals, value = argument.partition("=")
        name, _, key = flag.lstrip("-").partition(".")
        if not (flag.startswith("-") and key and name in kind.keyed()):
            own = f"--{flag[2:].replace('-', '_')}" if flag.startswith("--") else flag
            left.append(own + equals + value)
            continue
        field, read = kind.keyed()[name]
        if not equals:
            value = "true" if config_dict.type_of(key) is bool else next(given, "")
        found[field][key] = read(key, value)
    return found, left
