"""The devices that are here: their memory, and their rates as measured now."""

import os
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp

from seal_jax.planning.machines import Machine, Rates


def local_machine() -> Machine:
    """The local devices, with rates of one product and of one copy, measured in about a second."""
    devices = jax.devices()
    return Machine(
        name=f"{len(devices)} x {devices[0].device_kind}",
        devices=len(devices),
        memory=memory_of(devices[0], len(devices)),
        rates=measure(devices[0]),
        chips=len(devices),
    )


def memory_of(device: jax.Device, count: int = 1) -> int:
    """Bytes that a device may use; of a CPU its share of the host's memory."""
    stats = device.memory_stats() or {}
    if "bytes_limit" in stats:
        return stats["bytes_limit"]
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // count


def measure(device: jax.Device) -> Rates:
    """Rates of a product of 256 x 2048 x 2048 numbers, and of a copy of 64 MiB (CPU) or 1 GiB."""
    big = device.platform != "cpu"
    rows, wide = (8192, 8192) if big else (256, 2048)
    dtype = jnp.bfloat16 if big else jnp.float32
    left, right = (jnp.ones((size, wide), dtype, device=device) for size in (rows, wide))
    line = jnp.ones(1 << (28 if big else 24), jnp.float32, device=device)
    product = _seconds(jax.jit(jnp.matmul), left, right)
    copy = _seconds(jax.jit(lambda x: x + 1), line)
    return Rates(flops=2 * rows * wide * wide / product, bandwidth=2 * line.nbytes / copy)


def _seconds(function: Callable, *arguments) -> float:
    """The median of seven calls."""
    jax.block_until_ready(function(*arguments))
    times = []
    for _ in range(7):
        start = time.perf_counter()
        jax.block_until_ready(function(*arguments))
        times.append(time.perf_counter() - start)
    return sorted(times)[3]
