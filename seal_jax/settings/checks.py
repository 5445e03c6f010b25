"""What the settings share: their error, and checks of values."""

import itertools


class SettingsError(ValueError):
    """A setting is unknown, of the wrong type, or impossible; the message says what to change."""


def require(condition: bool, message: str) -> None:
    """Raises a ValueError unless the condition holds; `config_dict` adds the setting's name."""
    if not condition:
        raise ValueError(message)


def ascending(values: tuple[int, ...]) -> bool:
    """Whether there are values, all positive and each above the last."""
    return bool(values) and values[0] > 0 and all(a < b for a, b in itertools.pairwise(values))
