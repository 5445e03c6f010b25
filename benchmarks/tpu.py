"""Compiles the inner update for a TPU that is not there, and prints what the compiler says of it.

    pip install -e '.[tpu]'
    JAX_PLATFORMS=cpu python -m benchmarks.tpu --model=qwen2.5-7b --topology=v5p:2x2x1

The figures are the compiler's own estimates for one chip with the whole model and its share of the
candidates, not measurements. Nothing runs, and no weights are made.
"""

import argparse
import time

import jax
import jax.numpy as jnp
from jax.experimental import topologies
from jax.sharding import SingleDeviceSharding

from seal_jax.core import batching, inner
from seal_jax.core import delta as delta_lib
from seal_jax.core.model import decoder
from seal_jax.core.model.config import ModelConfig
from seal_jax.doctor import machine, models

_ROWS, _EPOCHS = 64, 10


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tpu", description=__doc__)
    parser.add_argument("--model", default="qwen2.5-7b", choices=("llama-3.2-1b", "qwen2.5-7b"))
    parser.add_argument("--topology", default="v5p:2x2x1")
    parser.add_argument("--candidates", type=int, default=8)
    parser.add_argument("--bucket", type=int, default=48, help="mean tokens of a sequence")
    parser.add_argument("--remat", default="dots", choices=("none", "dots", "full"))
    flags = parser.parse_args()
    config = ModelConfig.from_hf(models.hf_config(flags.model))
    found = estimate(config, flags.topology, flags.candidates, flags.bucket, flags.remat)
    for name, value in found.items():
        print(f"{name}: {value:.4g}")


def estimate(config: ModelConfig, topology: str, candidates: int, bucket: int, remat) -> dict:
    """What the compiler says of one program whose steps all run at one shape."""
    described = topologies.get_topology_desc(platform="tpu", topology_name=topology)
    device = SingleDeviceSharding(described.devices[0])
    shapes = batching.step_shapes((bucket, 2 * bucket), rows=candidates, spread=2)[:1]
    static = (config, inner.InnerSettings(shapes=shapes, remat=remat))
    spec = delta_lib.DeltaSpec(targets=models.TARGETS, rank=32, alpha=64.0)
    params = jax.eval_shape(lambda: decoder.init(config, jax.random.key(0), jnp.bfloat16))
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), candidates))

    def of_each(dtype, *shape):
        return jax.ShapeDtypeStruct((candidates, *shape), dtype)

    steps, length = _EPOCHS * _ROWS, 2 * bucket
    scalar = jax.ShapeDtypeStruct((), jnp.int32)
    arguments = (
        params,
        jax.eval_shape(lambda p, k: inner.init_candidates(spec, p, k), params, keys),
        inner.InnerProblem(
            of_each(jnp.int32, _ROWS, length),
            of_each(jnp.bool_, _ROWS, length),
            of_each(jnp.int32, _ROWS),
        ),
        inner.InnerHParams(of_each(jnp.float32), *[of_each(jnp.int32)] * 3),
        inner.Schedule(
            of_each(jnp.int32, steps, 1),
            jax.ShapeDtypeStruct((steps,), jnp.int32),
            scalar,
        ),
    )
    placed = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device), arguments
    )
    start = time.perf_counter()
    compiled = inner.update_candidates.lower(static, *placed).compile()
    memory = compiled.memory_analysis()
    tokens = shapes[0][0]
    return {
        "compile seconds here": time.perf_counter() - start,
        "tokens of a step": tokens,
        "useful TFLOP of a step": machine.useful_flops(machine.matmul_parameters(config), tokens)
        / 1e12,
        "arguments, GB": memory.argument_size_in_bytes / 1e9,
        "temporary memory, GB": memory.temp_size_in_bytes / 1e9,
    }


if __name__ == "__main__":
    main()
