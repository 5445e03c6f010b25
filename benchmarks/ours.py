"""This project as a contestant: what the doctor measures, and what only the benchmark does."""

import functools
import time

import jax
import jax.numpy as jnp

from benchmarks import rates
from seal_jax.core import sampling
from seal_jax.core.model import decoder
from seal_jax.doctor import machine, models
from seal_jax.doctor.jax_side import SPREAD, JaxSide


def open_worker(spec: models.Spec) -> "Ours":
    return Ours(spec)


class Ours(JaxSide):
    """The model on the device, and what is measured on it. Every method returns a dict."""

    def facts(self, *, small: bool) -> dict:
        """The machine's rates and the model's sizes."""
        return {
            "device": jax.devices()[0].device_kind,
            "platform": jax.default_backend(),
            "jax": jax.__version__,
            "gemm_flops": rates.gemm_rate(self.spec.dtype, small=small),
            "copy_bytes": rates.copy_bandwidth(small=small),
            "matmul_parameters": machine.matmul_parameters(self.config),
        }

    def gemm(self, *, small: bool) -> dict:
        """The large GEMM's rate at this moment."""
        return {"flops": rates.gemm_rate(self.spec.dtype, small=small)}

    def products_only(self, tokens: int) -> dict:
        """The model's large products alone, forward and by the input, for one row of tokens.

        What an update would take if norms, attention, adapters, softmax and the optimizer were
        free: the ceiling at the model's own shapes.
        """
        x_PxD = jnp.ones((tokens, self.config.hidden_size), self.spec.dtype)
        jax.block_until_ready(_products(self.config, self.params, x_PxD))
        start = time.perf_counter()
        jax.block_until_ready(_products(self.config, self.params, x_PxD))
        return {"seconds": time.perf_counter() - start, "real": tokens}

    def density(self, groups, buckets, *, size: int) -> dict:
        """Real and computed tokens of many groups; nothing is trained."""
        counts = {}
        for name, spread in (("packed", SPREAD), ("padded", 1)):
            tokens = [self._schedule(group, buckets, 1, size, spread=spread)[2] for group in groups]
            counts[name] = {
                "real": sum(t.real for t in tokens),
                "computed": sum(t.computed for t in tokens),
            }
        return counts

    def compile(self, group, buckets, *, size: int | None = None, fitted: bool = False) -> dict:
        """Compiles the program of a group: an update of no steps."""
        return self._update(group, buckets, 1, size, fitted, steps=0)[1]

    def sample(self, prompts, *, samples: int, new_tokens: int) -> dict:
        """M samples of each prompt at temperature 1 and top-p 0.95, of fixed length."""
        settings = sampling.SampleSettings(max_new_tokens=new_tokens, temperature=1.0, top_p=0.95)
        return self._generate(prompts, settings, None, samples)


@functools.partial(jax.jit, static_argnums=0)
def _products(config, params, x_PxD):
    """A chain of all products of a training step; its values mean nothing."""
    scale = x_PxD.dtype.type(config.hidden_size**-0.5)

    def forward(x, layer):
        attn, mlp = layer["attn"], layer["mlp"]
        q, k, v = (x @ attn[name]["kernel"] for name in ("q_proj", "k_proj", "v_proj"))
        x = (q + k.sum() + v.sum()) @ attn["o_proj"]["kernel"] * scale
        gate, up = (x @ mlp[name]["kernel"] for name in ("gate_proj", "up_proj"))
        return (gate + up) @ mlp["down_proj"]["kernel"] * scale, None

    def backward(g, layer):
        attn, mlp = layer["attn"], layer["mlp"]
        inner = g @ mlp["down_proj"]["kernel"].T
        g = (inner @ mlp["gate_proj"]["kernel"].T + inner @ mlp["up_proj"]["kernel"].T) * scale
        heads = g @ attn["o_proj"]["kernel"].T
        g = heads @ attn["q_proj"]["kernel"].T
        for name in ("k_proj", "v_proj"):
            kernel = attn[name]["kernel"]
            g = g + heads[:, : kernel.shape[1]] @ kernel.T
        return g * scale, None

    x_PxD, _ = jax.lax.scan(forward, x_PxD, params["layers"])
    logits_PxV = decoder.logits(config, params, x_PxD)
    head = params["embed"]["embedding"] if config.tie_embeddings else params["head"]["kernel"].T
    g_PxD = logits_PxV.astype(x_PxD.dtype) @ head * scale
    return jax.lax.scan(backward, g_PxD, params["layers"], reverse=True)[0]
