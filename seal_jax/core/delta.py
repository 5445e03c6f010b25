"""Parameter-delta pytrees: what an inner update learns, kept apart from the base parameters.

A low-rank delta (LoRA; Hu et al., 2021) of two projections, and a dense one, over parameters
`{"layers": {"attn": {"q_proj": {"kernel": [L, D, F]}, ...}}}`:

    {"layers": {"attn": {"q_proj": {"a": [L, D, R], "b": [L, R, F]}, "v_proj": {...}}}}
    {"layers": {"attn": {"q_proj": {"kernel": [L, D, F]}, "v_proj": {...}}}}

K stacked deltas carry a leading axis K on every leaf.
"""

import functools
import re
import zlib
from collections.abc import Sequence
from typing import Any

import flax.struct
import flax.traverse_util
import jax
import jax.numpy as jnp

from seal_jax.core.model import per_layer
from seal_jax.core.precision import exact_product
from seal_jax.core.specs import DeltaSpec

Tree = dict[str, Any]


class Delta(flax.struct.PyTreeNode):
    """A parameter delta: a tree of float32 leaves and the static spec that gives it meaning."""

    tree: Tree
    spec: DeltaSpec = flax.struct.field(pytree_node=False)


def target_paths(params: Tree, spec: DeltaSpec) -> list[str]:
    """Sorted paths of the parameters that a spec selects.

    Raises:
      ValueError: a target matches no parameter that this kind of delta can change.
    """
    flat = flax.traverse_util.flatten_dict(params, sep="/")
    kernels = re.compile("layers/.*/kernel" if spec.kind == "low_rank" else ".*")
    allowed = list(filter(kernels.fullmatch, flat))
    chosen: set[str] = set()
    for target in spec.targets:
        matches = [path for path in allowed if re.search(target, path)]
        if not matches:
            raise ValueError(
                f"delta target {target!r} matches no parameter; a {spec.kind} delta can change: "
                f"{', '.join(sorted(allowed))}."
            )
        chosen.update(matches)
    return sorted(chosen)


def init(key: jax.Array, params: Tree, spec: DeltaSpec) -> Delta:
    """A delta that changes nothing yet: A uniform in ±1/sqrt(in), B zero; dense leaves zero.

    Each leaf's numbers depend on the key and its own path only.
    """
    flat = flax.traverse_util.flatten_dict(params, sep="/")
    leaves = {}
    for path in target_paths(params, spec):
        shape = flat[path].shape
        if spec.kind == "dense":
            leaves[path] = jnp.zeros(shape, jnp.float32)
            continue
        module = path.removesuffix("/kernel")
        num_layers, features_in, features_out = shape
        key_leaf = jax.random.fold_in(key, zlib.crc32(module.encode()))
        bound = features_in**-0.5
        leaves[f"{module}/a"] = jax.random.uniform(
            key_leaf, (num_layers, features_in, spec.rank), jnp.float32, -bound, bound
        )
        leaves[f"{module}/b"] = jnp.zeros((num_layers, spec.rank, features_out), jnp.float32)
    return Delta(tree=flax.traverse_util.unflatten_dict(leaves, sep="/"), spec=spec)


def shapes(params: Tree, spec: DeltaSpec) -> Tree:
    """The tree of a delta with a ShapeDtypeStruct for each leaf; nothing is allocated."""
    return jax.eval_shape(lambda: init(jax.random.key(0), params, spec)).tree


def variables(delta: Delta | None) -> Tree | None:
    """The `delta` variables that the model reads: the tree with alpha / rank folded into b."""
    if delta is None or delta.spec.kind == "dense":
        return None if delta is None else delta.tree
    scale = delta.spec.scale
    return jax.tree.map_with_path(
        lambda path, leaf: leaf * scale if path[-1].key == "b" else leaf, delta.tree
    )


def grouped_variables(deltas_K: Delta) -> Tree:
    """Variables of K stacked deltas for rows grouped by candidate: leaves [L, K, ...].

    A single dense delta is its own tree.

    Raises:
      ValueError: several dense deltas (they would be copies of the weights).
    """
    if deltas_K.spec.kind == "dense":
        count = len(jax.tree.leaves(deltas_K.tree)[0])
        if count != 1:
            raise ValueError(
                f"{count} dense deltas cannot share one program: set the number of candidates to 1."
            )
        return jax.tree.map(lambda leaf: leaf[0], deltas_K.tree)
    return jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 0, 1), variables(deltas_K))


def apply_to_kernel(kernel, module_delta: Tree, spec: DeltaSpec):
    """A kernel [L, in, out] with its low-rank change added in float32, in the kernel's dtype."""
    change = exact_product(module_delta["a"], module_delta["b"])
    return (kernel.astype(jnp.float32) + change * spec.scale).astype(kernel.dtype)


