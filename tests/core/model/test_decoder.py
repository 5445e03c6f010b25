"""The decoder against a plain numpy one, and its cached form against its uncached one."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from seal_jax.core import delta as delta_lib
from seal_jax.core.delta import DeltaSpec
from seal_jax.core.model import attention, decoder, layers, rope
from seal_jax.core.model import packing as packing_lib
from seal_jax.core.model.config import LayerKind
from seal_jax.core.model.rope import Rope, RopeScaling

prefill = jax.jit(decoder.prefill, static_argnums=(0, 4))
log_likelihoods = jax.jit(decoder.log_likelihoods, static_argnums=0)
rope_angles = jax.jit(rope.angles, static_argnums=(0, 1))


def _tokens(seed, *shape):
    return np.random.default_rng(seed).integers(0, 61, shape).astype(np.int32)


def _rotated(x_TxHxDh, theta):
    """Pair (i, i + Dh/2) of each head turned by position * theta^(-2i/Dh), in complex numbers."""
    half = x_TxHxDh.shape[-1] // 2
    pairs = x_TxHxDh[..., :half] + 1j * x_TxHxDh[..., half:]
    turns = np.outer(np.arange(len(x_TxHxDh)), theta ** (-np.arange(half) / half))
    pairs = pairs * np.exp(1j * turns)[:, None]
    return np.concatenate([pairs.real, pairs.imag], axis=-1)


def _numpy_logits(config, params, tokens_T, attended=None):
    """One row, one head at a time, in float64; only its first tokens are looked at."""
    c = config
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)

    def norm(x, scale):
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + c.norm_eps) * scale

    def project(x, module, layer):
        return x @ module["kernel"][layer] + (module["bias"][layer] if "bias" in module else 0)

    x = params["embed"]["embedding"][tokens_T]
    causal = np.tril(np.ones((len(tokens_T), len(tokens_T)), bool))
    causal[:, attended:] &= attended is None
    attn, mlp = params["layers"]["attn"], params["layers"]["mlp"]
    for i in range(c.num_layers):
        y = norm(x, params["layers"]["attn_norm"]["scale"][i])
        q, k, v = (
            project(y, attn[name], i).reshape(len(y), -1, c.head_dim)
            for name in ("q_proj", "k_proj", "v_proj")
        )
        if c.qk_norm == "head":
            q, k = norm(q, attn["q_norm"]["scale"][i]), norm(k, attn["k_norm"]["scale"][i])
        q, k = _rotated(q, 10000.0), _rotated(k, 10000.0)
        heads = []
        for h in range(c.num_heads):
            g = h // (c.num_heads // c.num_kv_heads)
            scores = np.where(causal, q[:, h] @ k[:, g].T / np.sqrt(c.head_dim), -np.inf)
            weights = np.exp(scores - scores.max(-1, keepdims=True))
            heads.append(weights / weights.sum(-1, keepdims=True) @ v[:, g])
        x = x + project(np.concatenate(heads, axis=-1), attn["o_proj"], i)
        y = norm(x, params["layers"]["mlp_norm"]["scale"][i])
        gate = project(y, mlp["gate_proj"], i)
        up = project(y, mlp["up_proj"], i)
        x = x + project(gate / (1 + np.exp(-gate)) * up, mlp["down_proj"], i)
    x = norm(x, params["final_norm"]["scale"])
    return x @ (params["head"]["kernel"] if "head" in params else params["embed"]["embedding"].T)


def test_logits_of_each_family_by_hand(tiny_model):
    config = dataclasses.replace(tiny_model.config, pattern=(LayerKind(),))
    model = dataclasses.replace(tiny_model, config=config)
    tokens_BxT = _tokens(0, 2, 7)
    for row, expected in zip(model.logits(tokens_BxT), tokens_BxT, strict=True):
        np.testing.assert_allclose(row, _numpy_logits(config, model.params, expected), atol=2e-4)


@pytest.mark.fault("15")
@pytest.mark.parametrize("packed", [False, True])
def test_what_is_not_attended_to_by_hand(tiny_llama, packed):
    """Fillers read the real tokens alone, not each other and not themselves."""
    config = dataclasses.replace(tiny_llama.config, pattern=(LayerKind(),))
    tokens_BxT, attended_B = _tokens(0, 3, 9), np.array([5, 9, 1])
    packing = packing_lib.make(np.array([9, 9, 9]), packed=27, padded=9) if packed else None
    found = log_likelihoods(
        config, tiny_llama.params, tokens_BxT, packing=packing, attended_B=attended_B
    )
    for row, tokens, attended in zip(found, tokens_BxT, attended_B, strict=True):
        logits = _numpy_logits(config, tiny_llama.params, tokens, attended)[:-1]
        expected = logits[np.arange(8), tokens[1:]] - scipy.special.logsumexp(logits, axis=1)
        np.testing.assert_allclose(row, expected, atol=2e-4)


def test_attention_biases_on_all_four_projections_by_hand(tiny_llama, random_params):
    config = dataclasses.replace(
        tiny_llama.config, pattern=(LayerKind(),), attention_bias=True, attention_out_bias=True
    )
    model = dataclasses.replace(tiny_llama, config=config, params=random_params(config, 9))
    tokens_T = _tokens(0, 7)
    expected = _numpy_logits(config, model.params, tokens_T)
    np.testing.assert_allclose(model.logits(tokens_T[None])[0], expected, atol=2e-4)


def test_tree_of_each_family(tiny_models):
    # V 61, D 16, F 24, L 2, H 4, G 2; Dh 4, and 6 for qwen3.
    llama = {
        "embed": {"embedding": (61, 16)},
        "layers": {
            "attn_norm": {"scale": (2, 16)},
            "mlp_norm": {"scale": (2, 16)},
            "attn": {
                "q_proj": {"kernel": (2, 16, 16)},
                "k_proj": {"kernel": (2, 16, 8)},
                "v_proj": {"kernel": (2, 16, 8)},
                "o_proj": {"kernel": (2, 16, 16)},
            },
            "mlp": {
                "gate_proj": {"kernel": (2, 16, 24)},
                "up_proj": {"kernel": (2, 16, 24)},
                "down_proj": {"kernel": (2, 24, 16)},
            },
        },
        "final_norm": {"scale": (16,)},
        "head": {"kernel": (16, 61)},
    }
    assert decoder.param_shapes(tiny_models["llama"].config) == llama
    found = decoder.param_shapes(tiny_models["qwen2"].config)
    assert "head" not in found  # tied
    assert found["layers"]["attn"] == {
        "q_proj": {"kernel": (2, 16, 16), "bias": (2, 16)},
        "k_proj": {"kernel": (2, 16, 8), "bias": (2, 8)},
        "v_proj": {"kernel": (2, 16, 8), "bias": (2, 8)},
        "o_proj": {"kernel": (2, 16, 16)},
    }
    assert decoder.param_shapes(tiny_models["qwen3"].config)["layers"]["attn"] == {
        "q_proj": {"kernel": (2, 16, 24)},
        "k_proj": {"kernel": (2, 16, 12)},
        "v_proj": {"kernel": (2, 16, 12)},
        "o_proj": {"kernel": (2, 24, 16)},
        "q_norm": {"scale": (2, 6)},
        "k_norm": {"scale": (2, 6)},
    }


def test_init_keeps_to_the_tree_and_the_asked_dtype(tiny_model):
    init = functools.partial(decoder.init, tiny_model.config, dtype=jnp.bfloat16)
    params = jax.eval_shape(init, jax.random.key(0))
    assert jax.tree.map(lambda leaf: leaf.shape, params) == decoder.param_shapes(tiny_model.config)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype(jnp.bfloat16)}


def test_init_draws_every_layer_and_seed_anew(tiny_llama):
    @jax.jit
    def kernel(key):
        return decoder.init(tiny_llama.config, key)["layers"]["attn"]["q_proj"]["kernel"]

    first, second = np.asarray(kernel(jax.random.key(0)))
    other = np.asarray(kernel(jax.random.key(1)))[0]
    assert len(np.unique([first, second, other])) == 3 * 16 * 16
    assert 0.8 < first.std() * 16**0.5 < 1.2  # LeCun normal: variance 1 / in


def test_cached_decoding_equals_the_uncached_pass(tiny_model):
    """Prompts of 1, 3 and 4 tokens, right-aligned, then five more tokens, one by one."""
    config, params = tiny_model.config, tiny_model.params
    lengths_B, width, new = np.array([1, 3, 4]), 4, 5
    rows_BxT = _tokens(1, 3, width + new)
    whole_BxTxV = tiny_model.logits(rows_BxT)  # right-padded: row b's text starts at 0
    prompts_BxT = _tokens(2, 3, width)  # the padding is noise
    for b, length in enumerate(lengths_B):
        prompts_BxT[b, width - length :] = rows_BxT[b, :length]
    logits_BxV, cache = prefill(config, params, prompts_BxT, lengths_B, width + new)
    assert [keys.shape for keys in cache.keys] == [(3, 9, 2, config.head_dim)] * 2
    split = decoder.split_layers(config, params)
    step = jax.jit(functools.partial(decoder.decode_step, config))
    for t in range(new + 1):
        at_B = lengths_B - 1 + t
        np.testing.assert_allclose(
            logits_BxV, whole_BxTxV[np.arange(3), at_B], rtol=1e-4, atol=1e-4, err_msg=f"token {t}"
        )
        if t < new:
            tokens_B = rows_BxT[np.arange(3), at_B + 1]
            logits_BxV, cache = step(params, split, tokens_B, width + t, cache)


def test_padding_on_the_left_of_a_prompt_never_matters(tiny_llama):
    args = tiny_llama.config, tiny_llama.params
    prompts_BxT = _tokens(3, 3, 4)
    lengths_B = np.array([1, 3, 4])
    noisy_BxT = np.where(np.arange(4) < 4 - lengths_B[:, None], 60 - prompts_BxT, prompts_BxT)
    assert (noisy_BxT != prompts_BxT).any()
    logits_BxV, cache = prefill(*args, prompts_BxT, lengths_B, 9)
    noisy_logits_BxV, noisy_cache = prefill(*args, noisy_BxT, lengths_B, 9)
    np.testing.assert_array_equal(logits_BxV, noisy_logits_BxV)
    for keys, noisy_keys in zip(cache.keys, noisy_cache.keys, strict=True):
        for b, length in enumerate(lengths_B):
            np.testing.assert_array_equal(keys[b, 4 - length :], noisy_keys[b, 4 - length :])


def test_a_token_sees_its_past_only(tiny_model):
    tokens_BxT = _tokens(4, 2, 7)
    changed_BxT = tokens_BxT.copy()
    changed_BxT[:, 4] = (changed_BxT[:, 4] + 1) % 61
    before, after = tiny_model.logits(tokens_BxT), tiny_model.logits(changed_BxT)
    np.testing.assert_array_equal(before[:, :4], after[:, :4])
    assert (np.abs(before - after)[:, 4:].max(axis=(0, 2)) > 1e-3).all()


def test_log_likelihoods_are_those_of_the_next_token(tiny_llama):
    tokens_BxT = _tokens(5, 2, 7)
    logits = np.asarray(tiny_llama.logits(tokens_BxT), np.float64)
    found = log_likelihoods(tiny_llama.config, tiny_llama.params, tokens_BxT)
    assert found.shape == (2, 6)
    for b in range(2):
        for t in range(6):
            probs = np.exp(logits[b, t]) / np.exp(logits[b, t]).sum()
            np.testing.assert_allclose(
                found[b, t], np.log(probs[tokens_BxT[b, t + 1]]), rtol=1e-4, atol=1e-5
            )


def test_target_log_probs_literal():
    # softmax of (0, ln 3) is (1/4, 3/4).
    logits = jnp.log(jnp.array([[1.0, 3.0], [1.0, 3.0]]))
    found = jax.jit(decoder.target_log_probs)(logits, jnp.array([0, 1]))
    np.testing.assert_allclose(found, np.log([0.25, 0.75]), rtol=1e-6)


@pytest.mark.parametrize("prompt", [3, 11])
def test_a_window_has_no_more_slots_than_tokens_it_looks_at(tiny_llama, prompt):
    """Prompts shorter and longer than the window; the other layer keeps everything."""
    pattern = (LayerKind(window=4), LayerKind(rope=None))
    config = dataclasses.replace(tiny_llama.config, pattern=pattern)
    tokens_BxT = _tokens(0, 2, prompt + 6)
    lengths_B = jnp.array([prompt, 2])
    first, cache = prefill(config, tiny_llama.params, tokens_BxT[:, :prompt], lengths_B, prompt + 6)
    assert [keys.shape[1] for keys in cache.keys] == [4, prompt + 6]
    split = decoder.split_layers(config, tiny_llama.params)
    step = jax.jit(functools.partial(decoder.decode_step, config))
    found = [first]
    for slot in range(prompt, prompt + 6):
        written, cache = step(tiny_llama.params, split, tokens_BxT[:, slot], slot, cache)
        found.append(written)
    model = dataclasses.replace(tiny_llama, config=config)
    for row, length in enumerate(lengths_B):
        expected = model.logits(tokens_BxT[row : row + 1, prompt - length :])[0, length - 1 :]
        np.testing.assert_allclose(jnp.stack(found)[:, row], expected, rtol=1e-4, atol=1e-4)


def test_split_layers(tiny_llama):
    first, second = decoder.split_layers(tiny_llama.config, tiny_llama.params)
    stacked = tiny_llama.params["layers"]
    for i, layer in enumerate((first, second)):
        jax.tree.map(lambda a, b, i=i: np.testing.assert_array_equal(a, b[i]), layer, stacked)
    assert decoder.split_layers(tiny_llama.config, None) == [{}, {}]


def test_bfloat16_weights_give_float32_logits(tiny_llama):
    params = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), tiny_llama.params)
    rounded = dataclasses.replace(tiny_llama, params=params)
    tokens_BxT = _tokens(5, 2, 7)
    logits = rounded.logits(tokens_BxT)
    assert logits.dtype == jnp.float32
    exact = np.asarray(tiny_llama.logits(tokens_BxT))
    assert 1e-5 < np.abs(logits - exact).max() / exact.std() < 0.2


def test_rotary_scaling_literal():
    # Dh = 8 and base 10,000: frequencies 1, 0.1, 0.01, 0.001. Over 1,024 positions they turn
    # 163, 16.3, 1.62975 and 0.163 times. Above 4 turns they stay, below 1 they are divided by 8,
    # and between, with s = (1.62975 - 1) / 3 = 0.209915: 0.01 s + 0.01 (1 - s) / 8 = 0.00308676.
    scaling = RopeScaling(
        factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_positions=1024
    )
    cos, sin = rope_angles(Rope(scaling=scaling), 8, jnp.array([[0, 1]]))
    np.testing.assert_array_equal(cos[0, 0], np.ones(4))
    angles = np.arctan2(sin[0, 1], cos[0, 1])
    np.testing.assert_allclose(angles, [1.0, 0.1, 0.00308676, 0.000125], rtol=2e-5)


def test_without_scaling_a_rotary_angle_is_linear_in_the_position():
    cos, sin = rope_angles(Rope(), 4, jnp.array([[3]]))
    np.testing.assert_allclose(np.arctan2(sin, cos)[0, 0], [3.0, 0.03], rtol=1e-5)


def test_rotate_turns_the_pair_of_both_halves():
    # Half a turn of pair (0, 2), a quarter turn of pair (1, 3).
    x = jnp.array([1.0, 2.0, 3.0, 4.0]).reshape(1, 1, 1, 4)
    cos, sin = jnp.array([[[-1.0, 0.0]]]), jnp.array([[[0.0, 1.0]]])
    np.testing.assert_array_equal(rope.rotate(x, cos, sin)[0, 0, 0], [-1.0, -4.0, -3.0, 2.0])


@pytest.mark.parametrize("groups", [1, 2])
def test_low_rank_groups_rows_by_candidate(groups):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4, 3, 5)).astype(np.float32)
    a = rng.normal(size=(groups, 5, 2)).astype(np.float32)
    b = rng.normal(size=(groups, 2, 6)).astype(np.float32)
    found = jax.jit(layers.low_rank)(x, a, b)
    for row in range(4):
        k = row // (4 // groups)
        np.testing.assert_allclose(found[row], x[row] @ a[k] @ b[k], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("tokens", [64, 65, 130])
def test_attention_in_blocks_equals_attention_at_once(tokens):
    rng = np.random.default_rng(0)
    q, k, v = (
        jnp.asarray(rng.normal(size=(2, tokens, heads, 8)), jnp.float32) for heads in (4, 2, 2)
    )
    mask = jnp.tril(jnp.ones((1, 1, tokens, tokens), bool))
    found = attention.attend(q, k, v, mask)
    expected = jax.nn.dot_product_attention(q, k, v, mask=mask)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_packed_rows_equal_padded_ones(tiny_model, random_delta):
    """Two candidates of two rows each, with grouped deltas on all projections."""
    config, params = tiny_model.config, tiny_model.params
    spec = DeltaSpec((".*",), rank=2, alpha=4.0)
    deltas = delta_lib.stack([random_delta(params, spec, seed) for seed in (0, 1)])
    variables = delta_lib.grouped_variables(deltas)
    lengths = np.array([5, 2, 0, 7], np.int32)
    tokens = np.random.default_rng(1).integers(0, config.vocab_size, (4, 8))
    packing = packing_lib.make(lengths, packed=16, padded=8)
    real = np.arange(7) < lengths[:, None] - 1
    found, expected = (
        decoder.log_likelihoods(config, params, tokens, delta=variables, packing=of)
        for of in (packing, None)
    )
    np.testing.assert_allclose(
        np.where(real, found, 0), np.where(real, expected, 0), rtol=2e-5, atol=1e-5
    )
