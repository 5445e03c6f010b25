"""PEFT LoRA adapter directories: low-rank deltas in and out, without PyTorch.

An adapter directory holds `adapter_config.json` and `adapter_model.safetensors`, with two tensors
per layer and module: `base_model.model.model.layers.{layer}.self_attn.q_proj.lora_A.weight` [R, in]
and `lora_B` [out, R]. A delta holds the same numbers as `layers/attn/q_proj/a` [L, in, R] and `b`
[L, R, out]. Both scale their product by alpha / rank.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

import flax.traverse_util
import ml_dtypes
import numpy as np
import safetensors
import safetensors.numpy
from etils import epath

from seal_jax.core.delta import Delta, DeltaSpec
from seal_jax.core.model import decoder
from seal_jax.core.model.config import ModelConfig
from seal_jax.weights import hub
from seal_jax.weights.names import WeightsError

CONFIG = "adapter_config.json"
TENSORS = "adapter_model.safetensors"

# Module path in a layer → its name in a checkpoint's layer, in the order of the model.
_MODULES = {
    "attn/q_proj": "self_attn.q_proj",
    "attn/k_proj": "self_attn.k_proj",
    "attn/v_proj": "self_attn.v_proj",
    "attn/o_proj": "self_attn.o_proj",
    "mlp/gate_proj": "mlp.gate_proj",
    "mlp/up_proj": "mlp.up_proj",
    "mlp/down_proj": "mlp.down_proj",
}
_NAME = re.compile(
    r"base_model\.model\.model\.layers\.(?P<layer>\d+)\.(?P<module>\w+\.\w+)"
    r"\.lora_(?P<factor>[AB])\.weight"
)
_FLOATS = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16}
# Keys that do not change what a trained adapter computes, whatever their values are.
_HARMLESS = {
    "auto_mapping", "base_model_name_or_path", "corda_config", "ensure_weight_tying", "eva_config",
    "exclude_modules", "inference_mode", "layers_pattern", "loftq_config", "lora_alpha",
    "lora_dropout", "lora_ga_config", "megatron_config", "megatron_core", "peft_type",
    "peft_version", "qalora_group_size", "r", "revision", "runtime_config", "target_modules",
    "task_type", "velora_config",
}  # fmt: skip
# Keys that do, with the values at which they do not; any other value is refused.
_NEUTRAL = {
    "bias": ("none",),
    # The other initialisations also change the base weights, which an adapter does not carry.
    "init_lora_weights": (True, False, "gaussian", "orthogonal", "eva"),
}
# Where a delta's own target expressions are kept, among the metadata of the safetensors file.
_TARGETS_KEY = "seal_jax.targets"


def load(path: epath.PathLike, config: ModelConfig | None = None) -> Delta:
    """Reads a PEFT LoRA adapter as a low-rank delta.

    Args:
      path: the adapter directory.
      config: the base model; when given, the adapter's layers and shapes are checked against it.

    Returns:
      A delta of float32 numpy arrays. Its targets are the module names, in the order of the model,
      or the expressions that `save` was given. Dropout is not carried.

    Raises:
      WeightsError: files are missing or damaged, the adapter uses what a low-rank delta cannot
        hold (rank-stabilised scaling, DoRA, ranks that differ, trained biases or whole modules …),
        or its tensors fit neither its config nor the model.
    """
    path = epath.Path(path)
    settings = _read_config(path)
    tensors, metadata = _read_tensors(path)
    modules = _grouped(path, tensors)
    _check_targets(path, settings["target_modules"], modules)
    leaves = {}
    for module, factors in modules.items():
        stacked = _stacked(path, module, factors, settings["r"])
        leaves[f"layers/{module}/a"], leaves[f"layers/{module}/b"] = stacked
    _check_layers(path, leaves)
    if config is not None:
        _check_model(path, leaves, config)
    spec = DeltaSpec(
        targets=_targets(metadata, list(modules)),
        rank=settings["r"],
        alpha=float(settings["lora_alpha"]),
    )
    return Delta(flax.traverse_util.unflatten_dict(leaves, sep="/"), spec)


def save(path: epath.PathLike, delta: Delta, base_name: str) -> None:
    """Writes one low-rank delta as a PEFT adapter, which `PeftModel.from_pretrained` reads.

    Args:
      path: the directory; made if absent. Files of the same names are replaced.
      delta: a delta of one candidate, with leaves [L, in, R] and [L, R, out].
      base_name: the model that the delta was trained on: `base_model_name_or_path`, and `revision`
        where it is a hub id at a commit.

    Raises:
      ValueError: the delta is dense or stacked, or changes what an adapter cannot.
    """
    spec = delta.spec
    if spec.kind != "low_rank":
        raise ValueError(
            f"a {spec.kind} delta is no LoRA adapter: merge it into the parameters "
            "(delta.merge) and save those."
        )
    leaves = flax.traverse_util.flatten_dict(delta.tree, sep="/")
    tensors = {}
    for leaf_path, leaf in leaves.items():
        module, factor = leaf_path.removeprefix("layers/").rsplit("/", 1)
        if module not in _MODULES or factor not in ("a", "b"):
            raise ValueError(
                f"{leaf_path} has no name in a PEFT adapter: expected {', '.join(_MODULES)}."
            )
        if leaf.ndim != 3:
            raise ValueError(
                f"{leaf_path} has the shape {list(leaf.shape)}, expected three axes (layers, rows, "
                "columns): pick one candidate of a stacked delta with delta.take."
            )
        for layer, matrix in enumerate(np.asarray(leaf, np.float32)):
            tensors[_tensor_name(layer, module, factor.upper())] = np.ascontiguousarray(matrix.T)
    metadata = {"format": "pt", _TARGETS_KEY: json.dumps(spec.targets)}
    targets = [name for name in map(_last, _MODULES) if any(f"/{name}/" in p for p in leaves)]
    alpha = float(spec.alpha)
    pinned = hub.split(base_name) if hub.is_pinned(base_name) else None
    repository, commit = pinned or (base_name, "")
    settings = {
        "base_model_name_or_path": repository,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_lora_weights": True,
        "lora_alpha": int(alpha) if alpha.is_integer() else alpha,
        "lora_dropout": 0.0,
        "modules_to_save": None,
        "peft_type": "LORA",
        "r": spec.rank,
        "target_modules": targets,
        "task_type": "CAUSAL_LM",
        "use_dora": False,
        "use_rslora": False,
    }
    if commit:
        settings["revision"] = commit
    path = epath.Path(path)
    path.mkdir(parents=True, exist_ok=True)
    _replace(path / TENSORS, safetensors.numpy.save(tensors, metadata))
    _replace(path / CONFIG, (json.dumps(settings, indent=2) + "\n").encode())


def _read_config(path: epath.Path) -> dict[str, Any]:
    """The adapter's config; anything in it that a delta cannot hold is refused."""
    file = path / CONFIG
    if not file.exists():
        raise WeightsError(f"{path} holds no {CONFIG}: a PEFT adapter directory is expected.")
    try:
        settings = dict(json.loads(file.read_text()))
    except (ValueError, TypeError) as error:
        raise WeightsError(f"{file} is not a JSON object ({error}): fetch it again.") from error
    kind = settings.get("peft_type")
    if kind != "LORA":
        raise WeightsError(f"{file} has peft_type {kind!r}: only 'LORA' adapters can be read.")
    unsupported = [
        f"{key}={setting!r}"
        for key, setting in sorted(settings.items())
        if key not in _HARMLESS and not _is_neutral(key, setting)
    ]
    if unsupported:
        raise WeightsError(
            f"{file} sets {', '.join(unsupported)}, which a low-rank delta cannot hold: expected a "
            "plain LoRA adapter (one rank and alpha for all modules, bias='none'). Merge the "
            "adapter into its model with PEFT (merge_and_unload), save that and load it instead."
        )
    needed = {"r": int, "lora_alpha": int | float, "target_modules": list | str}
    for key, expected in needed.items():
        if not isinstance(settings.get(key), expected) or not settings[key]:
            raise WeightsError(
                f"{file} has {key} = {settings.get(key)!r}: expected the one of a LoRA adapter "
                "(a rank, a scale, names of modules)."
            )
    return settings


