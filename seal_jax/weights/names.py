"""Where each parameter lives in a checkpoint, and the way there and back.

One table serves all families, with other rows for those that have norms behind their parts.
Which rows a model has follows from `decoder.param_shapes`. Every `kernel` is [in, out] here and
[out, in] in a checkpoint; tensors of single layers there are slices of a leading axis L here.
"""

import dataclasses
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
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

# Path of a module in the tree → its Hugging Face name and its GGUF name; `{}` stands for the layer.
MODULES = {
    "embed": ("model.embed_tokens", "token_embd"),
    "final_norm": ("model.norm", "output_norm"),
    "head": ("lm_head", "output"),
    "layers/attn_norm": ("model.layers.{}.input_layernorm", "blk.{}.attn_norm"),
    "layers/attn/q_proj": ("model.layers.{}.self_attn.q_proj", "blk.{}.attn_q"),
    "layers/attn/k_proj": ("model.layers.{}.self_attn.k_proj", "blk.{}.attn_k"),
    "layers/attn/v_proj": ("model.layers.{}.self_attn.v_proj", "blk.{}.attn_v"),
    "layers/attn/qkv_proj": ("model.layers.{}.self_attn.qkv_proj", "blk.{}.attn_qkv"),
    "layers/attn/o_proj": ("model.layers.{}.self_attn.o_proj", "blk.{}.attn_output"),
    "layers/attn/q_norm": ("model.layers.{}.self_attn.q_norm", "blk.{}.attn_q_norm"),
    "layers/attn/k_norm": ("model.layers.{}.self_attn.k_norm", "blk.{}.attn_k_norm"),
    "layers/mlp_norm": ("model.layers.{}.post_attention_layernorm", "blk.{}.ffn_norm"),
    "layers/mlp/gate_proj": ("model.layers.{}.mlp.gate_proj", "blk.{}.ffn_gate"),
    "layers/mlp/up_proj": ("model.layers.{}.mlp.up_proj", "blk.{}.ffn_up"),
    "layers/mlp/gate_up_proj": ("model.layers.{}.mlp.gate_up_proj", "blk.{}.ffn_up"),
    "layers/mlp/down_proj": ("model.layers.{}.mlp.down_proj", "blk.{}.ffn_down"),
}
# In their place where there are norms behind attention and MLP.
AROUND = {
    "layers/attn_post_norm": (
        "model.layers.{}.post_attention_layernorm", "blk.{}.post_attention_norm",
    ),
    "layers/mlp_norm": ("model.layers.{}.pre_feedforward_layernorm", "blk.{}.ffn_norm"),
    "layers/mlp_post_norm": (
        "model.layers.{}.post_feedforward_layernorm", "blk.{}.post_ffw_norm",
    ),
}  # fmt: skip
_TRANSPOSED = ("kernel", "a", "b")  # leaves that a checkpoint stores as [out, in] for our [in, out]
# Buffers and copies that carry nothing: rotary frequencies follow from the config, and a tied
# head is the embedding.
_HARMLESS = {"hf": r".*\.rotary_emb\.inv_freq", "gguf": r"rope_freqs\.weight"}
_TIED_HEAD = {"hf": "lm_head.weight", "gguf": "output.weight"}


