"""What K adapted models say and believe: answers and gold log-likelihoods of Q queries each.

Dims: K candidates, Q queries of a candidate, T tokens, A gold-answer tokens, N new tokens.
"""

import functools

import chex
import flax.struct
import jax
import jax.numpy as jnp

from seal_jax.core import delta as delta_lib
from seal_jax.core import sampling
from seal_jax.core.delta import Delta
from seal_jax.core.model import decoder


class Queries(flax.struct.PyTreeNode):
    """Queries with their gold answers, as right-padded rows "prompt, answer".

    Attributes:
      tokens_QxT: prompt and gold answer.
      prompt_lengths_Q: number of prompt tokens, at least 1; 0 marks a padding row.
      answers_QxA: the gold answer's tokens again.
      answer_lengths_Q: number of answer tokens.
    """

    tokens_QxT: jax.Array
    prompt_lengths_Q: jax.Array
    answers_QxA: jax.Array
    answer_lengths_Q: jax.Array


def gold_log_likelihoods(config, params, delta: Delta | None, queries: Queries):
    """log p(gold answer | query) of one adapted model, summed over the answer's tokens.

    Only the hidden states that predict answer tokens go through the output head.

    Returns:
      [Q] float32, in nats; 0 for padding rows.
    """
    chex.assert_rank([queries.tokens_QxT, queries.answers_QxA], 2)
    chex.assert_equal_shape([queries.prompt_lengths_Q, queries.answer_lengths_Q])
    variables = delta_lib.variables(delta)
    hidden_QxTxD = decoder.hidden_states(config, params, queries.tokens_QxT, delta=variables)
    offsets_A = jnp.arange(queries.answers_QxA.shape[1])
    positions_QxA = jnp.clip(
        queries.prompt_lengths_Q[:, None] - 1 + offsets_A, 0, queries.tokens_QxT.shape[1] - 1
    )
    hidden_QxAxD = jnp.take_along_axis(hidden_QxTxD, positions_QxA[..., None], axis=1)
    logits_QxAxV = decoder.logits(config, params, hidden_QxAxD, delta=variables)
    lls_QxA = decoder.target_log_probs(logits_QxAxV, queries.answers_QxA)
    return jnp.sum(jnp.where(offsets_A < queries.answer_lengths_Q[:, None], lls_QxA, 0.0), axis=1)


@functools.partial(jax.jit, static_argnums=0)
def gold_log_likelihoods_of_candidates(config, params, deltas_K, queries_K):
    """`gold_log_likelihoods` of K candidates, [K, Q].

    Args:
      deltas_K: K stacked deltas, or None for the unadapted model on K sets of queries.
      queries_K: with a leading axis K on every leaf.
    """
    mapped = jax.vmap(functools.partial(gold_log_likelihoods, config), in_axes=(None, 0, 0))
    return mapped(params, deltas_K, queries_K)


@functools.partial(jax.jit, static_argnums=0)
def answers_of_candidates(
    static, params, deltas_K, prompts_KxQxT, lengths_KxQ, keys_KxQ, automaton=None
):
    """Answers of K adapted models to Q queries each, decoded natively over all K x Q rows.

    Args:
      static: (model config, SampleSettings).
      deltas_K: K stacked low-rank deltas, or None for the unadapted model.
      prompts_KxQxT: right-aligned prompts; lengths_KxQ their lengths, 0 for padding.
      keys_KxQ: a PRNG key per query (unused when greedy).
      automaton: None, or what every answer has to keep to; see `sampling.generate`.

    Returns:
      sampling.Samples with rows in the order of (k, q).
    """
    chex.assert_rank(prompts_KxQxT, 3)
    chex.assert_shape([lengths_KxQ, keys_KxQ], prompts_KxQxT.shape[:2])
    variables = None if deltas_K is None else delta_lib.grouped_variables(deltas_K)
    return sampling.generate(
        static,
        params,
        prompts_KxQxT.reshape(-1, prompts_KxQxT.shape[-1]),
        lengths_KxQ.reshape(-1),
        keys_KxQ.reshape(-1),
        delta=variables,
        automaton=automaton,
    )