def _is_neutral(key: str, setting: Any) -> bool:
    """Whether a key says what it says by default; 0 does not, as it can be a layer's number."""
    if key in _NEUTRAL and setting is not None:
        return setting in _NEUTRAL[key]
    return setting is None or setting is False or setting in ("", [], {})


def _read_tensors(path: epath.Path) -> tuple[dict[str, np.ndarray], Mapping[str, str]]:
    """Tensors by name, and the metadata of their file."""
    file = path / TENSORS
    if not file.exists():
        raise WeightsError(
            f"{path} holds no {TENSORS}. Save an older adapter (adapter_model.bin) anew with "
            "PEFT's save_pretrained."
        )
    data = file.read_bytes()
    try:
        stored = safetensors.deserialize(data)
    except safetensors.SafetensorError as error:
        raise WeightsError(
            f"{file} is not a complete safetensors file ({error}): fetch it again."
        ) from error
    tensors = {}
    for name, tensor in stored:
        dtype = _FLOATS.get(tensor["dtype"])
        if dtype is None:
            raise WeightsError(
                f"{name} in {file} is stored as {tensor['dtype']}: expected one of "
                f"{', '.join(_FLOATS)}. Save the adapter anew in one of these."
            )
        tensors[name] = np.frombuffer(tensor["data"], dtype).reshape(tensor["shape"])
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return tensors, header.get("__metadata__", {})