class WeightsError(ValueError):
    """A checkpoint or tokenizer that cannot be used as it is; the message says what to change."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Leaf:
    """A leaf of a tree, and the tensors of a checkpoint that it is made of.

    Attributes:
      path: path of the leaf, joined by "/".
      shape, dtype: of the leaf.
      tensors: the name of each layer's tensor; or of the one tensor of a leaf outside the layers.
      copy: reads a tensor, in the checkpoint's layout; None where only names are asked for.
    """

    path: str
    shape: Shape
    tensors: tuple[str, ...]
    dtype: Any = np.float32
    copy: Copy | None = None

    @property
    def stacked(self) -> bool:
        """Whether the leading axis is that of the layers."""
        return self.path.startswith("layers/")

    @property
    def transposed(self) -> bool:
        """Whether the checkpoint stores [out, in] for our [in, out]."""
        return self.path.rsplit("/", 1)[1] in _TRANSPOSED

    @property
    def tensor_shape(self) -> Shape:
        """The shape of each tensor in the checkpoint."""
        shape = self.shape[1:] if self.stacked else self.shape
        return shape[::-1] if self.transposed else shape

    def read(self, index: Index | None = None) -> np.ndarray:
        """A part of the leaf, or all of it, as a new array."""
        index = index if index is not None else (slice(None),) * len(self.shape)
        sizes = zip(index, self.shape, strict=True)
        part = np.empty([len(range(*of.indices(size))) for of, size in sizes], self.dtype)
        if not self.stacked:
            self._copy(self.tensors[0], index, part)
            return part
        for place, layer in enumerate(range(*index[0].indices(self.shape[0]))):
            self._copy(self.tensors[layer], index[1:], part[place])
        return part

    def read_layer(self, layer: int, index: Index) -> np.ndarray:
        """A part of one layer of a stacked leaf, without the leading axis."""
        return self.read((slice(layer, layer + 1), *index))[0]

    def _copy(self, name: str, index: Index, part: np.ndarray) -> None:
        assert self.copy is not None, "a leaf without a checkpoint"
        if self.transposed:
            self.copy(name, index[::-1], part.T)
        else:
            self.copy(name, index, part)


def leaves(config: ModelConfig, naming: Naming, **read_by: Any) -> list[Leaf]:
    """Every leaf of a model's parameter tree, with the names of its tensors in a checkpoint.

    Args:
      read_by: dtype and copy of each, where they are read.
    """
    column = ("hf", "gguf").index(naming)
    modules = MODULES | (AROUND if config.norms != "before" else {})
    found = []
    for path, shape in _shapes(config).items():
        module, kind = path.rsplit("/", 1)
        if module not in modules:
            raise NotImplementedError(f"No checkpoint name for {path}: extend MODULES.")
        name = modules[module][column] + (".bias" if kind == "bias" else ".weight")
        layers = range(config.num_layers if path.startswith("layers/") else 1)
        tensors = tuple(name.format(layer) for layer in layers)
        found.append(Leaf(path=path, shape=shape, tensors=tensors, **read_by))
    return found


def tensor_shapes(found: Iterable[Leaf]) -> dict[str, Shape]:
    """The shape of every tensor of some leaves, by its name in the checkpoint."""
    return {name: leaf.tensor_shape for leaf in found for name in leaf.tensors}


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
    wanted = leaves(config, naming, dtype=dtype, copy=copy)
    ignored = re.compile(_HARMLESS[naming])
    tied_head = _TIED_HEAD[naming] if config.tie_embeddings else None
    counted = {
        name: shape
        for name, shape in stored.items()
        if name != tied_head and not ignored.fullmatch(name)
    }
    problems = misfits(counted, tensor_shapes(wanted))
    if problems:
        raise WeightsError(
            f"{source} does not fit a {config.family} model of {config.num_layers} layers: "
            f"it {problems}. {advice}"
        )
    return flax.traverse_util.unflatten_dict({leaf.path: build(leaf) for leaf in wanted}, sep="/")


def disassemble(
    config: ModelConfig, params: Mapping[str, Any], naming: Naming
) -> Iterator[tuple[str, np.ndarray]]:
    """Yields the name and array of every tensor of a checkpoint: the inverse of `assemble`.

    Raises:
      WeightsError: the tree is not one of this model; names the leaves that differ.
    """
    arrays = flax.traverse_util.flatten_dict(dict(params), sep="/")
    problems = misfits({path: array.shape for path, array in arrays.items()}, _shapes(config))
    if problems:
        raise WeightsError(
            f"The parameters are not those of this {config.family} model: the tree {problems}. "
            "Pass the config that the parameters were made with, and merge deltas first."
        )
    for leaf in leaves(config, naming):
        array = np.asarray(arrays[leaf.path])
        for name, tensor in zip(leaf.tensors, array if leaf.stacked else [array], strict=True):
            yield name, np.ascontiguousarray(tensor.T if leaf.transposed else tensor)


def misfits(found: Mapping[str, Shape], expected: Mapping[str, Shape]) -> str:
    """What is wrong with named tensors, as what follows "it"; "" where nothing is.

    >>> misfits({"b": (2,)}, {"b": (3,), "c": (4,)})
    'lacks c [4]; it has the wrong shape for b (found [2], expected [3])'
    """
    missing = [f"{name} {list(expected[name])}" for name in expected if name not in found]
    misshapen = [
        f"{name} (found {list(found[name])}, expected {list(shape)})"
        for name, shape in expected.items()
        if name in found and found[name] != shape
    ]
    extra = [f"{name} {list(found[name])}" for name in found if name not in expected]
    clauses = (
        ("lacks", missing),
        ("has the wrong shape for", misshapen),
        ("holds what this model has no place for:", extra),
    )
    return "; it ".join(f"{verb} {_listed(items)}" for verb, items in clauses if items)


def _shapes(config: ModelConfig) -> dict[str, Shape]:
    """The shape of each parameter, by its path."""
    return flax.traverse_util.flatten_dict(decoder.param_shapes(config), sep="/")


def _listed(items: list[str], limit: int = 6) -> str:
    """The first few items, and how many more there are."""
    more = len(items) - limit
    return ", ".join(items[:limit]) + (f" and {more} more" if more > 0 else "")
