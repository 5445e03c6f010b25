"""Bytes and trees of arrays, as they go between hosts."""

from typing import Any

import jax
import numpy as np

_SMALLEST = 1 << 16


def padded(size: int) -> int:
    """A power of two, so that few sizes are compiled for.

    >>> padded(0), padded(65537)
    (65536, 131072)
    """
    return max(_SMALLEST, 1 << max(size - 1, 0).bit_length())


def array(data: bytes, size: int) -> np.ndarray:
    """The bytes as `size` numbers, with zeros at the end."""
    found = np.zeros(size, np.uint8)
    found[: len(data)] = np.frombuffer(data, np.uint8)
    return found


def unpacked(data: bytes, like: Any) -> Any:
    """The tree of which the leaves' bytes were put one after another."""
    leaves, treedef = jax.tree.flatten(like)
    offset, found = 0, []
    for leaf in leaves:
        count = int(np.prod(leaf.shape))
        host = np.frombuffer(data, leaf.dtype, count, offset).reshape(leaf.shape)
        offset += host.nbytes
        found.append(jax.device_put(host, leaf.sharding))
    return jax.tree.unflatten(treedef, found)