def _grouped(path, tensors) -> dict[str, dict[tuple[str, int], np.ndarray]]:
    """Module → (factor, layer) → matrix, in the order of the model; other tensors are refused."""
    by_name = {name: module for module, name in _MODULES.items()}
    modules: dict[str, dict[tuple[str, int], np.ndarray]] = {module: {} for module in _MODULES}
    unknown = []
    for name, tensor in tensors.items():
        match = _NAME.fullmatch(name)
        if match is None or match["module"] not in by_name:
            unknown.append(name)
            continue
        modules[by_name[match["module"]]][match["factor"], int(match["layer"])] = tensor
    if unknown or not tensors:
        found = ", ".join(sorted(unknown)[:4]) or "nothing"
        raise WeightsError(
            f"{path / TENSORS} holds {found}, which a low-rank delta has no place for: expected "
            f"names such as {_tensor_name(0, 'attn/q_proj', 'A')}, of the modules "
            f"{', '.join(_MODULES.values())}."
        )
    return {module: factors for module, factors in modules.items() if factors}


def _stacked(path, module: str, factors, rank: int) -> tuple[np.ndarray, np.ndarray]:
    """(a [L, in, R], b [L, R, out]) of one module; gaps and odd shapes are named."""
    num_layers = 1 + max(layer for _, layer in factors)
    first_a, first_b = factors.get(("A", 0)), factors.get(("B", 0))
    stacks = []
    for factor, first in (("A", first_a), ("B", first_b)):
        for layer in range(num_layers):
            name = _tensor_name(layer, module, factor)
            matrix = factors.get((factor, layer))
            if matrix is None:
                raise WeightsError(
                    f"{path / TENSORS} lacks {name}: expected both factors in each of the layers "
                    f"0 to {num_layers - 1}. Adapters of some layers only are not supported."
                )
            rank_axis, other_axis = (0, 1) if factor == "A" else (1, 0)
            fits = matrix.ndim == 2 and matrix.shape[rank_axis] == rank
            if not fits or matrix.shape[other_axis] != first.shape[other_axis]:
                expected = [rank, "in"] if factor == "A" else ["out", rank]
                raise WeightsError(
                    f"{path / TENSORS}: {name} has the shape {list(matrix.shape)}, expected "
                    f"[{expected[0]}, {expected[1]}] as r is {rank} in {CONFIG}, and the same in "
                    "all layers. The two files are of different adapters: save both anew."
                )
        stacks.append(np.stack([factors[factor, n].T for n in range(num_layers)]))
    return stacks[0].astype(np.float32), stacks[1].astype(np.float32)


def _check_targets(path, named: str | list[str], modules) -> None:
    """The modules that the config lists must be those that the file holds."""
    if isinstance(named, str):  # an expression; the tensors say what it matched
        return
    found, expected = {_last(module) for module in modules}, {name.split(".")[-1] for name in named}
    if found != expected:
        raise WeightsError(
            f"{path / CONFIG} targets {', '.join(sorted(expected))}, but {TENSORS} holds "
            f"{', '.join(sorted(found))}: the two files are of different adapters. Save both anew."
        )


def _check_layers(path, leaves) -> None:
    """All modules must be adapted in the same layers."""
    counts = {leaf_path: leaf.shape[0] for leaf_path, leaf in leaves.items()}
    if len(set(counts.values())) > 1:
        listed = ", ".join(
            f"{p.split('/')[-2]} in {n}" for p, n in counts.items() if p[-2:] == "/a"
        )
        raise WeightsError(
            f"{path / TENSORS} adapts a different number of layers per module ({listed}): expected "
            "the same layers for all. Adapters of some layers only are not supported."
        )


def _check_model(path, leaves, config: ModelConfig) -> None:
    """Each pair of factors must multiply to the shape of the model's kernel."""
    shapes = flax.traverse_util.flatten_dict(decoder.param_shapes(config), sep="/")
    for leaf_path, a in leaves.items():
        module, factor = leaf_path.rsplit("/", 1)
        if factor == "b":
            continue
        found = (a.shape[0], a.shape[1], leaves[f"{module}/b"].shape[2])
        expected = shapes[f"{module}/kernel"]
        if found != expected:
            raise WeightsError(
                f"{path} does not fit this {config.family} model: {module} changes a kernel of "
                f"{list(found)} (layers, in, out), expected {list(expected)}. Use the base model "
                "that the adapter was trained on."
            )


def _targets(metadata: Mapping[str, str], modules: list[str]) -> tuple[str, ...]:
    """The delta's own expressions where they still select just these modules; else the names."""
    kernels = {module: f"layers/{module}/kernel" for module in _MODULES}
    try:
        targets = tuple(json.loads(metadata[_TARGETS_KEY]))
        chosen = [m for m, kernel in kernels.items() if any(re.search(t, kernel) for t in targets)]
    except (KeyError, ValueError, TypeError, re.error):
        chosen = None
    return targets if chosen == modules else tuple(map(_last, modules))


def _tensor_name(layer: int, module: str, factor: str) -> str:
    return f"base_model.model.model.layers.{layer}.{_MODULES[module]}.lora_{factor}.weight"


def _last(module: str) -> str:
    return module.split("/")[-1]


def _replace(path: epath.Path, data: bytes) -> None:
    """Writes under another name and moves, so that nobody sees half a file."""
    part = path.parent / f".{path.name}.part"
    part.write_bytes(data)
    part.replace(path)
