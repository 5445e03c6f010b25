"""The device itself: what it is, its rates, and whether its results are right."""

import dataclasses
import functools
import importlib.metadata
import os
import platform
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import seal_jax
from seal_jax.core import parallel
from seal_jax.core.model import decoder
from seal_jax.core.model.config import ModelConfig
from seal_jax.doctor import machine, models, parity
from seal_jax.planning import local

# What decides which kernels run; those that are installed are told.
_PACKAGES = (
    "jax", "jaxlib", "flax", "optax", "numpy", "libtpu", "jax-cuda12-plugin", "jax-cuda13-plugin",
    "nvidia-cudnn-cu12", "nvidia-cudnn-cu13", "torch", "peft", "transformers",
)  # fmt: skip
_VARIABLES = ("JAX_", "XLA_", "TPU_", "CUDA_VISIBLE", "NVIDIA_TF32")
# What fused attention is called in a program, by the name that people know it by.
_FUSED = {"cudnn$fmha": "cuDNN", "tpu_custom_call": "a Pallas kernel (splash)"}


def open_worker(spec: None) -> "Chip":
    return Chip()


class Chip:
    """The first device of this process. Every method returns a dict."""

    def __init__(self) -> None:
        self.device = jax.local_devices()[0]
        self._figures: dict[tuple[str, str], dict[str, np.ndarray]] = {}

    def facts(self) -> dict[str, Any]:
        """Versions, devices, memory, and which kernels a run would take."""
        installed = {of.name: of.version for of in importlib.metadata.distributions()}
        return {
            "seal_jax": seal_jax.__version__,
            "python": platform.python_version(),
            "packages": {name: installed[name] for name in _PACKAGES if name in installed},
            "variables": {k: v for k, v in sorted(os.environ.items()) if k.startswith(_VARIABLES)},
            "platform": self.device.platform,
            "device": self.device.device_kind,
            "devices": jax.local_device_count(),
            "capability": str(getattr(self.device, "compute_capability", "")),
            "memory_bytes": local.memory_of(self.device, jax.local_device_count()),
            "cores": machine.cores(),
            "attention": {
                f"{what}, {dtype}": self._attention(what, dtype)
                for what in ("training", "log-likelihoods")
                for dtype in ("bfloat16", "float32")
            },
            "float32_products": {
                name: self._product_error(name) for name in ("default", "highest")
            },
        }

    def rates(self, *, small: bool) -> dict[str, float]:
        """Of large products and of copies, as the planner measures them."""
        found = local.measure(self.device, small=small)
        return {"flops": found.flops, "bandwidth": found.bandwidth}

    def figures(self, name: str, dtype: str) -> dict[str, np.ndarray]:
        """What `parity.run` finds for a family's tiny model, or for SmolLM2-135M."""
        if (name, dtype) not in self._figures:
            self._figures[name, dtype] = parity.run(*_model(name), self.device, dtype)
        return self._figures[name, dtype]

    def prepare(self, name: str, dtype: str) -> dict[str, Any]:
        """Finds beforehand what `compare` needs."""
        for of in ("float32", dtype):
            self.figures(name, of)
        return {}

    def compare(self, name: str, dtype: str, found: dict[str, np.ndarray]) -> dict[str, Any]:
        """Another device's figures beside this one's; see `parity.compare`."""
        if self.device.platform != "cpu":
            raise RuntimeError(f"results are compared with the CPU's, and this is {self.device}")
        exact, rounded = (self.figures(name, of) for of in ("float32", dtype))
        return parity.compare(
            exact, rounded, found, parity.along(*_model(name), self.device, found["tokens"])
        )

    def _attention(self, what: str, dtype: str) -> str:
        """How the program attends over 512 tokens in the shape of Llama-3.2-1B."""
        devices = parallel.DeviceMesh((self.device,))
        whole = ModelConfig.from_hf(models.hf_config("llama-3.2-1b"))
        config = models.on(devices, dataclasses.replace(whole, num_layers=1), dtype)
        params = jax.eval_shape(lambda: decoder.init(config, jax.random.key(0), jnp.dtype(dtype)))
        tokens = jax.ShapeDtypeStruct((2, 512), jnp.int32)

        def total(params, tokens):
            return jnp.sum(decoder.log_likelihoods(config, params, tokens, remat="dots"))

        def of_embedding(params, tokens):
            return jax.grad(lambda x: total(params | {"layers": x}, tokens))(params["layers"])

        program = of_embedding if what == "training" else total
        with jax.default_device(self.device):
            text = jax.jit(program).lower(params, tokens).as_text()
        found = [name for called, name in _FUSED.items() if called in text]
        return " and ".join(found) or "blocks of queries"

    def _product_error(self, precision: str) -> float:
        """The relative error of a product of two float32 matrices."""
        rng = np.random.default_rng(0)
        left, right = (np.asarray(rng.normal(size=(512, 512)), np.float32) for _ in range(2))
        with jax.default_device(self.device):
            product = np.asarray(jnp.matmul(left, right, precision=precision))
        exact = np.matmul(left, right, dtype=np.float64)
        return float(np.linalg.norm(product - exact) / np.linalg.norm(exact))


@functools.cache
def _model(name: str) -> tuple[ModelConfig, Any]:
    """The model of that name, in float32 on the host."""
    if name != models.SMOLLM2:
        config = parity.tiny(name)
        return config, models.tiny_params(decoder.param_shapes(config), "float32")
    from seal_jax.weights import load

    loaded = load.load_model(name, jnp.float32)
    return loaded.config, jax.tree.map(np.asarray, loaded.params)
