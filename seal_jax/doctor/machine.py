"""What a process holds in memory, and what a model's work takes at least."""

import contextlib
import os
import pathlib
import resource
import sys


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
