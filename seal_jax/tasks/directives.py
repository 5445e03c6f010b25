"""Directives: the line of JSON with which a self-edit says how it is to be learned.

    {"learning_rate": 1e-3, "epochs": 4}
    Ullen is a town on the Varde. ...

The first line is the head, the rest the body. A head that breaks the form or a limit is refused
with a reason: nothing is filled in, clipped or rounded. `regex` accepts the canonical heads whose
learning rate has a single digit, so that a policy can be held to them while it writes.
"""

import dataclasses
import decimal
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from seal_jax.tasks.protocol import Directives, Lesson, Refusal

NAMES = ("learning_rate", "epochs")
_MOST_EPOCHS = 1000  # far above what any inner loop takes


class HeadError(ValueError):
    """A self-edit has no head that can be followed; the message is the reason."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits:
    """What directives may ask for, bounds included."""

    min_learning_rate: float = 1e-5
    max_learning_rate: float = 1e-2
    min_epochs: int = 1
    max_epochs: int = 10

    def __post_init__(self):
        low, high = self.min_learning_rate, self.max_learning_rate
        if not 0 < low <= high < math.inf:
            raise ValueError(
                "learning rates must have finite limits above 0, the lower first, not "
                f"{low} to {high}."
            )
        if not 1 <= self.min_epochs <= self.max_epochs <= _MOST_EPOCHS:
            raise ValueError(
                f"epochs must have limits from 1 to {_MOST_EPOCHS}, the lower first, not "
                f"{self.min_epochs} to {self.max_epochs}."
            )

    def learning_rates(self) -> tuple[float, ...]:
        """The learning rates of a single digit within the limits, ascending.

        Raises:
          ValueError: there is none.

        >>> Limits(min_learning_rate=8e-5, max_learning_rate=2e-4).learning_rates()
        (8e-05, 9e-05, 0.0001, 0.0002)
        """
        exponents = range(
            math.floor(math.log10(self.min_learning_rate)) - 1,
            math.ceil(math.log10(self.max_learning_rate)) + 2,
        )
        rates = (float(f"{digit}e{exponent}") for exponent in exponents for digit in range(1, 10))
        found = tuple(
            rate for rate in rates if self.min_learning_rate <= rate <= self.max_learning_rate
        )
        if not found:
            raise ValueError(
                "no learning rate of a single digit (such as 1e-4) lies from "
                f"{self.min_learning_rate} to {self.max_learning_rate}: widen the limits."
            )
        return found

    def check(self, name: str, value: Any, key: str = "") -> Any:
        """The value of a directive, if it is one within the limits.

        Args:
          name: of `NAMES`.
          value: as JSON has it.
          key: what it is called, if otherwise.

        Raises:
          HeadError: it is not.
        """
        whole = name == "epochs"
        if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
            expected = "an integer" if whole else "a number"
            raise HeadError(f"{key or name} must be {expected}, not {shown(value)}.")
        if not getattr(self, f"min_{name}") <= value <= getattr(self, f"max_{name}"):
            raise HeadError(f"{key or name} must be {self.said(name)}, not {shown(value)}.")
        return value if whole else float(value)

    def said(self, name: str) -> str:
        """The limits of a directive in words: "from 1 to 10"."""
        low, high = (_text(name, getattr(self, f"{end}_{name}")) for end in ("min", "max"))
        return f"from {low} to {high}"


def preface(names: Sequence[str], limits: Limits) -> str:
    """What goes before a prompt, to ask for a self-edit with a head.

    The example is the middle of the limits, since a small model keeps to it.

    >>> print(preface(("epochs",), Limits()).strip())
    The answer to what follows begins with one line of JSON, such as {"epochs": 5}, which says how \
