"""Safetensors files, read in parts: any slice of a tensor, a block of rows at a time.

Format: https://huggingface.co/docs/safetensors (8 bytes with the header's length, a JSON header,
then the tensors). A local file is mapped a block at a time, so only the pages that a slice touches
are read and none stay; one on an object store is read by ranges, whole rows at a time.
"""

import contextlib
import math
import os
from typing import Any

import ml_dtypes
import numpy as np
from etils import epath

from seal_jax.runs import json_file
from seal_jax.weights.files import is_remote, refuse_pointer
from seal_jax.weights.names import Index, Shape, WeightsError

_DTYPES: dict[str, Any] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
}
_LENGTH = 8  # bytes of the header's length
_LONGEST_HEADER = 100_000_000
_BLOCK_BYTES = 2**26


class TensorFile(contextlib.AbstractContextManager):
    """An open safetensors file; use it in a `with` block.

    Attributes:
      path: the file.
      shapes: the shape of each tensor, by name.
      metadata: texts that the file keeps beside them.
    """

    def __init__(self, path: epath.PathLike):
        """Reads the header.

        Raises:
          WeightsError: the file is incomplete, is no safetensors file, or holds a quantised tensor.
          FileNotFoundError: there is none.
        """
        self.path = epath.Path(path)
        refuse_pointer(self.path)
        with contextlib.ExitStack() as on_error:
            self._file = on_error.enter_context(self.path.open("rb"))
            try:
                self._tensors, self._start, self.metadata = _read_header(self._file)
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                raise WeightsError(
                    f"{self.path} is not a complete safetensors file ({error}): fetch it again."
                ) from error
            for name, (kind, _, _) in self._tensors.items():
                if kind not in _DTYPES:
                    raise WeightsError(
                        f"{name} in {self.path} is stored as {kind}: expected one of "
                        f"{', '.join(_DTYPES)}. Use the checkpoint that is not quantised, or a "
                        "GGUF file."
                    )
            on_error.pop_all()
        self.shapes: dict[str, Shape] = {n: shape for n, (_, shape, _) in self._tensors.items()}

    def copy(self, name: str, index: Index, target: np.ndarray) -> None:
        """Copies a part of a tensor into `target`, casting; beside it a block of rows is held.

        Args:
          name: a tensor of at least one dimension.
          index: a slice of each dimension, of step 1.
          target: an array, or a view of one, of the part's shape.
        """
        kind, shape, offset = self._tensors[name]
        dtype = _DTYPES[kind]
        first, last, _ = index[0].indices(shape[0])
        row_bytes = dtype.itemsize * math.prod(shape[1:])
        step = max(1, _BLOCK_BYTES // max(1, row_bytes))
        for row in range(first, last, step):
            count = min(step, last - row)
            block = self._rows(dtype, offset + row * row_bytes, (count, *shape[1:]))
            target[row - first : row - first + count] = block[(slice(None), *index[1:])]

    def __exit__(self, *exception: object) -> None:
        self._file.close()

    def _rows(self, dtype, offset: int, shape: Shape) -> np.ndarray:
        """Rows that lie `offset` bytes behind the header."""
        if not is_remote(self.path):
            return np.memmap(self._file, dtype, "r", self._start + offset, shape)
        self._file.seek(self._start + offset)
        size = dtype.itemsize * math.prod(shape)
        content = self._file.read(size)
        if len(content) != size:
            raise WeightsError(f"{self.path} changed while it was read: load it again.")
        return np.frombuffer(content, dtype).reshape(shape)


def _read_header(file) -> tuple[dict[str, tuple[str, Shape, int]], int, dict[str, str]]:
    """Dtype, shape and offset of each tensor; where the tensors begin; and the metadata."""
    file.seek(0, os.SEEK_END)
    size = file.tell()
    file.seek(0)
    length = int.from_bytes(file.read(_LENGTH), "little")
    start = _LENGTH + length
    if size < start or not 0 < length <= _LONGEST_HEADER:
        raise ValueError(f"a header of {length} bytes in a file of {size}")
    header = json_file.decode(file.read(length), "its header", error=ValueError)
    if not isinstance(header, dict):
        raise ValueError(f"its header is {json_file.kind(header)}")
    metadata = header.pop("__metadata__", None) or {}
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise ValueError("__metadata__ is not an object of texts")
    for name, entry in header.items():
        _check_entry(name, entry)
    tensors, end = {}, 0
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        kind, shape = entry["dtype"], tuple(entry["shape"])
        first, last = entry["data_offsets"]
        if first != end or last < first:
            raise ValueError(f"{name} does not begin where the tensor before it ends")
        if kind in _DTYPES and last - first != _DTYPES[kind].itemsize * math.prod(shape):
            raise ValueError(f"{name} has {last - first} bytes for {list(shape)} of {kind}")
        tensors[name], end = (kind, shape, first), last
    if start + end != size:
        raise ValueError(f"{start + end} bytes expected, {size} found")
    return tensors, start, metadata


def _check_entry(name: str, entry: Any) -> None:
    """Refuses a tensor that is described otherwise than by whole numbers."""
    for key in ("dtype", "shape", "data_offsets"):
        value = entry.get(key) if isinstance(entry, dict) else None
        whole = isinstance(value, list) and all(type(n) is int and n >= 0 for n in value)
        if not isinstance(value, str) if key == "dtype" else not whole:
            raise ValueError(f"{key} of {name} is {json_file.kind(value)}")
    if len(entry["data_offsets"]) != 2:
        raise ValueError(f"data_offsets of {name} are not two")
