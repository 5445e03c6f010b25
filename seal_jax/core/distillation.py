"""What a model expects as it reads: the teacher of the inner loop's loss "distillation".

The model that is adapted, with the context in its prompt, teaches itself without it: at each token
of an answer the loss is KL(teacher || learner) of the next token, as in prompt distillation (arXiv
2412.14964). This forward divergence is taken on given answers, so that the teacher is asked once,
before training; SDFT's reverse one (arXiv 2601.19897) is taken on what the learner itself samples
at each step, which K candidates would have to decode at each step.

A teacher is kept as its likeliest tokens and the rest as one outcome, 8 * LIKELIEST bytes a token.
Hidden states, from which the exact divergence would come, take 2 or 4 bytes times the model's
width.

Dims: Q queries, T tokens, A answer tokens, J likeliest tokens.
"""

import functools

import jax
import jax.numpy as jnp

from seal_jax.core.evaluate import Queries
from seal_jax.core.model import decoder
from seal_jax.core.model.token_loss import SoftTargets

LIKELIEST = 16


@functools.partial(jax.jit, static_argnums=0)
def expected(config, params, queries: Queries) -> SoftTargets:
    """What a model expects at each token of given answers, [Q, A, J]; row after row.

    Nothing is said of tokens beyond an answer's end.
    """
    offsets_A = jnp.arange(queries.answers_QxA.shape[1])

    def of_one(query):
        tokens_T, length = query
        hidden_TxD = decoder.hidden_states(config, params, tokens_T[None])[0]
        hidden_AxD = hidden_TxD[jnp.clip(length - 1 + offsets_A, 0, len(tokens_T) - 1)]
        log_probs_AxV = jax.nn.log_softmax(decoder.logits(config, params, hidden_AxD), axis=-1)
        log_probs_AxJ, ids_AxJ = jax.lax.top_k(log_probs_AxV, LIKELIEST)
        return SoftTargets(ids_AxJ, log_probs_AxJ)

    return jax.lax.map(of_one, (queries.tokens_QxT, queries.prompt_lengths_Q))
