"""PEFT LoRA adapter directories: low-rank deltas in and out, without PyTorch.

An adapter directory holds `adapter_config.json` and `adapter_model.safetensors`, with two tensors
per layer and module: `base_model.model.model.layers.{layer}.self_attn.q_proj.lora_A.weight` [R, in]
and `lora_B` [out, R]. A delta holds the same numbers as `layers/attn/q_proj/a` [L, in, R] and `b`
[L, R, out]. Both scale their product by alpha / rank.
"""

import json
import math
import re
from collections.abc import Mapping
from typing import Any

import flax.traverse_util
import numpy as np
import safetensors.numpy
from etils import epath

from seal_jax.core.delta import Delta, DeltaSpec
from seal_jax.core.model import decoder
from seal_jax.core.model.config import ModelConfig
from seal_jax.runs import json_file
from seal_jax.weights import files, hub, names
from seal_jax.weights.names import WeightsError
from seal_jax.weights.tensor_file import TensorFile

CONFIG = "adapter_config.json"
TENSORS = "adapter_model.safetensors"

# Path of a module that an adapter can change → its tensors' names, without the factor.
_MODULES = {
    path: f"base_model.model.{name}.lora_"
    for path, (name, _) in names.MODULES.items()
    if path.endswith("_proj")
}
# Keys that do not change what a trained adapter computes, whatever their values are.
_HARMLESS = {
    "auto_mapping", "base_model_name_or_path", "corda_config", "ensure_weight_tying", "eva_config",
    "exclude_modules", "inference_mode", "layers_pattern", "loftq_config", "lora_alpha",
    "lora_dropout", "lora_ga_config", "megatron_config", "megatron_core", "peft_type",
    "peft_version", "qalora_group_size", "r", "revision", "runtime_config", "target_modules",
    "task_type", "use_rslora", "velora_config",
    # The tensors say which layers and modules are adapted, and `_check_patterns` reads the others.
    "alpha_pattern", "layers_to_transform", "rank_pattern",
}  # fmt: skip
# Keys that do, with the values at which they do not; any other value is refused.
_NEUTRAL = {
    "bias": ("none",),
    # The other initialisations also change the base weights, which an adapter does not carry.
    "init_lora_weights": (True, False, "gaussian", "orthogonal", "eva"),
}
# Where a delta's own target expressions are kept, among the metadata of the safetensors file.
_TARGETS_KEY = "seal_jax.targets"


def load(path: epath.PathLike, config: ModelConfig) -> Delta:
    """Reads a PEFT LoRA adapter as a low-rank delta.

    Args:
      path: the adapter directory.
      config: the base model.

    Returns:
      A delta of float32 numpy arrays. Its targets are the module names, in the order of the model,
      or the expressions that `save` was given. Dropout is not carried.

    Raises:
      WeightsError: files are missing or damaged, the adapter uses what a low-rank delta cannot
        hold (DoRA, ranks or scales that differ, trained biases or whole modules …),
        or its tensors fit neither its config nor the model.
    """
    path = epath.Path(path)
    settings = _read_config(path)
    if not (path / TENSORS).exists():
        raise WeightsError(
            f"{path} holds no {TENSORS}. Save an older adapter (adapter_model.bin) anew with "
            "PEFT's save_pretrained."
        )
    with TensorFile(path / TENSORS) as file:
        named, held = settings["target_modules"], " ".join(file.shapes)
        modules = [
            module
            for module, name in _MODULES.items()
            if name.split(".{}.")[1] in held
            or (isinstance(named, list) and _last(module) in {one.split(".")[-1] for one in named})
        ]
        _check_patterns(path, settings, modules, config.num_layers)
        leaves = list(_leaves(modules, config, settings["r"], file))
        problems = names.misfits(file.shapes, names.tensor_shapes(leaves))
        if problems or not leaves:
            raise WeightsError(
                f"{path / TENSORS} does not fit an adapter of rank {settings['r']} (r in {CONFIG}) "
                f"for this {config.family} model: it {problems or 'holds nothing'}. Use the base "
                "model that the adapter was trained on; where the two files are of different "
                "adapters, save both anew. Adapters of some layers only are not supported."
            )
        tree = {leaf.path: leaf.read() for leaf in leaves}
        targets = _targets(file.metadata, modules, config)
    rank, alpha = settings["r"], float(settings["lora_alpha"])
    if settings.get("use_rslora"):  # alpha / sqrt(rank), as alpha / rank of another alpha
        alpha *= math.sqrt(rank)
    spec = DeltaSpec(targets=targets, rank=rank, alpha=alpha)
    return Delta(flax.traverse_util.unflatten_dict(tree, sep="/"), spec)


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
        module, factor = leaf_path.rsplit("/", 1)
        if leaf.ndim != 3:
            raise ValueError(
                f"{leaf_path} has the shape {list(leaf.shape)}, expected three axes (layers, rows, "
                "columns): pick one candidate of a stacked delta with delta.take."
            )
        for layer, matrix in enumerate(np.asarray(leaf, np.float32)):
            name = _tensor_name(module, factor).format(layer)
            tensors[name] = np.ascontiguousarray(matrix.T)
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
    (path / TENSORS).write_bytes(safetensors.numpy.save(tensors, metadata))
    (path / CONFIG).write_text(json.dumps(settings, indent=2) + "\n")


