"""Between settings and the ml_collections ConfigDict that config files and overrides change.

An unknown key, a wrong type or an impossible value is a SettingsError that names the key and what
to change.
"""

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, Literal, Union

import ml_collections

from seal_jax.settings import Settings, SettingsError, object_reference


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
        raise ValueError(f"no variant {name!r} in this config file: one of {', '.join(variants)}.")
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


def all_keys(cls=Settings, prefix: str = "") -> list[str]:
    """All dotted keys of leaf settings, in order of declaration."""
    found = []
    for name, hint in typing.get_type_hints(cls).items():
        nested = dataclasses.is_dataclass(hint)
        found += all_keys(hint, f"{prefix}{name}.") if nested else [prefix + name]
    return found


def unknown_key(key: str) -> str:
    """The message for a key that does not exist or is a group, with the nearest one that does.

    >>> unknown_key("inner.lora.rnk")
    "unknown setting 'inner.lora.rnk': did you mean 'inner.lora.rank'?"
    """
    inside = [known for known in all_keys() if known.startswith(f"{key}.")]
    if inside:
        return f"{key!r} is a group of settings: set one of its keys, such as {inside[0]!r}."
    near = difflib.get_close_matches(key, all_keys(), n=1, cutoff=0.0)[0]
    return f"unknown setting {key!r}: did you mean {near!r}?"


def recorded(settings: Settings) -> dict[str, Any]:
    """The settings as a run records them: without those that may change when it goes on."""
    found = dataclasses.asdict(settings)
    del found["metrics"]
    return found
