"""GGUF files: architecture and dequantised weights.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md

A GGUF file of a Llama or SmolLM3 model stores the rows of its query and key projections in another
order: its rotary embedding turns neighbouring rows, ours turns rows half a head apart. One of a
Gemma has 1 added to the scales of its norms. `load` undoes both.
"""

import collections
import contextlib
import os
from collections.abc import Iterator
from typing import Any

import gguf
import numpy as np
from etils import epath

from seal_jax.core.model.config import ModelConfig
from seal_jax.runs import json_file
from seal_jax.weights import config_json, files, names, placement
from seal_jax.weights.names import WeightsError

# Architecture → the family's name.
_FAMILIES = {name: name for name in ("llama", "qwen2", "qwen3", "smollm3", "olmo2", "gemma2")} | {
    "gemma3": "gemma3_text"
}
_PERMUTED = ("llama", "smollm3")  # query and key rows
# Keys of config.json that some architectures have.
_OPTIONAL = {
    "sliding_window": "attention.sliding_window",
    "rope_local_base_freq": "rope.freq_base_swa",
    "attn_logit_softcapping": "attn_logit_softcapping",
    "final_logit_softcapping": "final_logit_softcapping",
}
# Gemmas of so many layers scale queries by hidden_size / heads, as no key of the file says.
_SCALED_BY_WIDTH = {"gemma2": 46, "gemma3": 62}
_PLAIN = ("F32", "F16", "BF16")
_HF_DIRECTORY = "Use the model's Hugging Face directory (config.json, *.safetensors) instead."
# Llama 3's rotary scaling; a GGUF file keeps only the factors that follow from it.
_LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0}
_LLAMA3_ORIGINAL_POSITIONS = 8192
_REQUIRED = object()
# What the values of some keys are; all others that are read are numbers.
_KINDS: dict[str, type] = {
    "general.architecture": str,
    "tokenizer.ggml.model": str,
    "tokenizer.ggml.pre": str,
    "tokenizer.chat_template": str,
    "tokenizer.ggml.tokens": str,
    "tokenizer.ggml.merges": str,
    "tokenizer.ggml.token_type": int,
}
_LISTS = ("tokenizer.ggml.tokens", "tokenizer.ggml.merges", "tokenizer.ggml.token_type")


class _Reader(gguf.GGUFReader):
    """A reader that notices where a file ends too early: counts in a file can be absurd."""

    def _get(self, offset, dtype, count=1, override_order=None):
        found = super()._get(offset, dtype, count, override_order)
        if len(found) < count:
            raise ValueError("it ends in the middle")
        return found


def open_file(path: str | os.PathLike | gguf.GGUFReader) -> gguf.GGUFReader:
    """Opens a GGUF file; an open one is returned as it is, as parsing the header takes seconds.

    Raises:
      FileNotFoundError: there is no such file.
      WeightsError: the file is damaged, or no GGUF file.
    """
    if isinstance(path, gguf.GGUFReader):
        return path
    if not os.path.isfile(path):
        raise FileNotFoundError(f"There is no GGUF file {path}: check the path.")
    files.refuse_pointer(epath.Path(path))
    try:
        return _Reader(os.fspath(path))
    except (LookupError, ArithmeticError, ValueError, TypeError, RecursionError) as error:
        raise WeightsError(
            f"{path} is not a complete GGUF file ({error}): expected version 2 or 3. "
            "Fetch the file again."
        ) from error


def load(
    path: str | os.PathLike | gguf.GGUFReader,
    dtype: Any = np.float32,
    sharding_of: placement.ShardingOf | None = None,
) -> tuple[ModelConfig, dict[str, Any]]:
    """Reads the model of a GGUF file and dequantises its weights, tensor by tensor.

    Args:
      path: the file, or an open one.
      dtype: dtype of the result. Quantised blocks are expanded in float32 and then cast.
      sharding_of: see `placement.builder`. The part of a tensor is cut out of all of it.

    Returns:
      The model's config and its parameter tree, numpy arrays or placed ones.

    Raises:
      WeightsError: an architecture or quantisation that is not supported, or a missing, extra or
        misshapen tensor; names it, what was expected and what to do.
    """
    reader = open_file(path)
    config = model_config(reader)
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    heads = {"attn_q": config.num_heads, "attn_k": config.num_kv_heads}

    def copy(name: str, index: names.Index, target: np.ndarray) -> None:
        array = _dequantise(tensors[name]).reshape(_shape(tensors[name]))
        module = name.split(".")[-2]
        if config.family in _PERMUTED and module in heads:
            array = _unpermute(array, heads[module])
        if module.endswith("norm"):
            array = array - config.norm_offset if config.norm_offset else array
        target[...] = array[index]

    params = names.assemble(
        config,
        "gguf",
        {name: _shape(tensor) for name, tensor in tensors.items()},
        copy,
        dtype,
        source=f"GGUF file {os.path.basename(reader.data.filename or '')}",
        advice="The metadata and the tensors of the file disagree, or it is only a part of a split "
        f"model: fetch the complete file again. {_HF_DIRECTORY}",
        build=placement.builder(sharding_of, config),
    )
    return config, params


