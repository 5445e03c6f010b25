"""Where each parameter lives in a checkpoint, and the way there and back.

One table serves all families: they share their tensor names, and which rows a model has follows
from `decoder.param_shapes`. Every `kernel` is [in, out] here and [out, in] in a checkpoint;
tensors of single layers there are slices of a leading axis L here.
"""

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

import flax.traverse_util
import numpy as np

from seal_jax.core.model import decoder
from seal_jax.core.model.config import ModelConfig

Naming = Literal["hf", "gguf"]
Shape = tuple[int, ...]
Index = tuple[slice, ...]
# Copies the part of a tensor that an index selects into an array of that shape, casting.
Copy = Callable[[str, Index, np.ndarray], None]

# Path in the tree, Hugging Face name, GGUF name; `{}` stands for the layer.
_TABLE = (
    ("embed/embedding", "model.embed_tokens.weight", "token_embd.weight"),
    ("final_norm/scale", "model.norm.weight", "output_norm.weight"),
    ("head/kernel", "lm_head.weight", "output.weight"),
    ("attn_norm/scale", "input_layernorm.weight", "attn_norm.weight"),
    ("attn/q_proj/kernel", "self_attn.q_proj.weight", "attn_q.weight"),
    ("attn/q_proj/bias", "self_attn.q_proj.bias", "attn_q.bias"),
    ("attn/k_proj/kernel", "self_attn.k_proj.weight", "attn_k.weight"),
    ("attn/k_proj/bias", "self_attn.k_proj.bias", "attn_k.bias"),
    ("attn/v_proj/kernel", "self_attn.v_proj.weight", "attn_v.weight"),
    ("attn/v_proj/bias", "self_attn.v_proj.bias", "attn_v.bias"),
    ("attn/o_proj/kernel", "self_attn.o_proj.weight", "attn_output.weight"),
    ("attn/o_proj/bias", "self_attn.o_proj.bias", "attn_output.bias"),
    ("attn/q_norm/scale", "self_attn.q_norm.weight", "attn_q_norm.weight"),
    ("attn/k_norm/scale", "self_attn.k_norm.weight", "attn_k_norm.weight"),
    ("mlp_norm/scale", "post_attention_layernorm.weight", "ffn_norm.weight"),
    ("mlp/gate_proj/kernel", "mlp.gate_proj.weight", "ffn_gate.weight"),
    ("mlp/up_proj/kernel", "mlp.up_proj.weight", "ffn_up.weight"),
    ("mlp/down_proj/kernel", "mlp.down_proj.weight", "ffn_down.weight"),
)
_TOP = 3  # rows of the table that are not per layer
_LAYER_PREFIX = {"hf": "model.layers.{}.", "gguf": "blk.{}."}
# Buffers and copies that carry nothing: rotary frequencies follow from the config, and a tied
# head is the embedding.
_HARMLESS = {"hf": r".*\.rotary_emb\.inv_freq", "gguf": r"rope_freqs\.weight"}
_TIED_HEAD = {"hf": "lm_head.weight", "gguf": "output.weight"}


