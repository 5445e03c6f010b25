"""What a model is opened on and from: the devices, their memory, and its weights."""

import os

import jax
import jax.numpy as jnp

from seal_jax.core import parallel
from seal_jax.planning import architectures, arithmetic, local, machines
from seal_jax.settings import Settings, SettingsError
from seal_jax.weights import finite, load, placement


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
    """Refuses a run that cannot fit on devices which say how much memory they have; a CPU has what
    is free of the host's.

    Raises:
      SettingsError: with what to lower, and the smallest machine that can.
    """
    device = devices.devices[0]
    count, beside = len(devices.devices), ""
    limit = (device.memory_stats() or {}).get("bytes_limit", 0)
    if device.platform == "cpu":
        limit, beside = local.available() // count, ", by the memory that is free now"
    if not limit:
        return
    try:
        config = architectures.architecture(settings.model.path)
    except (ValueError, OSError):
        return  # what is wrong with the path is said where the weights are read
    machine = machines.Machine(
        name=f"{count} x {device.device_kind}{beside}",
        devices=count,
        memory=limit,
        rates=machines.GPU.rates,
        chips=count,
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
    caches = os.environ.get("XDG_CACHE_HOME", os.path.expanduser("~/.cache"))
    defaults = {
        "jax_compilation_cache_dir": os.path.join(caches, "seal_jax", "xla"),
        "jax_persistent_cache_min_compile_time_secs": 0.5,
    }
    for name, value in defaults.items():
        if name.upper() not in os.environ:
            jax.config.update(name, value)
