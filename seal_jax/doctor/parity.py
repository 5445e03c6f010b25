"""Whether a device computes what the CPU computes, a rounding error apart.

A small model is run from its prompt to its policy on both: logits, greedy texts, 20 inner steps of
two candidates, two steps of an M-step, and the merged policy's logits. In float32 every product is
asked for in full precision, so that what is left is the order of sums. In bfloat16 the device runs
as a run would, fused attention included, and may be as far from the CPU's float32 as the CPU's own
bfloat16 is, times `SLACK`: errors of kernels, masks and scales are far larger than that.
"""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from seal_jax.core import batching, inner, optim, parallel, restem, sampling
from seal_jax.core import delta as delta_lib
from seal_jax.core.delta import DeltaSpec
from seal_jax.core.model import decoder
from seal_jax.core.model.config import ModelConfig
from seal_jax.core.randomness import key_for
from seal_jax.core.specs import MStepSettings
from seal_jax.doctor import models

EXACT = 1e-3  # of the root mean square: what another order of sums may change
SLACK = 3.0
_PROMPT, _NEW, _ROWS = 96, 32, 4
_LENGTH = _PROMPT + _NEW
_CANDIDATES, _SEQUENCES, _EPOCHS = 2, 5, 4  # 20 steps of one sequence each
_TRAINED = 64  # tokens of a row that is trained on
_DELTA = DeltaSpec(targets=("attn/q", "down_proj"), rank=4, alpha=8.0)
_M_STEP = MStepSettings(learning_rate=1e-2, microbatch=_ROWS)

Figures = Mapping[str, np.ndarray]


def tiny(family: str) -> ModelConfig:
    """A model of a family with all of the family's parts, and heads that fused attention takes."""
    return ModelConfig.from_hf(
        {
            "model_type": family,
            "vocab_size": 384,
            "hidden_size": 128,
            "intermediate_size": 192,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 64,
            "tie_word_embeddings": family != "llama",
            "attention_bias": family == "qwen3",
            # What follows is read of the families that have it: both kinds of layers.
            "no_rope_layer_interval": 2,
            "sliding_window_pattern": 2,
            "sliding_window": None if family == "mistral" else 40,
            "query_pre_attn_scalar": 32 if family.startswith("gemma") else None,
        }
    )


def run(config: ModelConfig, params: Any, device: jax.Device, dtype: str) -> dict[str, np.ndarray]:
    """What a device computes with the model.

    Args:
      params: float32, on the host.
      dtype: that the device holds them in; float32 is computed in full.

    Returns:
      logits [B, T, V] of fixed rows; losses [K, S] of the inner steps; m_step [2, 2], losses and
      norms of gradients; policy [B, T, V], the merged policy's logits of the same rows; tokens
      [B, T], prompts and the greedy texts after them, and prompts [B], how long the former are.
    """
    devices = parallel.DeviceMesh((device,))
    config = models.on(devices, config, dtype)
    precision = "highest" if dtype == "float32" else None
    with jax.default_device(device), jax.default_matmul_precision(precision):
        cast = jax.tree.map(lambda leaf: np.asarray(leaf).astype(jnp.dtype(dtype)), params)
        placed = devices.place_params(config, cast)
        rows_BxT = _tokens(config, 3, _ROWS, _LENGTH)
        metrics, merged = _m_step(config, placed, devices)
        texts_BxT, lengths_B = _greedy(config, placed)
        found = {
            "logits": _logits(config, placed, rows_BxT),
            "losses": _inner_steps(config, placed, devices),
            "m_step": metrics,
            "policy": _logits(config, merged, rows_BxT),
            "tokens": texts_BxT,
            "prompts": lengths_B,
        }
        return jax.tree.map(np.asarray, found)


def compare(exact: Figures, rounded: Figures, found: Figures, greedy: np.ndarray) -> dict[str, Any]:
    """A device's figures beside the CPU's.

    Args:
      exact: the CPU's, in float32; rounded: the CPU's in the device's dtype; found: the device's.
      greedy: [B, T, V] the CPU's float32 logits of the texts that the device wrote.

    Returns:
      passed; errors, what is allowed and, of the greedy texts, how far below the best token (in
      logits' root mean squares) the CPU saw the worst of the device's, and the share of tokens that
      are the CPU's own.
    """
    names = ("logits", "losses", "m_step", "policy")
    errors = {name: _error(found[name], exact[name]) for name in names}
    allowed = {name: EXACT + SLACK * _error(rounded[name], exact[name]) for name in names}
    gaps = []  # texts may differ where two tokens are nearly as good
    for row, length in enumerate(found["prompts"]):
        said = found["tokens"][row, length : length + _NEW]
        logits_NxV = greedy[row, length - 1 : length + _NEW - 1]
        gaps.append(
            logits_NxV.max(axis=-1) - np.take_along_axis(logits_NxV, said[:, None], 1)[:, 0]
        )
    errors["greedy tokens"] = float(np.max(gaps)) / _rms(greedy)
    allowed["greedy tokens"] = 10 * allowed["logits"]  # the worst of thousands, not the mean
    return {
        "passed": all(errors[name] <= allowed[name] for name in errors),
        "errors": errors,
        "allowed": allowed,
        "same_tokens": float(np.mean(found["tokens"] == exact["tokens"])),
    }