def model_config(reader: gguf.GGUFReader) -> ModelConfig:
    """The architecture that the metadata of a GGUF file say.

    Raises:
      WeightsError: see `hf_config`; or it is none that is supported.
    """
    with naming(reader):
        return config_json.model_config(hf_config(reader))


@contextlib.contextmanager
def naming(reader: gguf.GGUFReader) -> Iterator[None]:
    """What is wrong inside of it is said with the file's name."""
    try:
        yield
    except ValueError as error:
        if str(reader.data.filename) in str(error):
            raise
        raise WeightsError(f"{reader.data.filename}: {error}") from error


def hf_config(reader: gguf.GGUFReader) -> dict[str, Any]:
    """The `config.json` that the metadata of a GGUF file stands for.

    Embeddings are tied where the file has no `output.weight`.

    Raises:
      WeightsError: a key is missing, or stands for a feature that is not supported.
    """
    family = value(reader, "general.architecture")
    if family not in _FAMILIES:
        raise WeightsError(
            f"GGUF architecture {family!r} is not supported: expected one of "
            f"{', '.join(_FAMILIES)}. {_HF_DIRECTORY}"
        )
    shapes = {tensor.name: _shape(tensor) for tensor in reader.tensors}
    if "token_embd.weight" not in shapes:
        raise WeightsError("The GGUF file lacks token_embd.weight [vocabulary, width].")
    num_heads = value(reader, f"{family}.attention.head_count")
    hidden_size = value(reader, f"{family}.embedding_length")
    head_dim = value(reader, f"{family}.attention.key_length", None)
    config = {
        "model_type": _FAMILIES[family],
        "vocab_size": shapes["token_embd.weight"][0],
        "hidden_size": hidden_size,
        "intermediate_size": value(reader, f"{family}.feed_forward_length"),
        "num_hidden_layers": value(reader, f"{family}.block_count"),
        "num_attention_heads": num_heads,
        "num_key_value_heads": value(reader, f"{family}.attention.head_count_kv", num_heads),
        "head_dim": head_dim,
        "rope_theta": value(reader, f"{family}.rope.freq_base", 10000.0),
        "rms_norm_eps": value(reader, f"{family}.attention.layer_norm_rms_epsilon"),
        "max_position_embeddings": value(reader, f"{family}.context_length"),
        "tie_word_embeddings": "output.weight" not in shapes,
        "attention_bias": family != "qwen2" and "blk.0.attn_q.bias" in shapes,
    }
    varying = [key for key, setting in config.items() if isinstance(setting, list)]
    if varying:
        raise WeightsError(
            f"The layers of the GGUF file differ in {', '.join(varying)}, which is not supported: "
            "expected one value for all layers."
        )
    config["head_dim"] = head_dim or int(hidden_size // max(1, num_heads))
    for key, name in _OPTIONAL.items():
        found = value(reader, f"{family}.{name}", None)
        config |= {key: found} if found is not None else {}
    if family in _SCALED_BY_WIDTH:
        by_width = config["num_hidden_layers"] == _SCALED_BY_WIDTH[family]
        scalar = hidden_size // num_heads if by_width else config["head_dim"]
        config["query_pre_attn_scalar"] = scalar
    _refuse_unsupported(reader, config)
    scaling = _rope_scaling(reader, config)
    return config | ({"rope_scaling": scaling} if scaling else {})


def value(reader: gguf.GGUFReader, key: str, default: Any = _REQUIRED) -> Any:
    """A metadata value as a plain Python object.

    Raises:
      WeightsError: the key is absent and no default was given.
    """
    field = reader.get_field(key)
    if field is not None:
        found = field.contents()
        _check_kind(reader, key, found)
        return found
    if default is _REQUIRED:
        raise WeightsError(
            f"The GGUF file lacks the metadata key {key!r}: convert the model again with a current "
            f"converter. {_HF_DIRECTORY}"
        )
    return default


def _check_kind(reader: gguf.GGUFReader, key: str, found: Any) -> None:
    """Refuses a metadata value of another kind than its key's."""
    each = found if isinstance(found, list) else [found]
    kind = str if key.endswith("rope.scaling.type") else _KINDS.get(key, (int, float))
    fits = all(isinstance(one, kind) for one in each)
    if key.startswith("tokenizer."):
        fits &= isinstance(found, list) == (key in _LISTS)
    tokens = reader.get_field("tokenizer.ggml.tokens")
    count = len(tokens.data) if tokens else 0
    if key.endswith("_token_id"):
        fits &= isinstance(found, int) and 0 <= found < count
    elif key.endswith("token_type"):
        fits &= len(each) == count
    if not fits:
        raise WeightsError(
            f"The metadata key {key!r} says {json_file.kind(found)}, which "
            f"it cannot mean: convert the model again with a current converter. {_HF_DIRECTORY}"
        )


def quantization(reader: gguf.GGUFReader) -> str | None:
    """The quantised type that holds the most weights, such as "Q4_1"; None if there is none."""
    sizes: collections.Counter[str] = collections.Counter()
    for tensor in reader.tensors:
        if tensor.tensor_type.name not in _PLAIN:
            sizes[tensor.tensor_type.name] += tensor.n_elements
    return sizes.most_common(1)[0][0] if sizes else None


def _refuse_unsupported(reader, config: dict[str, Any]) -> None:
    """Features that would silently change the logits."""
    family, head_dim = value(reader, "general.architecture"), config["head_dim"]
    unsupported = {
        f"{family}.expert_count": (0, None),
        f"{family}.rope.scaling.type": ("none", "linear", None),
        f"{family}.rope.scale_linear": (1, 0, None),  # of older files
        f"{family}.rope.dimension_count": (head_dim, None),
        f"{family}.attention.value_length": (head_dim, None),
        "split.count": (0, 1, None),
    }
    if value(reader, f"{family}.rope.scaling.type", None) != "linear":
        unsupported[f"{family}.rope.scaling.factor"] = (1, 0, None)
    for key, accepted in unsupported.items():
        found = value(reader, key, None)
        if found not in accepted:
            raise WeightsError(
                f"The GGUF file has {key} = {found!r}, which is not supported: expected "
                f"{accepted[0]!r}. {_HF_DIRECTORY}"
            )


def _rope_scaling(reader, config) -> dict[str, Any] | None:
    """Linear scaling; or Llama 3's, recovered from the divisors that the file keeps [Dh / 2]."""
    family = value(reader, "general.architecture")
    if value(reader, f"{family}.rope.scaling.type", None) == "linear":
        return {"rope_type": "linear", "factor": value(reader, f"{family}.rope.scaling.factor")}
    tensor = next((t for t in reader.tensors if t.name == "rope_freqs.weight"), None)
    if tensor is None:
        return None
    found = _dequantise(tensor).reshape(-1)
    factor = float(found.max())
    if factor == 1.0:
        return None
    dims = np.arange(0, config["head_dim"], 2) / config["head_dim"]
    wavelengths = 2 * np.pi * config["rope_theta"] ** dims
    low, high = _LLAMA3["low_freq_factor"], _LLAMA3["high_freq_factor"]
    smooth = (_LLAMA3_ORIGINAL_POSITIONS / wavelengths - low) / (high - low)
    expected = 1 / ((1 - smooth.clip(0, 1)) / factor + smooth.clip(0, 1))
    if found.shape != expected.shape or not np.allclose(found, expected, rtol=1e-3):
        raise WeightsError(
            "rope_freqs.weight of the GGUF file is not Llama 3's rotary scaling (low 1, high 4, "
            f"{_LLAMA3_ORIGINAL_POSITIONS} positions), which is what is supported. {_HF_DIRECTORY}"
        )
    return {
        "rope_type": "llama3",
        "factor": factor,
        "original_max_position_embeddings": _LLAMA3_ORIGINAL_POSITIONS,
        **_LLAMA3,
    }


def _dequantise(tensor) -> np.ndarray:
    """The tensor's values in float32."""
    try:
        return gguf.dequantize(tensor.data, tensor.tensor_type)
    except NotImplementedError as error:
        raise WeightsError(
            f"{tensor.name} of the GGUF file is stored as {tensor.tensor_type.name}, which the "
            "gguf package cannot dequantise. Use a file of another type, such as Q8_0."
        ) from error


def _unpermute(rows, heads: int) -> np.ndarray:
    """Within each head, row 2i goes to i and row 2i + 1 to Dh/2 + i."""
    pairs = rows.reshape(heads, -1, 2, *rows.shape[1:])
    return pairs.swapaxes(1, 2).reshape(rows.shape)


def _shape(tensor) -> names.Shape:
    """[out, in]; the file counts dimensions from the innermost."""
    return tuple(int(size) for size in reversed(tensor.shape))
