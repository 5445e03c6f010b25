"""Between settings and the ml_collections ConfigDict that config files and overrides change.

An unknown key, a wrong type or an impossible value is a SettingsError that names the key and what
to change.
"""

import ast
import dataclasses
import functools
import math
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, Literal, Union

import ml_collections

from seal_jax.settings import Settings, SettingsError, object_reference
from seal_jax.settings.checks import did_you_mean

_TRUTH = {"true": True, "1": True, "false": False, "0": False}


def to_config(settings: Settings) -> ml_collections.ConfigDict:
    """The settings as an unlocked ConfigDict, for a config file to change."""
    return ml_collections.ConfigDict(dataclasses.asdict(settings))


def of_variant(
    variants: Mapping[str, Callable[[ml_collections.ConfigDict], None]], name: str
) -> ml_collections.ConfigDict:
    """The locked config that a function of a config file makes of the defaults.

    Args:
      variants: the file's functions, which change a config, by the names of their variants.
      name: of one of them.

    Raises:
      ValueError: there is none of that name.
    """
    if name not in variants:
        near = did_you_mean(name, variants)
        raise ValueError(f"no variant {name!r}{near} There are {', '.join(variants)}.")
    config = to_config(Settings())
    variants[name](config)
    return config.lock()


def from_config(config: Mapping[str, Any]) -> Settings:
    """Settings from a ConfigDict or nested dict; absent keys keep their defaults.

    Raises:
      SettingsError: an unknown key (the nearest valid one is named), a wrong type, or a value or
        combination that is impossible.
    """
    values = config.to_dict() if isinstance(config, ml_collections.ConfigDict) else config
    return _build(Settings(), values, "")


def _build(defaults, values: Mapping[str, Any], group: str):
    """A group of settings, `group` being what its keys begin with."""
    hints = typing.get_type_hints(type(defaults))
    given = {}
    for name, value in values.items():
        key = f"{group}{name}"
        if name not in hints:
            raise SettingsError(unknown_key(key))
        if not dataclasses.is_dataclass(hints[name]):
            given[name] = _convert(hints[name], value, key)
        elif isinstance(value, Mapping):
            given[name] = _build(getattr(defaults, name), value, f"{key}.")
        else:
            raise SettingsError(
                f"{key} is a group of settings, not {value!r}: set one of its keys."
            )
    try:
        return dataclasses.replace(defaults, **given)
    except SettingsError:
        raise
    except ValueError as error:
        where = group.rstrip(".") or "the configuration"
        raise SettingsError(f"{where}: {error}") from None


def _convert(hint, value, key: str):
    """A value in its declared type; ints pass for floats and lists for tuples."""
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    named = origin in (Union, types.UnionType)  # literals, and any object reference beside them
    if named and isinstance(value, str) and object_reference.is_one(value):
        return value
    if named or origin is Literal:
        choices = typing.get_args(parts[0]) if named else parts
        own = ", or module:name of your own (docs/extending.md)" if named else ""
        if value not in choices:
            raise SettingsError(f"{key} must be one of {', '.join(choices)}{own}, not {value!r}.")
        return value
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise SettingsError(f"{key} must be a tuple of {parts[0].__name__}, not {value!r}.")
        return tuple(_convert(parts[0], item, key) for item in value)
    if hint is float and type(value) is int:
        return float(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise SettingsError(f"{key} must be a finite number, not {value!r}.")
    if type(value) is not hint:
        raise SettingsError(
            f"{key} must be of type {hint.__name__}, not {type(value).__name__} ({value!r})."
        )
    return value


def replaced(settings: Any, changes: Mapping[str, Any]) -> Any:
    """Settings with other values of some dotted keys.

    >>> replaced(Settings(), {"inner.lora.rank": 8}).inner.lora.rank
    8
    """
    for key, value in changes.items():
        name, _, rest = key.partition(".")
        if rest:
            value = replaced(getattr(settings, name), {rest: value})
        settings = dataclasses.replace(settings, **{name: value})
    return settings


def changed(
    config: ml_collections.ConfigDict, overrides: Mapping[str, Any]
) -> ml_collections.ConfigDict:
    """A copy of a config with other values of some dotted keys; their types are checked later.

    Raises:
      SettingsError: a key that does not exist or is a group.
    """
    for key in overrides:
        type_of(key)
    copy = ml_collections.ConfigDict(config.to_dict(), type_safe=False)
    copy.update_from_flattened_dict(overrides)
    return copy


def parsed(key: str, text: str) -> Any:
    """The value of a setting as it is spelled on a command line; a tuple's items with commas.

    Raises:
      SettingsError: the key does not exist, or the text is no value of its type.

    >>> parsed("evaluation.arms", "base,edit_after"), parsed("inner.buckets", "(16, 32)")
    (('base', 'edit_after'), (16, 32))
    """
    hint = type_of(key)
    if typing.get_origin(hint) is not tuple:
        return _scalar(hint, text, key)
    if text.startswith(("(", "[", "'", '"')):
        return as_tuple(text, key)
    item = typing.get_args(hint)[0]
    return tuple(_scalar(item, part.strip(), key) for part in text.split(",") if part.strip())


def as_tuple(text: str, key: str) -> tuple[Any, ...]:
    """What a text spells in Python, as a tuple."""
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        raise SettingsError(
            f"{key} takes values with commas between them, or a tuple as Python writes it, not "
            f"{text!r}."
        ) from None
    return tuple(value) if isinstance(value, tuple | list) else (value,)


def _scalar(hint: Any, text: str, key: str) -> Any:
    """A text as a value of a type; what is no number or truth value stays a text."""
    if hint is bool:
        if text.lower() not in _TRUTH:
            raise SettingsError(f"{key} must be True or False, not {text!r}.")
        return _TRUTH[text.lower()]
    if hint not in (int, float):
        return text
    try:
        return hint(text)
    except ValueError:
        raise SettingsError(f"{key} must be of type {hint.__name__}, not {text!r}.") from None


@functools.cache
def leaves(cls: Any = Settings, prefix: str = "") -> dict[str, Any]:
    """The types of all settings by dotted key, in order of declaration."""
    found: dict[str, Any] = {}
    for name, hint in typing.get_type_hints(cls).items():
        nested = dataclasses.is_dataclass(hint)
        found |= leaves(hint, f"{prefix}{name}.") if nested else {prefix + name: hint}
    return found


def type_of(key: str) -> Any:
    """A setting's type.

    Raises:
      SettingsError: the key does not exist or is a group.
    """
    if key not in leaves():
        raise SettingsError(unknown_key(key))
    return leaves()[key]


def all_keys() -> list[str]:
    """All dotted keys of settings, in order of declaration."""
    return list(leaves())


def unknown_key(key: str) -> str:
    """The message for a key that does not exist or is a group, with the nearest one that does.

    >>> unknown_key("inner.lora.rnk")
    "unknown setting 'inner.lora.rnk': did you mean 'inner.lora.rank'?"
    """
    inside = [known for known in all_keys() if known.startswith(f"{key}.")]
    if inside:
        return f"{key!r} is a group of settings: set one of its keys, such as {inside[0]!r}."
    return f"unknown setting {key!r}{did_you_mean(key, all_keys(), cutoff=0.0)}"


def recorded(settings: Settings) -> dict[str, Any]:
    """The settings as a run records them: without those that may change when it goes on."""
    found = dataclasses.asdict(settings)
    del found["metrics"]
    return found
