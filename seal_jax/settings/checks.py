"""What the settings share: their error, and the ranges that their types declare."""

import difflib
import functools
import itertools
import math
import os
import re
import typing
from collections.abc import Callable, Iterable
from typing import Annotated, Any, NamedTuple


class SettingsError(ValueError):
    """A setting is unknown, of the wrong type, or impossible; the message says what to change."""


def require(condition: bool, message: str) -> None:
    """Raises a ValueError unless the condition holds; `config_dict` adds the setting's name."""
    if not condition:
        raise ValueError(message)


def regular_expression(text: str, name: str) -> None:
    """Raises a ValueError unless the text is one."""
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"{name} {text!r} is not a regular expression: {error}.") from None


def did_you_mean(given: str, names: Iterable[str], cutoff: float = 0.6) -> str:
    """The end of a sentence about a name that there is not: the nearest one, where one is near.

    >>> did_you_mean("trian", ["train", "plan"]), did_you_mean("x", ["train"])
    (": did you mean 'train'?", '.')
    """
    near = difflib.get_close_matches(given, list(names), n=1, cutoff=cutoff)
    return f": did you mean {near[0]!r}?" if near else "."


class Rule(NamedTuple):
    """What values of a type must be: a check, and its words."""

    holds: Callable[[Any], bool]
    words: str


def ascending(values: tuple[int, ...]) -> bool:
    """Whether there are values, all positive and each above the last."""
    return bool(values) and values[0] > 0 and all(a < b for a, b in itertools.pairwise(values))


AT_LEAST_0 = Rule(lambda number: 0 <= number < math.inf, "must be 0 or more")
Count = Annotated[int, Rule(lambda number: number >= 1, "must be at least 1")]
Limit = Annotated[int, AT_LEAST_0]
Weight = Annotated[float, AT_LEAST_0]
Positive = Annotated[float, Rule(lambda number: 0 < number < math.inf, "must be above 0")]
_PLACE = "a file or folder"  # in which "~" is the home directory
Place = Annotated[str, _PLACE]
Places = Annotated[tuple[str, ...], _PLACE]
Buckets = Annotated[tuple[int, ...], Rule(ascending, "must be positive and ascending")]


class Checked:
    """The base of a dataclass whose fields must be as their types declare.

    >>> import dataclasses
    >>> @dataclasses.dataclass(frozen=True)
    ... class Batch(Checked):
    ...     rows: Count = 8
    >>> Batch(rows=0)
    Traceback (most recent call last):
    ValueError: rows must be at least 1, not 0.
    """

    def __post_init__(self):
        own: Any = type(self)
        for name, declared in _declared(own):
            value = getattr(self, name)
            if declared is _PLACE:
                object.__setattr__(self, name, _expanded(value))
            elif value is not None and not declared.holds(value):
                raise ValueError(f"{name} {declared.words}, not {value!r}.")
        self.validate()

    def validate(self) -> None:
        """Refuses what the types of single fields do not tell; by default nothing."""


@functools.cache
def _declared(cls: Any) -> list[tuple[str, Any]]:
    hints = typing.get_type_hints(cls, include_extras=True)
    return [(name, one) for name, of in hints.items() for one in getattr(of, "__metadata__", ())]


def _expanded(place: Any) -> Any:
    """A path with "~" written out, each of several, or of several that commas separate."""
    if isinstance(place, tuple):
        return tuple(map(_expanded, place))
    return ",".join(map(os.path.expanduser, place.split(",")))
