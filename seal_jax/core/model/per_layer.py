"""Parameters whose layers lie in arrays of their own rather than in one stack.

A program that scans over a stack, or slices it inside a loop, has the compiler of GPUs copy each
layer's weights before it multiplies with them, forward and backward; arrays of their own it reads
where they lie. So on GPUs a run holds its weights like this, and programs go from layer to layer
without a scan. Everything else is stacked: checkpoints, deltas and what is done with them.
"""

from collections.abc import Callable
from typing import Any

import flax.traverse_util
import jax
import jax.numpy as jnp


@jax.tree_util.register_pytree_with_keys_class
class PerLayer:
    """A leaf [L, ...] of the parameter tree as L arrays; it has the stack's shape and dtype."""

    def __init__(self, arrays):
        self.arrays = tuple(arrays)

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.arrays), *self.arrays[0].shape)

    @property
    def dtype(self):
        return self.arrays[0].dtype

    def __getitem__(self, layer: int):
        return self.arrays[layer]

    def tree_flatten_with_keys(self):
        keys = map(jax.tree_util.FlattenedIndexKey, range(len(self.arrays)))
        return tuple(zip(keys, self.arrays, strict=True)), None

    @classmethod
    def tree_unflatten(cls, _, arrays):
        return cls(arrays)


def separated(params, *, give_up: bool = False):
    """A parameter tree with its layers in arrays of their own.

    Args:
      give_up: the stacks are deleted, each as soon as its layers are there.
    """
    flat = flax.traverse_util.flatten_dict(params, sep="/")
    for path in [path for path in flat if path.startswith("layers/")]:
        stack = flat[path]
        flat[path] = PerLayer(jnp.unstack(stack))
        if give_up:
            jax.block_until_ready(flat[path])
            stack.delete()
    return flax.traverse_util.unflatten_dict(flat, sep="/")


def is_separated(layers) -> bool:
    """Whether the `layers` of a parameter tree are."""
    return any(isinstance(leaf, PerLayer) for leaf in jax.tree.leaves(layers, is_leaf=_is_leaf))


def layer(layers, number: int):
    """The tree of one layer, of stacks [L, ...] or of arrays of their own."""
    return jax.tree.map(lambda leaf: leaf[number], layers, is_leaf=_is_leaf)


def each(function: Callable[..., Any], leaf, *stacks):
    """`function` of a stack [L, ...] and of trees of others like it, or of each layer's part.

    Args:
      leaf: an array, or a `PerLayer`, which the result then is too.
    """
    if not isinstance(leaf, PerLayer):
        return function(leaf, *stacks)
    parts = [layer(stacks, number) for number in range(len(leaf.arrays))]
    return PerLayer(function(one, *of) for one, of in zip(leaf.arrays, parts, strict=True))


def stacked(leaf):
    """The leaf as one array [L, ...]."""
    return jnp.stack(leaf.arrays) if isinstance(leaf, PerLayer) else leaf


def _is_leaf(node) -> bool:
    return isinstance(node, PerLayer)