class WeightsError(ValueError):
    """A checkpoint or tokenizer that cannot be used as it is; the message says what to change."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Slot:
    """Where one tensor of a checkpoint goes.

    Attributes:
      path: path of the leaf in the parameter tree, joined by "/".
      layer: index on the leaf's leading axis L, or None for a leaf outside the layers.
      shape: the tensor's shape in the checkpoint.
      transposed: whether the checkpoint stores [out, in] for our [in, out].
    """

    path: str
    layer: int | None
    shape: Shape
    transposed: bool


def slots(config: ModelConfig, naming: Naming) -> dict[str, Slot]:
    """Every tensor that a checkpoint of this model must hold, by its name there."""
    shapes = flax.traverse_util.flatten_dict(decoder.param_shapes(config), sep="/")
    names = _names(naming)
    unknown = sorted(set(shapes) - set(names))
    if unknown:
        raise NotImplementedError(
            f"No checkpoint name for the parameters {unknown}: extend _TABLE."
        )
    found = {}
    for path, name in names.items():
        if path not in shapes:
            continue
        stacked = path.startswith("layers/")
        shape = shapes[path][1:] if stacked else shapes[path]
        transposed = path.endswith("/kernel")
        for layer in range(config.num_layers) if stacked else (None,):
            found[name.format(layer)] = Slot(
                path=path,
                layer=layer,
                shape=tuple(reversed(shape)) if transposed else tuple(shape),
                transposed=transposed,
            )
    return found


@dataclasses.dataclass(frozen=True, kw_only=True)
class Leaf:
    """A leaf of the parameter tree that is still in its checkpoint.

    Attributes:
      path: path of the leaf, joined by "/".
      shape, dtype: of the leaf.
      layers: the name of each layer's tensor; or of the one tensor of a leaf outside the layers.
      stacked: whether the leading axis is that of the layers.
      transposed: see `Slot`.
      copy: reads a tensor, in the checkpoint's layout.
    """

    path: str
    shape: Shape
    dtype: np.dtype
    layers: tuple[str, ...]
    stacked: bool
    transposed: bool
    copy: Copy

    def read(self, index: Index | None = None) -> np.ndarray:
        """A part of the leaf, or all of it, as a new array."""
        index = index if index is not None else (slice(None),) * len(self.shape)
        part = np.empty(_part_shape(index, self.shape), self.dtype)
        if not self.stacked:
            self._copy(self.layers[0], index, part)
            return part
        for place, layer in enumerate(range(*index[0].indices(self.shape[0]))):
            self._copy(self.layers[layer], index[1:], part[place])
        return part

    def read_layer(self, layer: int, index: Index) -> np.ndarray:
        """A part of one layer of a stacked leaf, without the leading axis."""
        part = np.empty(_part_shape(index, self.shape[1:]), self.dtype)
        self._copy(self.layers[layer], index, part)
        return part

    def _copy(self, name: str, index: Index, part: np.ndarray) -> None:
        if self.transposed:
            self.copy(name, index[::-1], part.T)
        else:
            self.copy(name, index, part)


def assemble(
    config: ModelConfig,
    naming: Naming,
    stored: Mapping[str, Shape],
    copy: Copy,
    dtype: Any,
    *,
    source: str,
    advice: str,
    build: Callable[[Leaf], Any] = Leaf.read,
) -> dict[str, Any]:
    """Builds the parameter tree from the tensors of a checkpoint, one tensor at a time.

    Accepted and ignored: rotary frequencies (`*.rotary_emb.inv_freq`, `rope_freqs.weight`) and,
    when the embeddings are tied, a separate head (`lm_head.weight`, `output.weight`).

    Args:
      stored: the shape of every tensor that the checkpoint holds, by name.
      copy: reads a part of the tensor of a name, in the checkpoint's layout.
      dtype: dtype of the result.
      source: what to call the checkpoint in an error.
      advice: what a user can do about a mismatch; ends the error.
      build: makes each leaf; by default a numpy array.

    Returns:
      Nested dicts of what `build` made, as `decoder` documents them.

    Raises:
      WeightsError: tensors are missing, extra or misshapen; names them and what was expected.
    """
    expected = slots(config, naming)
    ignored = re.compile(_HARMLESS[naming])
    tied_head = _TIED_HEAD[naming] if config.tie_embeddings else None
    extra = [
        name
        for name in stored
        if name not in expected and name != tied_head and not ignored.fullmatch(name)
    ]
    missing = [name for name in expected if name not in stored]
    misshapen = [
        name for name in expected if name in stored and stored[name] != expected[name].shape
    ]
    problems = []
    if missing:
        problems.append("lacks " + _listed(missing, lambda n: f"{n} {list(expected[n].shape)}"))
    if misshapen:
        problems.append(
            "has the wrong shape for "
            + _listed(
                misshapen,
                lambda n: f"{n} (found {list(stored[n])}, expected {list(expected[n].shape)})",
            )
        )
    if extra:
        problems.append(
            "holds what this model has no place for: "
            + _listed(extra, lambda n: f"{n} {list(stored[n])}")
        )
    if problems:
        model = f"a {config.family} model of {config.num_layers} layers"
        raise WeightsError(
            f"{source} does not fit {model}: it " + "; it ".join(problems) + f". {advice}"
        )
    leaves = _leaves(expected, config, np.dtype(dtype), copy)
    return flax.traverse_util.unflatten_dict({leaf.path: build(leaf) for leaf in leaves}, sep="/")


def disassemble(
    config: ModelConfig, params: Mapping[str, Any], naming: Naming
) -> Iterator[tuple[str, np.ndarray]]:
    """Yields the name and array of every tensor of a checkpoint: the inverse of `assemble`.

    Raises:
      WeightsError: the tree is not one of this model; names the leaves that differ.
    """
    leaves = flax.traverse_util.flatten_dict(dict(params), sep="/")
    shapes = flax.traverse_util.flatten_dict(decoder.param_shapes(config), sep="/")
    wrong = [
        f"{path} (found {_shape(leaves.get(path))}, expected {_shape(shapes.get(path))})"
        for path in sorted(leaves.keys() | shapes.keys())
        if _shape(leaves.get(path)) != _shape(shapes.get(path))
    ]
    if wrong:
        raise WeightsError(
            f"The parameters are not those of this {config.family} model: {_listed(wrong, str)}. "
            "Pass the config that the parameters were made with, and merge deltas first."
        )
    last_path, leaf = "", np.zeros(0)
    for name, slot in slots(config, naming).items():
        if slot.path != last_path:
            last_path, leaf = slot.path, np.asarray(leaves[slot.path])
        tensor = leaf if slot.layer is None else leaf[slot.layer]
        yield name, np.ascontiguousarray(tensor.T if slot.transposed else tensor)


def _names(naming: Naming) -> dict[str, str]:
    """Path of each leaf → its name in a checkpoint, with `{}` for the layer."""
    column = 1 if naming == "hf" else 2
    top = {row[0]: row[column] for row in _TABLE[:_TOP]}
    prefix = _LAYER_PREFIX[naming]
    return top | {"layers/" + row[0]: prefix + row[column] for row in _TABLE[_TOP:]}


def _leaves(expected: Mapping[str, Slot], config, dtype, copy) -> list[Leaf]:
    """The leaves of the tree, each with its tensors in the order of the layers."""
    shapes = flax.traverse_util.flatten_dict(decoder.param_shapes(config), sep="/")
    tensors: dict[str, list[str]] = {path: [] for path in shapes}
    for name, slot in expected.items():
        tensors[slot.path].append(name)
    return [
        Leaf(
            path=path,
            shape=tuple(shape),
            dtype=dtype,
            layers=tuple(tensors[path]),
            stacked=expected[tensors[path][0]].layer is not None,
            transposed=expected[tensors[path][0]].transposed,
            copy=copy,
        )
        for path, shape in shapes.items()
    ]


def _part_shape(index: Index, shape: Shape) -> Shape:
    return tuple(len(range(*part.indices(size))) for part, size in zip(index, shape, strict=True))


def _shape(leaf) -> list[int] | str:
    """A leaf's shape for a message; a tuple of shapes or an array, or nothing there."""
    if leaf is None:
        return "nothing"
    return list(leaf if isinstance(leaf, tuple) else leaf.shape)


def _listed(items: list, describe: Callable[[Any], str], limit: int = 6) -> str:
    """The first few items, and how many more there are."""
    shown = ", ".join(describe(item) for item in items[:limit])
    more = len(items) - limit
    return f"{shown} and {more} more" if more > 0 else shown
