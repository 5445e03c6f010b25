"""The inner update of a dense delta: full fine-tuning of one candidate."""

import dataclasses

import jax
import numpy as np
import optax
import pytest

from seal_jax.core import batching, inner, optim
from seal_jax.core import delta as delta_lib
from seal_jax.core.delta import Delta, DeltaSpec
from seal_jax.core.model import decoder

SETTINGS = inner.InnerSettings(shapes=((8, 8),))
SPEC = DeltaSpec((".*",), kind="dense")
RATE, RANKS = 0.01, (2, 0, 1)


def _arguments(params, count):
    """(deltas, problems, hparams, schedule) of `count` candidates with three sequences each."""
    rng = np.random.default_rng(5)
    problems = [
        batching.inner_problem(
            [rng.integers(0, 61, length).tolist() for length in (8, 5, 3)], rows=4, length=8
        )
        for _ in range(count)
    ]
    hparams = inner.InnerHParams(
        np.float32(RATE), np.int32(3), np.int32(0), np.int32(optim.DECAYS.index("constant"))
    )
    ranks_KxSxB = np.broadcast_to(np.array(RANKS, np.int32)[:, None], (count, 3, 1))
    return (
        delta_lib.stack([delta_lib.init(jax.random.key(0), params, SPEC)] * count),
        batching.stack(problems),
        batching.stack([hparams] * count),
        inner.Schedule(ranks_KxSxB, np.zeros(3, np.int32), np.int32(3)),
    )


@pytest.mark.parametrize("decay", [0.0, pytest.param(0.5, marks=pytest.mark.fault("14"))])
def test_it_is_trained_like_the_weights_themselves(tiny_llama, decay):
    """Three AdamW steps of every parameter, against optax on merged weights."""
    arguments = _arguments(tiny_llama.params, 1)
    settings = dataclasses.replace(SETTINGS, optimizer=optim.AdamW(weight_decay=decay))
    found, result = inner.update_candidates(
        (tiny_llama.config, settings), tiny_llama.params, *arguments
    )
    start, problem = (jax.tree.map(lambda leaf: leaf[0], part) for part in arguments[:2])

    @jax.jit
    @jax.value_and_grad
    def loss_of(tree, tokens_T):
        merged = delta_lib.merge(tiny_llama.params, Delta(tree, SPEC))
        hidden_TxD = decoder.hidden_states(tiny_llama.config, merged, tokens_T[None])[0]
        logits_TxV = decoder.logits(tiny_llama.config, merged, hidden_TxD[:-1])
        return -decoder.target_log_probs(logits_TxV, tokens_T[1:]).mean()

    adamw = optax.adamw(RATE, weight_decay=decay)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), adamw)
    tree, state = start.tree, optimizer.init(start.tree)
    losses = []
    for rank in RANKS:
        tokens_T = problem.tokens_NxT[rank, : problem.lengths_N[rank]]
        loss, gradient = loss_of(tree, tokens_T)
        merged = delta_lib.merge(tiny_llama.params, Delta(tree, SPEC))
        changes, state = jax.jit(optimizer.update)(gradient, state, merged)
        tree = optax.apply_updates(tree, changes)
        losses.append(loss)
    np.testing.assert_allclose(result.losses_S[0], losses, rtol=1e-4)
    for a, b in zip(*map(jax.tree.leaves, (found.tree, tree)), strict=True):
        assert np.linalg.norm(a[0] - b) < 1e-2 * np.linalg.norm(b)


def test_several_are_refused(tiny_llama):
    with pytest.raises(ValueError, match=r"3 dense deltas .* set the number of candidates to 1"):
        inner.update_candidates(
            (tiny_llama.config, SETTINGS), tiny_llama.params, *_arguments(tiny_llama.params, 3)
        )
