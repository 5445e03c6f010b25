"""The model of a run on its devices: what every task domain's session starts from."""

import dataclasses
import os
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from seal_jax.core import delta, parallel
from seal_jax.core.model.config import ModelConfig
from seal_jax.planning import architectures, arithmetic, machines
from seal_jax.settings import Settings, SettingsError
from seal_jax.weights import exported, finite, load, placement, tokenizer


@dataclasses.dataclass(frozen=True, kw_only=True)
class OpenedModel:
    """A loaded model.

    Attributes:
      settings: of the run.
      model: the model's architecture.
      tokenizer: its tokenizer.
      source: one line on where the weights are from.
      devices: what it runs on.
      base: its parameters, placed on the devices.
      stop_ids: tokens that end a text.
      merged, adapter: what of the base is not the original model; see `load.LoadedModel`.
    """

    settings: Settings
    model: ModelConfig
    tokenizer: Any
    source: str
    devices: parallel.DeviceMesh
    base: dict[str, Any]
    stop_ids: tuple[int, ...]
    merged: tuple[str, ...] = ()
    adapter: exported.Addition | None = None

    def encode(self, text: str) -> list[int]:
        """Token ids of a training sequence."""
        return list(self.tokenizer(text)["input_ids"])

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of sampled tokens, without special tokens and outer white space."""
        return self.tokenizer.decode(list(tokens), skip_special_tokens=True).strip()

    def place(self, tree):
        """Parameters, deltas or the state of an M-step on the devices; see `DeviceMesh.place`."""
        return self.devices.place(self.model, tree)

    def delta_shapes(self, spec: delta.DeltaSpec) -> delta.Tree:
        """The tree of a delta of the model, with the shape and the sharding of each leaf."""
        tree = delta.shapes(self.base, spec)
        return parallel.shapes(tree, self.devices.shardings(self.model, tree))

    def fields(self) -> dict[str, Any]:
        """What a session is made of beside its task's own."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(OpenedModel)}


def open_model(settings: Settings) -> OpenedModel:
    """Loads the model that the settings name.

    Raises:
      ValueError, FileNotFoundError, RuntimeError: with what to change.
    """
    devices = open_devices(settings)
    check_memory(settings, devices)
    loaded = load_base(settings, devices.param_sharding)
    chats = "chat" in (settings.edits.prompt_style, settings.answers.prompt_style)
    if chats and not loaded.tokenizer.chat_template:
        raise SettingsError(
            f"the tokenizer of {settings.model.path} has no chat template: set edits.prompt_style "
            "and answers.prompt_style to 'plain'."
        )
    for spec in (
        settings.inner.lora.spec(),
        settings.restem.sft.spec(),
        settings.corpus.spec(),
    ):
        delta.target_paths(loaded.params, spec)
    return OpenedModel(
        settings=settings,
        model=loaded.config,
        tokenizer=loaded.tokenizer,
        source=loaded.source,
        devices=devices,
        base=devices.place(loaded.config, loaded.params),
        stop_ids=tokenizer.stop_token_ids(loaded.tokenizer),
        merged=loaded.merged,
        adapter=loaded.adapter,
    )


def open_devices(settings: Settings) -> parallel.DeviceMesh:
    """All devices, arranged as the settings say.

    Raises:
      SettingsError: they cannot be.
    """
    try:
        return parallel.all_devices(settings.devices.model_axis)
    except ValueError as error:
        raise SettingsError(str(error)) from None


def check_memory(settings: Settings, devices: parallel.DeviceMesh) -> None:
    """Refuses a run that cannot fit on accelerators which say how much memory they have.

    Raises:
      SettingsError: with what to lower, and the smallest machine that can.
    """
    device = devices.devices[0]
    limit = (device.memory_stats() or {}).get("bytes_limit", 0)
    if device.platform == "cpu" or not limit:
        return
    try:
        config = architectures.architecture(settings.model.path)
    except (ValueError, OSError):
        return  # what is wrong with the path is said where the weights are read
    machine = machines.Machine(
        name=f"{len(devices.devices)} x {device.device_kind}",
        devices=len(devices.devices),
        memory=limit,
        rates=machines.GPU.rates,
        chips=len(devices.devices),
    )
    arithmetic.check_fits(settings, config, machine, machines.slices(""))


def load_base(
    settings: Settings, sharding_of: placement.ShardingOf | None = None
) -> load.LoadedModel:
    """The model that a run starts from: model.path with model.adapter merged in.

    Args:
      settings: of the run.
      sharding_of: see `load.load_model`.

    Raises:
      ValueError, FileNotFoundError, RuntimeError: with what to change.
    """
    dtype = jnp.dtype(settings.model.dtype)
    loaded = load.load_model(settings.model.path, dtype, sharding_of)
    finite.check(loaded.config, loaded.params, f"model.path={settings.model.path}")
    if settings.model.adapter:
        loaded = load.with_adapter(loaded, settings.model.adapter)
        merged = f"model.path with model.adapter={settings.model.adapter}"
        finite.check(loaded.config, loaded.params, merged)
    return loaded


def enable_compilation_cache() -> None:
    """Keeps compiled programs between processes, unless the environment already says where."""
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        folder = os.path.join(
            os.environ.get("XDG_CACHE_HOME", os.path.expanduser("~/.cache")), "seal_jax", "xla"
        )
        jax.config.update("jax_compilation_cache_dir", folder)
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
