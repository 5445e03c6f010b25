"""Devices that need not be there: those of a TPU slice or of GPUs, to compile programs for."""

import importlib.metadata
import os

import jax

from seal_jax.planning import machines
from seal_jax.planning.machines import GIB, Gpu, Machine
from seal_jax.settings import SettingsError

_CUDNN = (9, 8)
# The fields of XLA's GpuTargetConfigProto (openxla/xla, device_description.proto). What stands here
# as a number is the same for all GPUs of compute capability 8 and later.
_TARGET = """
gpu_device_info {{
  device_memory_size: {memory}
  memory_bandwidth: {bandwidth}
  core_count: {cores}
  fpus_per_core: {lanes}
  clock_rate_ghz: {gigahertz}
  l2_cache_size: {cache}
  shared_memory_per_core: {shared}
  shared_memory_per_block_optin: {optin}
  shared_memory_per_block: 49152
  cuda_compute_capability {{ major: {major} minor: {minor} }}
  threads_per_block_limit: 1024
  threads_per_core_limit: 2048
  threads_per_warp: 32
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
}}
platform_name: "CUDA"
dnn_version_info {{ major: {cudnn[0]} minor: {cudnn[1]} }}
runtime_version {{ major: 12 minor: 9 }}
device_description_str: "{model}"
"""


class _Cudnn:
    """Stands in for JAX's view of an installed cuDNN: the target's."""

    cudnn_get_version = staticmethod(lambda: 10000 * _CUDNN[0] + 100 * _CUDNN[1])


def devices(machine: Machine) -> tuple[jax.Device, ...]:
    """The devices of a machine of a known kind.

    Raises:
      SettingsError: the compiler is missing, or does not know the topology.
    """
    if machine.kind in machines.GPUS:
        return _gpus(machines.GPUS[machine.kind], machine)
    return _tpus(machine)


def _tpus(machine: Machine) -> tuple[jax.Device, ...]:
    try:
        import libtpu  # noqa: F401
    except ImportError:
        raise SettingsError(
            "planning for TPUs needs their compiler, the package libtpu: pip install "
            "'seal_jax[tpu]' (or --topology=gpu:80gb, by arithmetic; without --topology for the "
            "devices that are here)."
        ) from None
    from jax.experimental import topologies

    # Or the library looks for a TPU on this machine, and refuses a second process.
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
    # A host has four chips; a slice of fewer is a part of one.
    bounds = {"chips_per_host_bounds": (1, 1, 1)} if machine.chips == 1 else {}
    try:
        found = topologies.get_topology_desc(platform="tpu", topology_name=machine.name, **bounds)
    except Exception as error:
        raise SettingsError(
            f"the compiler does not take --topology={machine.name} ({str(error)[:200]}): try "
            f"{', '.join(m.name for m in machines.slices(machine.kind))}."
        ) from None
    return tuple(found.devices)


def _gpus(gpu: Gpu, machine: Machine) -> tuple[jax.Device, ...]:
    from jax._src.cudnn import fused_attention_stablehlo
    from jax.experimental import topologies

    # Lowering attention asks for the cuDNN of this machine, whatever it lowers for.
    if fused_attention_stablehlo.cuda_versions is None:
        fused_attention_stablehlo.cuda_versions = _Cudnn  # type: ignore[assignment]
    target = _TARGET.format(
        cudnn=_CUDNN,
        model=gpu.model,
        memory=gpu.memory * GIB,
        bandwidth=gpu.gbytes * 10**9,
        cores=gpu.cores,
        lanes=gpu.lanes,
        gigahertz=gpu.gigahertz,
        cache=gpu.cache << 20,
        shared=gpu.shared << 10,
        optin=(gpu.shared - 1) << 10,
        major=gpu.capability[0],
        minor=gpu.capability[1],
    )
    wanted = f"jax-cuda12-pjrt=={jax.lib.__version__}"
    try:
        import nvidia.cuda_nvcc  # noqa: F401  (the compiler finds its assembler there)

        there = f"jax-cuda12-pjrt=={importlib.metadata.version('jax-cuda12-pjrt')}"
        if there != wanted:
            raise ImportError(f"{there} is of another JAX")
        found = topologies.get_topology_desc(
            machine.kind, platform="cuda", target_config=target, topology=f"1x1x{machine.devices}"
        )
    except (ImportError, RuntimeError) as error:
        raise SettingsError(
            f"planning for GPUs needs their compiler ({str(error)[:200]}): pip install --no-deps "
            f"{wanted} nvidia-cuda-nvcc-cu12, which need neither a GPU nor a driver (or "
            "--topology=gpu:80gb, by arithmetic)."
        ) from None
    return tuple(found.devices)
