"""The models that are measured: SmolLM2-135M, two larger shapes, and a tiny one for checks."""

import dataclasses
import functools
from typing import Any

import numpy as np

from seal_jax.core.specs import Remat
from seal_jax.doctor import machine
from seal_jax.planning import architectures

SMOLLM2 = "smollm2-135m"
TINY = "tiny"

_TINY = dict(
    model_type="llama",
    vocab_size=384,
    hidden_size=64,
    intermediate_size=96,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=16,
    rms_norm_eps=1e-5,
    tie_word_embeddings=True,
)
NAMES = (SMOLLM2, TINY, "llama-3.2-1b", "qwen2.5-7b")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spec:
    """What is to be run.

    Attributes:
      model: one of NAMES.
      random: its weights are random even if those of SmolLM2 could be had.
      dtype: of its weights.
      remat: what our backward passes compute anew.
      rank, alpha, learning_rate: of the adapters (query and value projections) and their training.
    """

    model: str
    random: bool = False
    dtype: str = "float32"
    remat: Remat = "dots"
    rank: int = 32
    alpha: float = 64.0
    learning_rate: float = 1e-3

    @property
    def itemsize(self) -> int:
        """Bytes of a weight."""
        return {"float32": 4, "bfloat16": 2}[self.dtype]

    @property
    def same_weights(self) -> bool:
        """Whether all sides hold the same weights, so that results can be compared."""
        return self.model == TINY or self.real

    @property
    def real(self) -> bool:
        """Whether the weights are the published ones."""
        return self.model == SMOLLM2 and not self.random

    @property
    def comparable(self) -> bool:
        """Whether the sides' results must agree closely."""
        return self.same_weights and self.dtype == "float32"


TARGETS = ("q_proj", "v_proj")


def hf_config(name: str) -> dict:
    """The model's shape with the keys of a Hugging Face config.json."""
    shapes = {known.lower(): shape for known, shape in architectures.known().items()}
    return dict({TINY: _TINY, **shapes}[name])


def on(devices, config, dtype):
    """The config with the attention that a run on these devices has for this dtype."""
    return devices.with_attention(config, dtype)


def load_ours(spec: Spec):
    """(ModelConfig, parameters on the device) of our side."""
    import jax
    import jax.numpy as jnp

    from seal_jax.core import parallel
    from seal_jax.core.model import decoder
    from seal_jax.core.model.config import ModelConfig

    devices = parallel.DeviceMesh(tuple(jax.local_devices()[:1]))
    if spec.real:
        from seal_jax.weights import load

        loaded = load.load_model(SMOLLM2, jnp.dtype(spec.dtype))
        return on(devices, loaded.config, spec.dtype), devices.place_params(
            loaded.config, loaded.params
        )
    config = on(devices, ModelConfig.from_hf(hf_config(spec.model)), spec.dtype)
    place = functools.partial(devices.place_params, config)
    if spec.model == TINY:
        return config, place(tiny_params(decoder.param_shapes(config), spec.dtype))
    make = jax.jit(lambda key: decoder.init(config, key, jnp.dtype(spec.dtype)))
    return config, place(make(jax.random.key(0)))


def tiny_params(shapes, dtype: str):
    """Random parameters of gain 1.5 whose greedy choices are far from ties."""
    import jax
    import jax.numpy as jnp

    rng = np.random.default_rng(0)

    def leaf(path, shape):
        name = path[-1].key
        spread = {"kernel": 1.5 * shape[-2 if len(shape) > 1 else 0] ** -0.5, "scale": 0.2}
        values = rng.normal(size=shape) * spread.get(name, 0.5) + (name == "scale")
        return jnp.asarray(values, dtype)

    return jax.tree_util.tree_map_with_path(
        leaf, shapes, is_leaf=lambda node: isinstance(node, tuple)
    )


def load_torch(spec: Spec):
    """The model as transformers' own, on a GPU if PyTorch has one."""
    import torch
    import transformers

    # The tiny model would spend its time on waking threads.
    torch.set_num_threads(1 if spec.model == TINY else machine.cores())
    dtype = getattr(torch, spec.dtype)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if spec.real:
        from seal_jax.weights import demo_model

        path = demo_model.fetch()
        model: Any = transformers.AutoModelForCausalLM.from_pretrained(
            path.parent, gguf_file=path.name, dtype=dtype
        )
        return model.to(device).eval()
    shape = hf_config(spec.model)
    config = transformers.AutoConfig.for_model(shape.pop("model_type"), **shape)
    with torch.device(device):
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=dtype)
    if spec.model == TINY:
        model.load_state_dict(_tiny_tensors(spec), strict=False)
    return model.eval()


def _tiny_tensors(spec: Spec):
    """The tiny model's parameters by transformers' names."""
    import torch

    from seal_jax.core.model import decoder
    from seal_jax.core.model.config import ModelConfig

    params = tiny_params(decoder.param_shapes(ModelConfig.from_hf(hf_config(TINY))), "float32")
    layers = params["layers"]
    found = {
        "model.embed_tokens.weight": params["embed"]["embedding"],
        "model.norm.weight": params["final_norm"]["scale"],
    }
    for index in range(layers["attn_norm"]["scale"].shape[0]):
        prefix = f"model.layers.{index}"
        norms = {"attn_norm": "input_layernorm", "mlp_norm": "post_attention_layernorm"}
        for ours, theirs in norms.items():
            found[f"{prefix}.{theirs}.weight"] = layers[ours]["scale"][index]
        for block, theirs in (("attn", "self_attn"), ("mlp", "mlp")):
            for module, leaves in layers[block].items():
                found[f"{prefix}.{theirs}.{module}.weight"] = leaves["kernel"][index].T
    found["lm_head.weight"] = found["model.embed_tokens.weight"]
    return {name: torch.tensor(np.array(value)) for name, value in found.items()}


def factors(shapes, spec: Spec, seed: int, *, trained: bool):
    """The same LoRA factors for every side.

    Args:
      shapes: (layers, in, out) of each target.
      seed: of the adapter.
      trained: b is random, as after training, instead of zero.

    Returns:
      {target: (a [L, in, R], b [L, R, out])}, float32: a uniform in ±1/sqrt(in).
    """
    rng = np.random.default_rng([seed, 7])
    found = {}
    for target, (layers, features_in, features_out) in sorted(shapes.items()):
        bound = features_in**-0.5
        a = rng.uniform(-bound, bound, (layers, features_in, spec.rank)).astype(np.float32)
        b = np.zeros((layers, spec.rank, features_out), np.float32)
        if trained:
            b += np.asarray(rng.normal(0, 0.01, b.shape), np.float32)
        found[target] = (a, b)
    return found
