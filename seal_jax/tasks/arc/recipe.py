"""The self-edit of few-shot learning: a JSON object that says how to train on a task.

    {"data_generation": {"use_basic_augmentations": true, "use_size_augmentations": false,
                         "use_chain_augmentations": false, "use_repeat_augmentations": false},
     "training": {"strategy": "train_using_output_tokens", "learning_rate": 1e-4,
                  "num_train_epochs": 2}}

(The schema of SEAL, section 3.3 and appendix A, arXiv 2506.10943.) What a model writes round the
object is passed over; the object itself is held to the schema. A recipe that breaks it, or a limit,
is a failed self-edit with a reason: nothing is filled in, clipped or rounded.

A recipe has one canonical text. `regex` accepts the canonical texts of the recipes whose learning
rate has a single digit, so that a policy can be held to them while it writes (`constrained`).
"""

import dataclasses
import importlib.resources
import json
import re
from collections.abc import Sequence
from typing import Any

from seal_jax.tasks.arc.augment import FAMILIES
from seal_jax.tasks.directives import HeadError, Limits, rate_text, shown, unique

_STRATEGIES = {"train_using_all_tokens": False, "train_using_output_tokens": True}
_RATE, _EPOCHS = "learning_rate", "num_train_epochs"
_OPENING = re.compile(r"\{\s*[\"}]")
_PLACEHOLDER = re.compile(r"\{(\w+)\}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """How to train on a task's demonstrations.

    Attributes:
      basic, size, chain, repeat: which families of augmentations are added.
      outputs_only: the loss is on the tokens of output grids, rather than on all.
      learning_rate: the peak; epochs: passes over the training examples.
    """

    basic: bool
    size: bool
    chain: bool
    repeat: bool
    outputs_only: bool
    learning_rate: float
    epochs: int


def request(demonstrations: str, limits: Limits) -> str:
    """The user's turn that asks for a recipe.

    Args:
      demonstrations: the task's pairs as text.
      limits: told to the model.
    """
    template = importlib.resources.files(__package__).joinpath("templates", "recipe.txt")
    values = {
        "demonstrations": demonstrations,
        "least_rate": rate_text(limits.min_learning_rate),
        "most_rate": rate_text(limits.max_learning_rate),
        "least_epochs": str(limits.min_epochs),
        "most_epochs": str(limits.max_epochs),
    }
    text = template.read_text(encoding="utf-8").rstrip("\n")
    return _PLACEHOLDER.sub(lambda match: values[match.group(1)], text)


def write(recipe: Recipe) -> str:
    """The canonical text of a recipe: one line, keys in the order of the schema.

    >>> write(Recipe(basic=True, size=False, chain=False, repeat=False, outputs_only=True,
    ...              learning_rate=0.00015, epochs=2))[-50:]
    ', "learning_rate": 1.5e-4, "num_train_epochs": 2}}'
    """
    used = ["true" if getattr(recipe, name) else "false" for name in FAMILIES]
    (strategy,) = (name for name, only in _STRATEGIES.items() if only == recipe.outputs_only)
    return _layout(used, f'"{strategy}"', rate_text(recipe.learning_rate), str(recipe.epochs))


def regex(limits: Limits) -> str:
    """A regular expression of the canonical texts with `limits.learning_rates()`.

    It keeps to what Python's `re` and outlines-core read in the same way.

    Raises:
      ValueError: no learning rate of a single digit lies within the limits.
    """
    rates = [rate_text(rate) for rate in limits.learning_rates()]
    epochs = map(str, range(limits.min_epochs, limits.max_epochs + 1))
    fields = [["true", "false"]] * len(FAMILIES)
    fields += [[f'"{strategy}"' for strategy in _STRATEGIES], rates, list(epochs)]
    *used, strategy, rate, count = (f"({'|'.join(field)})" for field in fields)
    return _layout(used, strategy, rate, count).replace("{", r"\{").replace("}", r"\}")


def _layout(used: Sequence[str], strategy: str, rate: str, epochs: str) -> str:
    """The canonical text with these in the places of the values."""
    families = ", ".join(
        f'"{_key(name)}": {value}' for name, value in zip(FAMILIES, used, strict=True)
    )
    training = f'"strategy": {strategy}, "{_RATE}": {rate}, "{_EPOCHS}": {epochs}'
    return f'{{"data_generation": {{{families}}}, "training": {{{training}}}}}'


def _key(family: str) -> str:
    return f"use_{family}_augmentations"


def parse(text: str, limits: Limits) -> Recipe:
    """Reads the recipe in what a model wrote.

    The text may hold words or a code fence round it, but one JSON object only.

    Raises:
      HeadError: no object, several, broken JSON, or an object that is not of the schema or
        exceeds the limits.
    """
    whole = _check_keys(_only_object(text), "the recipe", ("data_generation", "training"))
    augmentations = [_key(name) for name in FAMILIES]
    data = _check_keys(whole["data_generation"], "data_generation", augmentations)
    training = _check_keys(whole["training"], "training", ("strategy", _RATE, _EPOCHS))
    for key in augmentations:
        if not isinstance(data[key], bool):
            raise HeadError(f"{key} must be true or false, not {shown(data[key])}.")
    strategy = training["strategy"]
    if not isinstance(strategy, str) or strategy not in _STRATEGIES:
        raise HeadError(f"strategy must be {' or '.join(_STRATEGIES)}, not {shown(strategy)}.")
    return Recipe(
        **{name: data[_key(name)] for name in FAMILIES},
        outputs_only=_STRATEGIES[strategy],
        learning_rate=limits.check("learning_rate", training[_RATE]),
        epochs=limits.check("epochs", training[_EPOCHS], _EPOCHS),
    )


def _only_object(text: str) -> Any:
    """The one JSON object of a text; braces that open no object are words."""
    decoder = json.JSONDecoder(object_pairs_hook=unique, parse_constant=_constant)
    found, place = [], 0
    while (opening := _OPENING.search(text, place)) is not None:
        try:
            value, place = decoder.raw_decode(text, opening.start())
        except json.JSONDecodeError as error:
            near = text[error.pos : error.pos + 20]
            raise HeadError(
                f"the JSON is broken at character {error.pos} ({error.msg.lower()}): {near!r}."
            ) from None
        except RecursionError:
            raise HeadError("the JSON is nested too deeply.") from None
        except HeadError:
            raise
        except ValueError:  # Python refuses integers of more than some thousand digits
            raise HeadError("the JSON holds a number with too many digits.") from None
        found.append(value)
    if len(found) != 1:
        what = f"{len(found)} JSON objects" if found else "no JSON object"
        raise HeadError(f"the text holds {what}: expected one.")
    return found[0]


def _constant(name: str) -> Any:
    raise HeadError(f"{name} is not a number that JSON has.")


def _check_keys(value: Any, where: str, keys: Sequence[str]) -> dict[str, Any]:
    """The value, if it is an object of exactly these keys."""
    if not isinstance(value, dict):
        raise HeadError(f"{where} must be an object, not {shown(value)}.")
    if missing := [key for key in keys if key not in value]:
        raise HeadError(f"{where} lacks {', '.join(missing)}.")
    if extra := [key for key in value if key not in keys]:
        raise HeadError(f"{where} holds {shown(extra[0])}, which is not in the schema.")
    return value
