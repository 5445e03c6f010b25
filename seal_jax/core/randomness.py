"""Keys that depend on what they are for, never on an order, a clock or a device count."""

import zlib
from collections.abc import Sequence

import jax
import numpy as np


def key_for(seed: int, *parts: int | str) -> jax.Array:
    """The PRNG key of (seed, *parts), folded in one part at a time.

    Args:
      seed: the run's seed.
      *parts: what the key is for, such as ("init", round, context id, candidate). Strings are
        folded in through CRC-32, non-negative integers as they are.

    >>> key_for(0, "sample", 1, "passage-3") == key_for(0, "sample", 1, "passage-3")
    Array(True, dtype=bool)
    >>> key_for(0, "sample", 1, "passage-3") == key_for(0, "sample", 2, "passage-3")
    Array(False, dtype=bool)
    """
    key = jax.random.key(seed)
    for part in parts:
        number = zlib.crc32(part.encode()) if isinstance(part, str) else part
        key = jax.random.fold_in(key, number)
    return key


def keys_for(seed: int, names: Sequence[tuple]) -> jax.Array:
    """One `key_for` a name, as an array of keys made from host data; names may repeat."""
    unique = {name: jax.random.key_data(key_for(seed, *name)) for name in dict.fromkeys(names)}
    found = jax.device_get(unique)
    data = np.stack([found[name] for name in names])
    return jax.random.wrap_key_data(data)  # type: ignore[arg-type]  # host data will do
