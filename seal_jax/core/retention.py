"""Keeping what earlier updates taught: small functions on a delta, before or while it is merged.

All are for one candidate's low-rank delta over stacked layers, and are mapped over K. A module's
change is scale * A B with A [L, in, R] and B [L, R, out].
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp

from seal_jax.core.delta import Delta, Tree
from seal_jax.core.model import per_layer
from seal_jax.core.precision import exact_product


def empty(delta: Delta, slots: int) -> Delta:
    """A delta that changes nothing, with room for `slots` deltas of this one's rank."""
    spec = dataclasses.replace(
        delta.spec, rank=delta.spec.rank * slots, alpha=delta.spec.alpha * slots
    )

    def zeros(a, b):
        return {
            "a": jnp.zeros((*a.shape[:-1], spec.rank), a.dtype),
            "b": jnp.zeros((*b.shape[:-2], spec.rank, b.shape[-1]), b.dtype),
        }

    return Delta(_map_modules(zeros, delta.tree), spec)


def put(total: Delta, delta: Delta, slot) -> Delta:
    """`total` with `delta` in one of the slots that `empty` made; what was there is replaced."""

    def replace(path, leaf, new):
        axis = leaf.ndim - (1 if path[-1].key == "a" else 2)
        return jax.lax.dynamic_update_slice_in_dim(leaf, new, slot * delta.spec.rank, axis)

    return Delta(jax.tree.map_with_path(replace, total.tree, delta.tree), total.spec)


def input_directions(delta: Delta, energy: float) -> Tree:
    """Orthonormal input directions that hold a share of each module's change.

    Args:
      delta: low rank.
      energy: the share of the squared Frobenius norm of A B, in each layer, that the strongest
        directions must hold.

    Returns:
      {module: {"a": [L, in, min(R, in)]}}; directions beyond the share, or of no change, are zero
      columns.
    """

    def directions(a, b):
        u, strengths_LxR, _ = _decomposed(a, b)
        squares_LxR = strengths_LxR**2
        before_LxR = jnp.cumsum(squares_LxR, axis=-1) - squares_LxR
        total_Lx1 = squares_LxR.sum(axis=-1, keepdims=True)
        kept_LxR = (before_LxR < energy * total_Lx1) & (squares_LxR > 1e-12 * total_Lx1)
        return {"a": u * kept_LxR[:, None, :]}

    return _map_modules(directions, delta.tree)


def project_out(tree: Tree, directions: Tree) -> Tree:
    """A delta's tree with every A made orthogonal to the directions; B stays."""

    def spare(basis, a, b):
        shared = exact_product(jnp.swapaxes(basis["a"], -1, -2), a)
        return {"a": a - exact_product(basis["a"], shared), "b": b}

    return _map_modules(spare, tree, directions)


def scaled(delta: Delta, factor) -> Delta:
    """The delta times a factor w: the weights before and after are averaged, 1 - w to w."""
    tree = _map_modules(lambda a, b: {"a": a, "b": b * factor}, delta.tree)
    return Delta(tree, delta.spec)


def truncated(delta: Delta, rank: int) -> Delta:
    """Each module's change in its best approximation of a rank, as factors of the same shape."""

    def truncate(a, b):
        u, strengths, v = _decomposed(a, b)
        kept = jnp.arange(strengths.shape[-1]) < rank
        strengths = jnp.where(kept, strengths, 0.0)
        factors = u * strengths[:, None, :], v * kept[:, None]
        missing = a.shape[-1] - strengths.shape[-1]  # where a layer is narrower than the rank
        return {
            "a": jnp.pad(factors[0], [(0, 0), (0, 0), (0, missing)]),
            "b": jnp.pad(factors[1], [(0, 0), (0, missing), (0, 0)]),
        }

    return Delta(_map_modules(truncate, delta.tree), delta.spec)


def norm_capped(delta: Delta, params: Tree, limit: float) -> Delta:
    """The delta with each module's change, a layer at a time, scaled down to a norm at most.

    Args:
      params: base parameters.
      limit: the largest Frobenius norm of a change, as a share of its kernel's.
    """

    def capped(path, factors):
        module = functools.reduce(lambda tree, key: tree[key.key], path, params)
        kernel_norm = per_layer.each(_norm, module["kernel"])
        a, b = factors["a"], factors["b"]
        gram = exact_product(jnp.swapaxes(a, -1, -2), a) * exact_product(b, jnp.swapaxes(b, -1, -2))
        norm_L = delta.spec.scale * jnp.sqrt(jnp.maximum(gram.sum(axis=(-1, -2)), 0.0))
        most_L = limit * per_layer.stacked(kernel_norm)
        factor_L = jnp.minimum(1.0, most_L / jnp.maximum(norm_L, 1e-30))
        return {"a": a, "b": b * factor_L[:, None, None]}

    return Delta(jax.tree.map_with_path(capped, delta.tree, is_leaf=_is_module), delta.spec)


def _norm(kernel):
    """The Frobenius norm of the last two axes."""
    return jnp.sqrt((kernel.astype(jnp.float32) ** 2).sum(axis=(-1, -2)))


def _decomposed(a, b):
    """The singular value decomposition (u, strengths, v) of each layer's A B.

    On a CPU one matrix is decomposed at a time, for all layers and candidates. Several calls on
    batches may run side by side there, and each waits inside the threads that it hands its own
    batch to: with few cores they wait for each other for ever.
    """
    one = _decomposed_layer
    if jax.default_backend() == "cpu":
        one = jax.custom_batching.sequential_vmap(one)
    return jax.vmap(one)(a, b)


def _decomposed_layer(a, b):
    q, r = jnp.linalg.qr(a)
    u, strengths, v = jnp.linalg.svd(exact_product(r, b), full_matrices=False)
    return exact_product(q, u), strengths, v


def _map_modules(function, tree: Tree, *others: Tree) -> Tree:
    """The tree of function(*of the others, a, b) for every module."""
    return jax.tree.map(
        lambda factors, *more: function(*more, **factors), tree, *others, is_leaf=_is_module
    )


def _is_module(tree: Tree) -> bool:
    return "a" in tree
