"""Keeping what earlier updates taught: small functions on a delta, before or while it is merged.

All are for one candidate's low-rank delta over stacked layers, and are mapped over K. A module's
change is scale * A B with A [L, in, R] and B [L, R, out].
"""

import dataclasses

import flax.traverse_util
import jax
import jax.numpy as jnp

from seal_jax.core.delta import Delta, Tree


def empty(delta: Delta, slots: int) -> Delta:
    """A delta that changes nothing, with room for `slots` deltas of this one's rank."""
    spec = dataclasses.replace(
        delta.spec, rank=delta.spec.rank * slots, alpha=delta.spec.alpha * slots
    )

    def zeros(path: tuple[str, ...], leaf):
        axis = leaf.ndim - 1 if path[-1] == "a" else leaf.ndim - 2
        shape = [size * slots if i == axis else size for i, size in enumerate(leaf.shape)]
        return jnp.zeros(shape, leaf.dtype)

    flat = flax.traverse_util.flatten_dict(delta.tree)
    tree = {path: zeros(path, leaf) for path, leaf in flat.items()}
    return Delta(flax.traverse_util.unflatten_dict(tree), spec)


def put(total: Delta, delta: Delta, slot) -> Delta:
    """`total` with `delta` in one of the slots that `empty` made; what was there is replaced."""
    flat, new = (flax.traverse_util.flatten_dict(d.tree) for d in (total, delta))
    start = slot * delta.spec.rank
    tree = {
        path: jax.lax.dynamic_update_slice_in_dim(
            leaf, new[path], start, axis=leaf.ndim - (1 if path[-1] == "a" else 2)
        )
        for path, leaf in flat.items()
    }
    return Delta(flax.traverse_util.unflatten_dict(tree), total.spec)


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

    return _map_modules(delta.tree, directions)


def project_out(tree: Tree, directions: Tree) -> Tree:
    """A delta's tree with every A made orthogonal to the directions; B stays."""
    flat = dict(flax.traverse_util.flatten_dict(tree))
    for path, basis in flax.traverse_util.flatten_dict(directions).items():
        flat[path] = flat[path] - basis @ (jnp.swapaxes(basis, -1, -2) @ flat[path])
    return flax.traverse_util.unflatten_dict(flat)


def scaled(delta: Delta, factor) -> Delta:
    """The delta times a factor w: the weights before and after are averaged, 1 - w to w."""
    tree = _map_modules(delta.tree, lambda a, b: {"a": a, "b": b * factor})
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

    return Delta(_map_modules(delta.tree, truncate), delta.spec)


def norm_capped(delta: Delta, params: Tree, limit: float) -> Delta:
    """The delta with each module's change, a layer at a time, scaled down to a norm at most.

    Args:
      params: base parameters.
      limit: the largest Frobenius norm of a change, as a share of its kernel's.
    """
    flat = flax.traverse_util.flatten_dict(params)
    found: dict[tuple[str, ...], jax.Array] = {}
    for path, factors in _modules(delta.tree).items():
        kernel = flat[(*path, "kernel")].astype(jnp.float32)
        a, b = factors["a"], factors["b"]
        gram = (jnp.swapaxes(a, -1, -2) @ a) * (b @ jnp.swapaxes(b, -1, -2))
        norm_L = delta.spec.scale * jnp.sqrt(jnp.maximum(gram.sum(axis=(-1, -2)), 0.0))
        most_L = limit * jnp.sqrt((kernel**2).sum(axis=(-1, -2)))
        factor_L = jnp.minimum(1.0, most_L / jnp.maximum(norm_L, 1e-30))
        found |= {(*path, "a"): a, (*path, "b"): b * factor_L[:, None, None]}
    return Delta(flax.traverse_util.unflatten_dict(found), delta.spec)


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
    u, strengths, v = jnp.linalg.svd(r @ b, full_matrices=False)
    return q @ u, strengths, v


def _modules(tree: Tree) -> dict[tuple[str, ...], Tree]:
    """{path of a module: {"a", "b"}}."""
    found: dict[tuple[str, ...], Tree] = {}
    for path, leaf in flax.traverse_util.flatten_dict(tree).items():
        found.setdefault(path[:-1], {})[path[-1]] = leaf
    return found


def _map_modules(tree: Tree, function) -> Tree:
    """The tree of function(a, b) for every module."""
    flat: dict[tuple[str, ...], jax.Array] = {}
    for path, factors in _modules(tree).items():
        flat |= {(*path, name): leaf for name, leaf in function(**factors).items()}
    return flax.traverse_util.unflatten_dict(flat)