to train on the rest of the answer: epochs from 1 to 10. The rest begins on the next line.
    """
    low, high = limits.min_learning_rate, limits.max_learning_rate
    rate = float(f"{math.sqrt(low * high):.0e}")  # of one digit
    example = Directives(
        learning_rate=min(max(rate, low), high),
        epochs=(limits.min_epochs + limits.max_epochs) // 2,
    )
    words = {"learning_rate": "a learning rate", "epochs": "epochs"}
    head = write(example, names)
    ranges = " and ".join(f"{words[name]} {limits.said(name)}" for name in names)
    return (
        f"The answer to what follows begins with one line of JSON, such as {head}, "
        f"which says how to train on the rest of the answer: "
        f"{ranges}. The rest begins on the next line.\n\n"
    )


def write(directives: Directives, names: Sequence[str]) -> str:
    """The canonical head, without its line's end.

    >>> write(Directives(learning_rate=0.00015, epochs=2), NAMES)
    '{"learning_rate": 1.5e-4, "epochs": 2}'
    """
    fields = [f'"{name}": {_text(name, getattr(directives, name))}' for name in names]
    return "{" + ", ".join(fields) + "}"


def regex(names: Sequence[str], limits: Limits) -> str:
    """A regular expression of the canonical heads with `limits.learning_rates()`.

    It ends with the line's end, and keeps to what Python's `re` and outlines-core read alike.

    >>> regex(("epochs",), Limits(max_epochs=3))
    '\\\\{"epochs": (1|2|3)\\\\}\\\\n'
    """
    values: dict[str, Iterable[float]] = {
        "learning_rate": limits.learning_rates(),
        "epochs": range(limits.min_epochs, limits.max_epochs + 1),
    }
    fields = ", ".join(
        f'"{name}": ({"|".join(_text(name, value) for value in values[name])})' for name in names
    )
    return rf"\{{{fields}\}}\n"


def split(self_edit: str, names: Sequence[str], limits: Limits) -> tuple[Directives, str]:
    """The directives of a self-edit, and its body.

    Raises:
      HeadError: its first line is no JSON object with just these keys, each once, or exceeds the
        limits.

    >>> split('{"epochs": 2}\\nOsk is a river.', ("epochs",), Limits())
    (Directives(learning_rate=None, epochs=2), 'Osk is a river.')
    """
    head, _, body = self_edit.lstrip().partition("\n")
    try:
        found = json.loads(head, object_pairs_hook=unique)
    except HeadError:
        raise
    except (ValueError, RecursionError):
        raise HeadError("the first line is not JSON.") from None
    if not isinstance(found, dict) or found.keys() != set(names):
        raise HeadError(f"the first line must be an object of {', '.join(names)}.")
    return Directives(**{name: limits.check(name, found[name]) for name in names}), body


def random(names: Sequence[str], limits: Limits, seed: Sequence[int]) -> Directives:
    """Directives drawn evenly from the canonical ones; they follow from the seed alone."""
    generator = np.random.default_rng(list(seed))
    drawn: dict[str, Any] = {"learning_rate": float(generator.choice(limits.learning_rates()))}
    drawn["epochs"] = int(generator.integers(limits.min_epochs, limits.max_epochs + 1))
    return Directives(**{name: drawn[name] for name in names})


def describe(lessons: Iterable[Iterable[Lesson | Refusal]]) -> dict[str, Any]:
    """What directives lessons have: quartiles, how many differ, and the commonest head."""
    every = [lesson for of_context in lessons for lesson in of_context]
    valid = [lesson for lesson in every if isinstance(lesson, Lesson) and lesson.head]
    invalid = sum(isinstance(lesson, Refusal) and lesson.invalid for lesson in every)
    found: dict[str, Any] = {"valid": len(valid), "invalid": invalid}
    if not valid:
        return found
    for name in NAMES:
        values = [v for lesson in valid if (v := getattr(lesson.directives, name)) is not None]
        if values:
            quartiles = np.quantile(values, (0.25, 0.5, 0.75), method="nearest")
            found[name] = [float(value) for value in quartiles]
    heads = Counter(lesson.head for lesson in valid)
    commonest, times = heads.most_common(1)[0]
    return found | {"distinct": len(heads), "commonest": commonest, "commonest_times": times}


def said(found: Mapping[str, Any]) -> str:
    """What `describe` found, in one line."""
    if not found["valid"]:
        return f"none valid of {found['invalid']}"
    shares = [f"{name} {value:.0%}" for name, value in found.items() if isinstance(value, float)]
    medians = [
        f"median {name.replace('_', ' ')} {found[name][1]:g}" for name in NAMES if name in found
    ]
    parts = [f"{found['valid']} valid, {found['invalid']} not", ", ".join(shares)]
    parts += [", ".join(medians), f"{found['distinct']} distinct"]
    return "; ".join(part for part in parts if part)


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON, for `json.loads`.

    Raises:
      HeadError: it has a key twice.
    """
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise HeadError(f"the key {shown(twice)} is given twice.")
    return found


def _text(name: str, value: float) -> str:
    return rate_text(value) if name == "learning_rate" else str(value)


def rate_text(rate: float) -> str:
    """The shortest digits that give a number back, with an exponent.

    >>> rate_text(1e-4), rate_text(0.00015), rate_text(2)
    ('1e-4', '1.5e-4', '2e0')
    """
    _, digits, exponent = decimal.Decimal(repr(rate)).normalize().as_tuple()
    fraction = "".join(map(str, digits[1:]))
    power = int(exponent) + len(fraction)
    return f"{digits[0]}{'.' if fraction else ''}{fraction}e{power}"


def shown(value: Any) -> str:
    """JSON of a value, cut short."""
    try:
        text = json.dumps(value)
    except ValueError:  # an integer of too many digits
        text = "a number with too many digits"
    return text if len(text) <= 40 else f"{text[:37]}..."