def along(config: ModelConfig, params: Any, device: jax.Device, tokens_BxT: np.ndarray):
    """[B, T, V] a device's float32 logits of given rows."""
    with jax.default_device(device), jax.default_matmul_precision("highest"):
        placed = parallel.DeviceMesh((device,)).place_params(config, params)
        return np.asarray(_logits(config, placed, tokens_BxT))


def _error(found, exact) -> float:
    """The root mean square of what differs, in that of what is right; 1e9 if not finite."""
    error = _rms(np.float64(found) - np.float64(exact)) / max(_rms(exact), 1e-30)
    return error if np.isfinite(error) else 1e9


def _rms(values) -> float:
    return float(np.sqrt(np.mean(np.square(np.float64(values)))))


def _tokens(config: ModelConfig, seed: int, *shape: int) -> np.ndarray:
    vocabulary = min(config.vocab_size, 4096)
    return np.random.default_rng(seed).integers(3, vocabulary, shape).astype(np.int32)


def _greedy(config, params):
    """Right-padded rows of prompts of several lengths and their greedy texts, and the lengths."""
    lengths = [_PROMPT - 17 * row for row in range(_ROWS)]
    prompts = [_tokens(config, row, length).tolist() for row, length in enumerate(lengths)]
    aligned = batching.right_align(prompts, rows=_ROWS, buckets=(_PROMPT,), what="the prompts")
    settings = sampling.SampleSettings(max_new_tokens=_NEW, temperature=0.0)
    keys_B = jax.random.split(jax.random.key(0), _ROWS)
    said = sampling.generate_jit((config, settings), params, *aligned, keys_B)
    rows_BxT = np.zeros((_ROWS, _LENGTH), np.int32)
    for row, prompt in enumerate(prompts):
        text = [*prompt, *np.asarray(said.tokens_BxN[row]).tolist()]
        rows_BxT[row, : len(text)] = text
    return rows_BxT, np.array(lengths)


@functools.partial(jax.jit, static_argnums=0)
def _logits(config, params, tokens_BxT):
    hidden_BxTxD = decoder.hidden_states(config, params, tokens_BxT)
    return decoder.logits(config, params, hidden_BxTxD)


def _inner_steps(config, params, devices: parallel.DeviceMesh):
    """Losses [K, S] of two candidates' 20 steps."""
    rng = np.random.default_rng(1)
    lengths_K = rng.integers(8, _TRAINED + 1, (_CANDIDATES, _SEQUENCES))
    edits = [
        [_tokens(config, 10 * k + n, length).tolist() for n, length in enumerate(lengths)]
        for k, lengths in enumerate(lengths_K)
    ]
    shapes = batching.step_shapes((_TRAINED,), rows=_CANDIDATES, spread=1)
    schedule, _ = batching.make_schedule(
        lengths_K.tolist(),
        epochs=_EPOCHS,
        batch_size=1,
        key=key_for(0, "order"),
        shapes=shapes,
        rows=_SEQUENCES,
    )
    problems_K = batching.stack(
        [batching.inner_problem(edit, rows=_SEQUENCES, length=_TRAINED) for edit in edits]
    )
    hparams_K = inner.InnerHParams(
        learning_rate=np.full(_CANDIDATES, 3e-3, np.float32),
        num_steps=np.full(_CANDIDATES, _EPOCHS * _SEQUENCES, np.int32),
        warmup_steps=np.zeros(_CANDIDATES, np.int32),
        decay=np.full(_CANDIDATES, optim.DECAYS.index("linear"), np.int32),
    )
    keys_K = jax.random.split(jax.random.key(1), _CANDIDATES)
    deltas_K = inner.init_candidates(_DELTA, params, keys_K)
    settings = inner.InnerSettings(shapes=shapes, remat="dots")
    _, results_K = parallel.inner_update(
        devices, (config, settings), params, deltas_K, problems_K, hparams_K, [schedule]
    )
    return results_K.losses_S


def _m_step(config, params, devices: parallel.DeviceMesh):
    """Losses and norms of gradients [2, 2] of two steps, and the merged policy."""
    mask_BxT = np.arange(_TRAINED) >= np.arange(16, 16 + 8 * _ROWS, 8)[:, None]
    batch = restem.Batch(
        tokens_BxT=_tokens(config, 2, _ROWS, _TRAINED),
        mask_BxT=mask_BxT,
        weights_B=np.linspace(0.5, 1.5, _ROWS, dtype=np.float32),
    )
    state = devices.place(config, _start(jax.random.key(2), params))
    step = parallel.m_step(devices, (config, _M_STEP))
    metrics = []
    for _ in range(2):
        state, measured = step(params, state, devices.split(batch), np.int32(3))
        metrics.append([measured["loss"], measured["grad_norm"]])
    return np.asarray(jax.device_get(metrics)), _merged(params, state.delta)


@jax.jit
def _start(key, params):
    return restem.init(key, params, _DELTA, _M_STEP)


_merged = jax.jit(delta_lib.merge)
