"""What the machine can do and what a run cost it: GEMM rate, copy bandwidth, compiles, memory."""

import contextlib
import dataclasses
import os
import pathlib
import resource
import sys
import time

_COMPILE_EVENT = "/jax/core/compile/backend_compile_duration"


def cores() -> int:
    """CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def reset_peak_memory() -> None:
    """Starts a new measurement of this process's peak memory, where the system can."""
    with contextlib.suppress(OSError):  # then the peak is that of the whole life of the process
        pathlib.Path("/proc/self/clear_refs").write_text("5")
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def peak_memory() -> int:
    """Peak bytes of this process: of its accelerator if it has one in use, else resident memory.

    On an accelerator under JAX the peak is that of the whole life of the process.
    """
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated()
    jax = sys.modules.get("jax")
    if jax is not None and jax.default_backend() != "cpu":
        return (jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use", 0)
    try:
        for line in pathlib.Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


@dataclasses.dataclass
class Compiles:
    """Counts XLA compilations (or fetches from a cache) since it was made."""

    count: int = 0
    seconds: float = 0.0

    @classmethod
    def listen(cls) -> "Compiles":
        """A counter that runs from now on."""
        import jax

        counter = cls()

        def add(event, duration, **_):
            if event == _COMPILE_EVENT:
                counter.count += 1
                counter.seconds += duration

        jax.monitoring.register_event_duration_secs_listener(add)
        return counter


def gemm_rate(dtype: str, *, small: bool = False) -> float:
    """FLOP/s of XLA's product of two large square matrices: the best of five."""
    import jax
    import jax.numpy as jnp

    size = 256 if small else 2048 if jax.default_backend() == "cpu" else 8192
    keys = jax.random.split(jax.random.key(0))
    left, right = (jax.random.normal(key, (size, size), jnp.float32).astype(dtype) for key in keys)
    return 2 * size**3 / _best(jax.jit(jnp.matmul), left, right)


def copy_bandwidth(*, small: bool = False) -> float:
    """Bytes/s read and written when XLA copies a large array (times 1.5): the best of five."""
    import jax
    import jax.numpy as jnp

    count = (1 if small else 64 if jax.default_backend() == "cpu" else 512) << 20
    array = jnp.ones(count, jnp.float32)
    return 2 * array.nbytes / _best(jax.jit(lambda x: x * 1.5), array)


def _best(function, *args) -> float:
    """The shortest of five runs, in seconds; one more before them compiles."""
    import jax

    jax.block_until_ready(function(*args))
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        jax.block_until_ready(function(*args))
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def matmul_parameters(config) -> int:
    """Parameters that multiply activations: all layers' kernels and the output head.

    The head counts whether or not it is tied to the embedding; looking the embedding up does not.
    """
    hidden, heads = config.hidden_size, config.num_heads * config.head_dim
    key_values = config.num_kv_heads * config.head_dim
    attention = 2 * hidden * heads + 2 * hidden * key_values
    feed_forward = 3 * hidden * config.intermediate_size
    return config.num_layers * (attention + feed_forward) + hidden * config.vocab_size


def useful_flops(parameters: int, tokens: int) -> int:
    """FLOPs that training a small delta on so many real tokens needs.

    Args:
      parameters: those that multiply; see `matmul_parameters`.
      tokens: real ones.

    Two a parameter forward and two for the gradient of the activations; the frozen parameters need
    no gradient of their own. Padding and recomputation count as nothing.
    """
    return 4 * parameters * tokens


def decode_bytes(parameters: int, itemsize: int, steps: int) -> int:
    """Bytes of weights that so many decode steps read at least."""
    return parameters * itemsize * steps
