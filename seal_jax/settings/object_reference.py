"""Object references: settings "module:name" that name a function or a class of another package."""

import difflib
import importlib
import inspect
from collections.abc import Callable
from typing import Any

from seal_jax.settings.checks import SettingsError


def is_one(value: str) -> bool:
    """Whether a value has the form "module:name".

    >>> is_one("my_package.rewards:clarity"), is_one("clarity"), is_one("my-package:clarity")
    (True, False, False)
    """
    module, _, name = value.partition(":")
    return all(part.isidentifier() for part in (*module.split("."), name))


def load(reference: str, key: str, *arguments: str) -> Callable[..., Any]:
    """The function or class that a reference names.

    Args:
      reference: "module:name".
      key: the setting that it is the value of, for errors.
      *arguments: names of what it will be called with.

    Raises:
      SettingsError: the module cannot be imported or has no such name, or what has it cannot be
        called with these arguments.

    >>> load("math:hypot", "reward.kind", "x", "y")(3, 4)
    5.0
    """
    module_name, _, name = reference.partition(":")
    where, call = f"{key}={reference}", f"{name}({', '.join(arguments)})"
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # a module may do anything while it is imported
        raise SettingsError(
            f"{where}: the module {module_name!r} cannot be imported ({type(error).__name__}: "
            f"{error}). Install its package into this environment, or add its folder to PYTHONPATH."
        ) from error
    if not hasattr(module, name):
        near = difflib.get_close_matches(name, dir(module), n=1)
        instead = f": did you mean {module_name}:{near[0]}?" if near else f", in {module.__file__}."
        raise SettingsError(f"{where}: the module has no {name!r}{instead}")
    found = getattr(module, name)
    if not callable(found):
        kind = f"but is of type {type(found).__name__}: name a function or a class"
        raise SettingsError(f"{where}: it is called as {call}, {kind}.")
    try:
        inspect.signature(found).bind(*arguments)
    except TypeError as error:
        raise SettingsError(
            f"{where}: it is called as {call}, which it does not allow ({error})."
        ) from None
    except ValueError:
        pass  # some that are written in C do not tell their arguments
    return found
