"""What the machine can do: GEMM rate and copy bandwidth."""

import time


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
