"""Hugging Face checkpoint directories: safetensors in and out, through numpy."""

import contextlib
import json
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import ml_dtypes  # noqa: F401  (teaches numpy the name "bfloat16")
import numpy as np
import safetensors.numpy
from etils import epath

from seal_jax.core.families import FAMILIES
from seal_jax.core.model.config import ModelConfig
from seal_jax.weights import files, names, placement
from seal_jax.weights.names import WeightsError
from seal_jax.weights.tensor_file import TensorFile

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
_ROWS = 4096  # of an embedding and a head that are compared at once


def load(
    path: epath.PathLike,
    config: ModelConfig,
    dtype: Any,
    sharding_of: placement.ShardingOf | None = None,
) -> dict[str, Any]:
    """Reads the weights of a Hugging Face directory, single file or sharded, tensor by tensor.

    Args:
      path: a directory with `model.safetensors`, or shards and `model.safetensors.index.json`; on a
        local disk or an object store.
      config: the model, from the directory's `config.json`.
      dtype: dtype of the result (any float dtype, bfloat16 too).
      sharding_of: where each parameter goes; see `placement.builder`.

    Returns:
      The parameter tree, numpy arrays or placed ones; see `names.assemble` for tensors that are
      ignored.

    Raises:
      WeightsError: no weights there, a damaged file, or a missing, extra or misshapen tensor.
    """
    with _opened(epath.Path(path)) as where:
        return names.assemble(
            config,
            "hf",
            {name: file.shapes[name] for name, file in where.items()},
            lambda name, part, target: where[name].copy(name, part, target),
            dtype,
            source=f"{path}",
            advice="Check that config.json and the weights belong to the same checkpoint "
            "(model_type, num_hidden_layers, tie_word_embeddings), that every shard is complete, "
            "and that adapters were merged before saving.",
            build=placement.builder(sharding_of, config),
        )


def save(path: epath.PathLike, params: Mapping[str, Any], config_dict: Mapping[str, Any]) -> None:
    """Writes a Hugging Face checkpoint directory: `model.safetensors` and `config.json`.

    Args:
      path: a local directory; made if absent. Files of the same names are replaced.
      params: the parameter tree, deltas merged; every leaf keeps its dtype.
      config_dict: the contents of `config.json`; `architectures` is filled in, and
        `torch_dtype` set to the widest dtype of the parameters.

    Raises:
      WeightsError: the parameters do not fit the config.
    """
    config = ModelConfig.from_hf(config_dict)
    tensors = dict(names.disassemble(config, params, "hf"))
    widest = max((tensor.dtype for tensor in tensors.values()), key=lambda dtype: dtype.itemsize)
    written = {"architectures": [FAMILIES[config.family].architecture]} | dict(config_dict)
    written.pop("dtype", None)
    written["torch_dtype"] = str(widest)
    path = pathlib.Path(path)
    path.mkdir(parents=True, exist_ok=True)
    safetensors.numpy.save_file(tensors, path / SINGLE, metadata={"format": "pt"})
    (path / "config.json").write_text(json.dumps(written, indent=2) + "\n")


def has_own_head(path: epath.PathLike) -> bool:
    """Whether a checkpoint holds a head that is not its embedding, whatever its config.json says.

    Raises:
      WeightsError: see `load`.
    """
    tied = "model.embed_tokens.weight", "lm_head.weight"
    with _opened(epath.Path(path)) as where:
        if not all(name in where for name in tied):
            return False
        shape, other = (where[name].shapes[name] for name in tied)
        if shape != other:
            return True
        for first in range(0, shape[0], _ROWS):
            rows = (slice(first, first + _ROWS), slice(None))
            parts = np.empty((2, min(_ROWS, shape[0] - first), *shape[1:]), np.float32)
            for name, part in zip(tied, parts, strict=True):
                where[name].copy(name, rows, part)
            if not np.array_equal(*parts):
                return True
    return False


@contextlib.contextmanager
def _opened(path: epath.Path) -> Iterator[dict[str, TensorFile]]:
    """The file of each tensor, by the tensor's name."""
    index = {} if (path / SINGLE).exists() else read_index(path)
    with contextlib.ExitStack() as stack:
        where: dict[str, TensorFile] = {}
        for shard in sorted(set(index.values())) or [SINGLE]:
            if not (path / shard).exists():
                raise WeightsError(
                    f"{path / shard} is missing, although {INDEX} names it: fetch it again."
                )
            file = stack.enter_context(TensorFile(path / shard))
            where |= dict.fromkeys(sorted(file.shapes), file)
        _check_index(path, index, {name: file.path.name for name, file in where.items()})
        yield where


def read_index(path: epath.Path) -> dict[str, str]:
    """Tensor name → shard, from the index file."""
    if not (path / INDEX).exists():
        raise WeightsError(
            f"{path} holds neither {SINGLE} nor {INDEX}: a directory of safetensors is expected. "
            "Save an older checkpoint (pytorch_model.bin) anew with save_pretrained."
        )
    weight_map = files.json_object(path / INDEX).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(s, str) for s in weight_map.values()):
        raise WeightsError(
            f"{path / INDEX} is not an index of safetensors shards: expected an object with a "
            '"weight_map" of tensor names to file names. Fetch the file again.'
        )
    if any(shard != pathlib.PurePath(shard).name for shard in weight_map.values()):
        raise WeightsError(f"{path / INDEX} names shards outside {path}: fetch the file again.")
    return weight_map


def _check_index(path: epath.Path, index: Mapping[str, str], held: Mapping[str, str]) -> None:
    """The index and the shards must agree on where each tensor is."""
    for name, shard in index.items():
        if held.get(name) != shard:
            raise WeightsError(
                f"{path / INDEX} promises {name} in {shard}, but it is "
                f"{'in ' + held[name] if name in held else 'in no shard'}. The index and the "
                "shards are of different downloads: fetch both again."
            )