def merge(params: Tree, deltas: Delta | Sequence[Delta]) -> Tree:
    """Parameters with one or several deltas added; leaves without a change are shared.

    Several deltas are summed onto the float32 form of the base before one rounding to its dtype,
    which is what a float32 master copy of the merged weights would give.
    """
    deltas = [deltas] if isinstance(deltas, Delta) else list(deltas)
    flat = dict(flax.traverse_util.flatten_dict(params, sep="/"))
    dtypes = {path: leaf.dtype for path, leaf in flat.items()}
    for delta in deltas:
        changes = flax.traverse_util.flatten_dict(delta.tree, sep="/")
        for path, leaf in changes.items():
            if path.endswith("/b") and delta.spec.kind == "low_rank":
                continue
            if delta.spec.kind == "low_rank":
                module = path.removesuffix("/a")
                path = f"{module}/kernel"
                factors = {"a": leaf, "b": changes[f"{module}/b"]}
                apply = functools.partial(_applied, spec=delta.spec)
                flat[path] = per_layer.each(apply, flat[path], factors)
            else:
                flat[path] = per_layer.each(_added, flat[path], leaf)
    merged = {
        path: per_layer.each(lambda one, dtype=dtypes[path]: one.astype(dtype), leaf)
        for path, leaf in flat.items()
    }
    return flax.traverse_util.unflatten_dict(merged, sep="/")


def _applied(kernel, factors, spec: DeltaSpec):
    return apply_to_kernel(kernel.astype(jnp.float32), factors, spec)


def _added(weights, change):
    return weights.astype(jnp.float32) + change


def decayed(params: Tree, delta: Delta) -> Tree:
    """What weight decay draws to 0: a low-rank delta's factors; the weights that a dense one makes.

    Returns:
      A tree like the delta's.
    """
    if delta.spec.kind == "low_rank":
        return delta.tree
    flat = flax.traverse_util.flatten_dict(params)
    changes = flax.traverse_util.flatten_dict(delta.tree)
    weights = {
        path: per_layer.stacked(per_layer.each(_added, flat[path], leaf))
        for path, leaf in changes.items()
    }
    return flax.traverse_util.unflatten_dict(weights)


def stack(deltas: Sequence[Delta]) -> Delta:
    """K deltas of one spec as one, with a leading axis K.

    Raises:
      ValueError: the specs differ.
    """
    specs = {delta.spec for delta in deltas}
    if len(specs) != 1:
        raise ValueError(f"only deltas of one spec can be stacked, not {sorted(map(str, specs))}.")
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *deltas)


def concatenate(deltas: Sequence[Delta]) -> Delta:
    """One low-rank delta that changes what several ones change together.

    The factors lie side by side, so the ranks add up: x A1 B1 + x A2 B2 = x [A1 A2] [B1; B2]. The
    scale alpha / rank is kept where it is common; otherwise it becomes 1 and each B carries its
    own. A module that some of the deltas leave alone has zeros for them.

    Raises:
      ValueError: there are none, or one is dense.
    """
    specs = [delta.spec for delta in deltas]
    if not specs or any(spec.kind != "low_rank" for spec in specs):
        raise ValueError(
            f"only low-rank deltas can be concatenated, not {[spec.kind for spec in specs]}: merge "
            "dense ones into the parameters (delta.merge)."
        )
    scales = {spec.scale for spec in specs}
    scale = scales.pop() if len(scales) == 1 else 1.0
    flat = [flax.traverse_util.flatten_dict(delta.tree, sep="/") for delta in deltas]
    leaves = {}
    for path in dict.fromkeys(path for tree in flat for path in tree):
        axis = -1 if path.endswith("/a") else -2
        like = next(tree[path] for tree in flat if path in tree)
        parts = []
        for tree, spec in zip(flat, specs, strict=True):
            shape = list(like.shape)
            shape[axis] = spec.rank
            part = tree.get(path, jnp.zeros(shape, jnp.float32))
            own = 1.0 if axis == -1 or spec.scale == scale else spec.scale
            parts.append(part * own)
        leaves[path] = jnp.concatenate(parts, axis)
    rank = sum(spec.rank for spec in specs)
    spec = DeltaSpec(
        targets=tuple(dict.fromkeys(target for spec in specs for target in spec.targets)),
        rank=rank,
        alpha=scale * rank,
    )
    return Delta(tree=flax.traverse_util.unflatten_dict(leaves, sep="/"), spec=spec)


def take(delta: Delta, index) -> Delta:
    """Candidate(s) `index` (an integer, or an integer array) of a stacked delta."""
    return jax.tree.map(lambda leaf: leaf[index], delta)


def is_finite(delta: Delta):
    """Scalar bool: every leaf is finite."""
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(delta)]).all()