def _read_config(path: epath.Path) -> dict[str, Any]:
    """The adapter's config; anything in it that a delta cannot hold is refused."""
    file = path / CONFIG
    if not file.exists():
        raise WeightsError(f"{path} holds no {CONFIG}: a PEFT adapter directory is expected.")
    settings = files.json_object(file)
    kind = settings.get("peft_type")
    if kind != "LORA":
        raise WeightsError(f"{file} has peft_type {kind!r}: only 'LORA' adapters can be read.")
    unsupported = [
        f"{key}={setting!r}"
        for key, setting in sorted(settings.items())
        if key not in _HARMLESS and not _is_neutral(key, setting)
    ]
    if unsupported:
        raise WeightsError(_unsupported(file, unsupported))
    rank, alpha, named = (settings.get(key, 0) for key in ("r", "lora_alpha", "target_modules"))
    each = named if isinstance(named, list) else [named]
    fits = {
        "r": type(rank) is int and 1 <= rank <= 10**5,
        "lora_alpha": type(alpha) in (int, float) and 0 < alpha < 1e12,
        "target_modules": bool(named) and all(isinstance(name, str) for name in each),
    }
    for key, fit in fits.items():
        if not fit:
            raise WeightsError(
                f"{file} has {key} = {settings.get(key)!r:.60}: expected the one of a LoRA adapter "
                "(a rank, a scale, names of modules)."
            )
    return settings


def _is_neutral(key: str, setting: Any) -> bool:
    """Whether a key says what it says by default; 0 does not, as it can be a layer's number."""
    if key in _NEUTRAL and setting is not None:
        return setting in _NEUTRAL[key]
    return setting is None or setting is False or setting in ("", [], {})


def _leaves(modules: list[str], config: ModelConfig, rank: int, file: TensorFile):
    """The leaves of a delta of these modules, [L, in, R] and [L, R, out], in an adapter's file."""
    kernels = flax.traverse_util.flatten_dict(decoder.param_shapes(config), sep="/")
    for module in modules:
        layers, features_in, features_out = kernels[f"{module}/kernel"]
        shapes = {"a": (layers, features_in, rank), "b": (layers, rank, features_out)}
        for factor, shape in shapes.items():
            name = _tensor_name(module, factor)
            tensors = tuple(name.format(layer) for layer in range(layers))
            yield names.Leaf(
                path=f"{module}/{factor}", shape=shape, tensors=tensors, copy=file.copy
            )


def _check_patterns(path, settings, modules: list[str], num_layers: int) -> None:
    """Refuses a module's own rank or alpha; as in PEFT, a pattern is the end of a module's name."""
    adapted = [names.MODULES[m][0].format(layer) for m in modules for layer in range(num_layers)]
    for key, own in (("rank_pattern", "r"), ("alpha_pattern", "lora_alpha")):
        for pattern, setting in (settings.get(key) or {}).items():
            matches = [name for name in adapted if re.match(rf"(.*\.)?({pattern})$", name)]
            if matches and setting != settings[own]:
                raise WeightsError(_unsupported(path / CONFIG, [f"{key}={settings[key]!r}"]))


def _unsupported(file: epath.Path, found: list[str]) -> str:
    return (
        f"{file} sets {', '.join(found)}, which a low-rank delta cannot hold: expected a plain "
        "LoRA adapter (one rank and alpha for all modules, bias='none'). Merge the adapter into "
        "its model with PEFT (merge_and_unload), save that and load it instead."
    )


def _targets(
    metadata: Mapping[str, str], modules: list[str], config: ModelConfig
) -> tuple[str, ...]:
    """The delta's own expressions where they still select just these modules; else the names."""
    try:
        targets = tuple(json_file.decode(metadata[_TARGETS_KEY], _TARGETS_KEY))
        kernels = flax.traverse_util.flatten_dict(decoder.param_shapes(config), sep="/")
        own = [m for m in _MODULES if f"{m}/kernel" in kernels]
        chosen = [m for m in own if any(re.search(t, f"{m}/kernel") for t in targets)]
    except (KeyError, ValueError, TypeError, re.error):
        chosen = None
    return targets if chosen == modules else tuple(map(_last, modules))


def _tensor_name(module: str, factor: str) -> str:
    """The name of a factor's tensors, with `{}` for the layer."""
    return f"{_MODULES[module]}{factor.upper()}.weight"


def _last(module: str) -> str:
    return module.split("/")[-1]
