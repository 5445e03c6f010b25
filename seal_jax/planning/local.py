"""The devices that are here: their memory, and their rates as measured now."""

import contextlib
import functools
import os
import pathlib
import re
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp

from seal_jax.planning.machines import Machine, Rates

_PRODUCTS, _COPIES = 8, 4


def local_machine() -> Machine:
    """The local devices, with rates measured in a second or two; see `measure`."""
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


def available() -> int:
    """Bytes of the host's memory that are free for programs now; where it does not say, all."""
    found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for path, pattern, unit in (
        ("/proc/meminfo", r"MemAvailable:\s+(\d+) kB", 1024),
        ("/sys/fs/cgroup/memory.max", r"(\d+)", 1),  # what a container may have; or "max"
    ):
        with contextlib.suppress(OSError):
            said = re.search(pattern, pathlib.Path(path).read_text())
            found += [unit * int(said[1])] if said else []
    return min(found)


def measure(device: jax.Device, *, small: bool = False) -> Rates:
    """The rates that a model's programs could reach at most.

    Of products of 64 (CPU) or 8192 rows with eight square kernels one after another, as a model's
    layers are, and of four copies in place of 256 MiB (CPU) or 1 GiB. New memory for what a program
    returns is not part of it: a CPU's pages cost several times as much when they are first used,
    but a program's temporaries are used over and over.

    Args:
      device: one of this process's.
      small: products and copies are small: for tests, since the rates then mean little.
    """
    big = device.platform != "cpu"
    rows, wide = (64, 256) if small else (8192, 8192) if big else (64, 2048)
    dtype = jnp.bfloat16 if big else jnp.float32
    x = jnp.ones((rows, wide), dtype, device=device)
    kernels = jnp.zeros((_PRODUCTS, wide, wide), dtype, device=device)
    product = _seconds(_products, x, kernels)
    line = jnp.zeros(1 << (20 if small else 28 if big else 26), jnp.float32, device=device)
    traffic = 2 * _COPIES * line.nbytes
    copies = _seconds(_copies, line, _COPIES)
    return Rates(flops=2 * _PRODUCTS * rows * wide * wide / product, bandwidth=traffic / copies)


@functools.partial(jax.jit, donate_argnums=0)
def _products(x, kernels):
    return jax.lax.scan(lambda x, kernel: (x @ kernel, None), x, kernels)[0]


@functools.partial(jax.jit, donate_argnums=0)
def _copies(line, count):
    # A count that the compiler does not know: it cannot make one copy of them.
    return jax.lax.fori_loop(0, count, lambda _, line: line + 1, line)


def _seconds(function: Callable, state, *arguments) -> float:
    """The median of seven calls, each on what the call before returned."""
    state = jax.block_until_ready(function(state, *arguments))
    times = []
    for _ in range(7):
        start = time.perf_counter()
        state = jax.block_until_ready(function(state, *arguments))
        times.append(time.perf_counter() - start)
    return sorted(times)[3]
