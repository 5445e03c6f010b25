"""Parameters that go from a checkpoint straight onto devices, a tensor at a time.

Each process reads the slices that its own devices hold. A stacked leaf is made on the devices and
filled layer by layer, so that the host never holds more than its part of one tensor of the
checkpoint (and, while a block of rows is cast, that block).
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import NamedSharding, PartitionSpec, Sharding

from seal_jax.core.model.config import ModelConfig
from seal_jax.weights.names import Index, Leaf, Shape

# The model, the path of a parameter, joined by "/", and its shape → where it goes.
ShardingOf = Callable[[ModelConfig, str, Shape], Sharding]


def builder(sharding_of: ShardingOf | None, config: ModelConfig) -> Callable[[Leaf], Any]:
    """What makes the leaves of a tree: numpy arrays, or placed ones where `sharding_of` is given.

    Every process of a run must build the same leaves in the same order.
    """
    if sharding_of is None:
        return Leaf.read
    return lambda leaf: place(leaf, sharding_of(config, leaf.path, leaf.shape))


def place(leaf: Leaf, sharding: Sharding) -> jax.Array:
    """The leaf on devices, as `jax.device_put(leaf.read(), sharding)` would have it."""
    of_layer = _of_layer(sharding) if leaf.stacked else None
    if of_layer is None:
        return _placed(leaf.shape, sharding, leaf.read)
    empty, set_layer = _programs(leaf.shape, leaf.dtype, sharding)
    stacked = empty()
    for number in range(leaf.shape[0]):
        read = functools.partial(leaf.read_layer, number)
        stacked = set_layer(stacked, _placed(leaf.shape[1:], of_layer, read), number)
        stacked.block_until_ready()  # or the tensors that wait for their turn pile up
    return stacked


def _placed(shape: Shape, sharding: Sharding, read: Callable[[Index], np.ndarray]) -> jax.Array:
    """An array whose parts are read once each, however many devices hold them."""
    parts: dict[tuple, np.ndarray] = {}

    def part(index: Index | None) -> np.ndarray:
        assert index is not None, "no array here is without axes"
        key = tuple(one.indices(size) for one, size in zip(index, shape, strict=True))
        if key not in parts:
            parts[key] = read(index)
        return parts[key]

    return jax.make_array_from_callback(shape, sharding, part)


def _of_layer(sharding: Sharding) -> NamedSharding | None:
    """The sharding of one layer of a stacked leaf; None where layers are on different devices."""
    if not isinstance(sharding, NamedSharding) or (sharding.spec and sharding.spec[0]):
        return None
    spec = PartitionSpec(*sharding.spec[1:])
    return NamedSharding(sharding.mesh, spec, memory_kind=sharding.memory_kind)


@functools.cache
def _programs(shape: Shape, dtype: np.dtype, sharding: Sharding) -> tuple[Callable, Callable]:
    """Makes a stacked leaf, and sets one layer of it in place."""
    empty = jax.jit(lambda: jnp.zeros(shape, dtype), out_shardings=sharding)
    # Not stacked.at[number].set(layer): as a scatter, it copies a bfloat16 leaf on CPU.
    set_layer = jax.jit(
        lambda stacked, layer, number: lax.dynamic_update_index_in_dim(stacked, layer, number, 0),
        out_shardings=sharding,
        donate_argnums=0,
    )
    return empty, set_layer
