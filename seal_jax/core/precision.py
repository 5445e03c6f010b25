"""How exactly matrix products of float32 are computed; a CPU computes all of them in full.

On a GPU since Ampere a float32 product is one of TF32 unless more is asked for (10 bits of
mantissa), on a TPU one of bfloat16 (7 bits). For the base model that is as good as its weights in
bfloat16, and several times as fast. What is learned is small beside it, is added to it over and
over, and costs little to compute.

| product | precision |
|---|---|
| the base model's, attention and the output head included | the device's default |
| low-rank parts of projections, forward and backward | `EXACT` |
| a delta merged into a kernel | `EXACT` |
| projections, norms and decompositions of deltas (`retention`) | `EXACT` |
| norms of gradients, optimizer, softmax, RMS norms | no matrix products: float32 |
"""

import functools

import jax
import jax.numpy as jnp

EXACT = jax.lax.Precision.HIGHEST
exact_product = functools.partial(jnp.matmul, precision=EXACT)
