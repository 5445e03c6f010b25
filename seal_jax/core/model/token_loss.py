"""Log-likelihoods of given tokens without keeping the logits.

The logits of a long row of tokens over a large vocabulary are the largest array of training, and
the gradient needs only their product with the output head. So both are computed block by block of
tokens, in the forward pass, and only at the tokens of the loss mask. Under a constraint (see
`core.constrained`) only the allowed rows of the head are read.

Dims: P tokens, C tokens of a block, D model width, V vocabulary, A allowed tokens, J a teacher's
likeliest tokens.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from seal_jax.core.model import soft_cap

BLOCK = 512  # tokens whose logits exist at once
ALLOWED_BLOCK = 64  # tokens whose allowed rows of the output head exist at once


class SoftTargets(NamedTuple):
    """What a teacher expects of each token; all but its likeliest tokens are one outcome more.

    Attributes:
      ids: [..., J] its likeliest tokens, each once; -1 for none.
      log_probs: [..., J] their log-probabilities.
    """

    ids: jax.Array
    log_probs: jax.Array


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 7))
def log_likelihoods(
    tied: bool,
    head,
    hidden_PxD,
    targets_P,
    loss_mask_P,
    allowed_PxA=None,
    soft_P=None,
    cap: float | None = None,
):
    """[P] float32: log p(target) under the logits of hidden states; 0 outside the loss mask.

    Args:
      tied: whether the head is the embedding, [V, D]; otherwise it is a kernel [D, V].
      head: the output head, frozen: no gradient flows to it.
      hidden_PxD: final hidden states.
      targets_P: token ids; loss_mask_P: bool, true at the tokens that are computed at all.
      allowed_PxA: the tokens that p is renormalised over, padded with -1; None is all. A target
        that is not among them has the log-likelihood -inf.
      soft_P: SoftTargets in the place of targets, or None. What comes back is -KL(teacher || p),
        which of a teacher that is sure of one token is the token's log-likelihood.
      cap: of the logits; see `soft_cap`.
    """
    return _sweep(tied, head, hidden_PxD, targets_P, loss_mask_P, allowed_PxA, soft_P, cap)[0]


def _forward(tied, head, *of_tokens):
    return _sweep(tied, head, *of_tokens, with_gradient=True)


def _backward(tied, cap, gradient_PxD, cotangent_P):
    gradient = cotangent_P[:, None] * gradient_PxD.astype(jnp.float32)
    return None, gradient.astype(gradient_PxD.dtype), None, None, None, None


log_likelihoods.defvjp(_forward, _backward)


def _sweep(
    tied,
    head,
    hidden_PxD,
    targets_P,
    loss_mask_P,
    allowed_PxA,
    soft_P=None,
    cap=None,
    *,
    with_gradient=False,
):
    """Log-likelihoods, and d log-likelihood / d hidden of each token: head[target] - E[head]."""
    count = hidden_PxD.shape[0]
    num_blocks = -(-count // BLOCK)
    block = 16 * -(-count // (16 * num_blocks)) if allowed_PxA is None else ALLOWED_BLOCK
    # The masked tokens first; indices past the end read zeros and write nothing.
    order_P = jnp.argsort(~loss_mask_P, stable=True)
    order_P = jnp.where(jnp.arange(count) < jnp.sum(loss_mask_P), order_P, count)
    order_P = jnp.pad(order_P, (0, -count % block), constant_values=count)

    def sweep(i, carry):
        lls_P, gradient_PxD = carry
        rows_C = jax.lax.dynamic_slice(order_P, (i * block,), (block,))
        hidden_CxD, targets_C, allowed_CxA, soft_C = jax.tree.map(
            lambda of_P: of_P.at[rows_C].get(mode="fill", fill_value=0),
            (hidden_PxD, targets_P, allowed_PxA, soft_P),
        )
        if soft_C is not None:
            lls_C, gradient = _of_teacher(tied, head, hidden_CxD, soft_C, cap)
        elif allowed_CxA is None:
            lls_C, gradient = _of_all(tied, head, hidden_CxD, targets_C, cap)
        else:
            lls_C, gradient = _of_allowed(tied, head, hidden_CxD, targets_C, allowed_CxA, cap)
        lls_P = lls_P.at[rows_C].set(lls_C, mode="drop")
        if with_gradient:
            gradient_CxD = gradient().astype(gradient_PxD.dtype)
            gradient_PxD = gradient_PxD.at[rows_C].set(gradient_CxD, mode="drop")
        return lls_P, gradient_PxD

    zeros = (jnp.zeros(count, jnp.float32), jnp.zeros_like(hidden_PxD) if with_gradient else None)
    needed = -(-jnp.sum(loss_mask_P) // block)
    return jax.lax.fori_loop(0, needed, sweep, zeros)


def _of_all(tied, head, hidden_CxD, targets_C, cap):
    """A block's log-likelihoods, and a function for their gradients [C, D]."""
    vocabulary = 0 if tied else 1
    capped_CxV = soft_cap.capped(_product(hidden_CxD, head, 1 - vocabulary), cap)
    logits_CxV = capped_CxV - jnp.max(capped_CxV, axis=-1, keepdims=True)
    weights_CxV = jnp.exp(logits_CxV)
    totals_C = jnp.sum(weights_CxV, axis=-1)
    chosen_C = jnp.take_along_axis(logits_CxV, targets_C[:, None], axis=-1)[:, 0]

    def gradient():
        slopes_CxV = soft_cap.slope(capped_CxV, cap)
        mean_CxD = _product((weights_CxV * slopes_CxV).astype(head.dtype), head, vocabulary)
        target_CxD = jnp.take(head, targets_C, axis=vocabulary)
        target_CxD = (target_CxD if tied else target_CxD.T).astype(jnp.float32)
        if cap is not None:
            target_CxD *= jnp.take_along_axis(slopes_CxV, targets_C[:, None], axis=-1)
        return target_CxD - mean_CxD / totals_C[:, None]

    return chosen_C - jnp.log(totals_C), gradient


def _of_teacher(tied, head, hidden_CxD, soft_C: SoftTargets, cap):
    """A block's -KL(teacher || p), and a function for their gradients [C, D].

    With S the teacher's likeliest tokens, t their probabilities and r what they leave, it is
    sum_S t log(p / t) + r log((1 - sum_S p) / r); its gradient by the logits is t - p in S, and
    (r / (1 - sum_S p) - 1) p elsewhere.
    """
    vocabulary = 0 if tied else 1
    logits_CxV = soft_cap.capped(_product(hidden_CxD, head, 1 - vocabulary), cap)
    probs_CxV = jax.nn.softmax(logits_CxV, axis=-1)
    known_CxJ = soft_C.ids >= 0
    teacher_CxJ = jnp.where(known_CxJ, jnp.exp(soft_C.log_probs), 0.0)
    log_probs_CxV = jax.nn.log_softmax(logits_CxV, axis=-1)
    own_CxJ = jnp.take_along_axis(log_probs_CxV, jnp.maximum(soft_C.ids, 0), axis=-1)
    # Indices past the end write nothing.
    place = (
        jnp.arange(len(hidden_CxD))[:, None],
        jnp.where(known_CxJ, soft_C.ids, probs_CxV.shape[1]),
    )
    others_CxV = probs_CxV.at[place].set(0.0, mode="drop")
    rest_C = jnp.maximum(1.0 - teacher_CxJ.sum(axis=1), 0.0)
    own_rest_C = jnp.maximum(others_CxV.sum(axis=1), 1e-30)
    kl_C = jnp.sum(jnp.where(known_CxJ, teacher_CxJ * (soft_C.log_probs - own_CxJ), 0.0), axis=1)
    kl_C += jax.scipy.special.xlogy(rest_C, rest_C / own_rest_C)

    def gradient():
        pull_CxV = others_CxV * (rest_C / own_rest_C - 1.0)[:, None]
        pull_CxV = pull_CxV.at[place].set(teacher_CxJ - jnp.exp(own_CxJ), mode="drop")
        pull_CxV *= soft_cap.slope(logits_CxV, cap)
        return _product(pull_CxV.astype(head.dtype), head, vocabulary)

    return -kl_C, gradient


def _of_allowed(tied, head, hidden_CxD, targets_C, allowed_CxA, cap):
    """`_of_all` renormalised over each token's allowed ones, from their rows of the head."""
    rows_CxAxD = jnp.take(head, jnp.maximum(allowed_CxA, 0), axis=0 if tied else 1)
    rows_CxAxD = rows_CxAxD if tied else jnp.moveaxis(rows_CxAxD, 0, -1)
    product = functools.partial(jnp.einsum, preferred_element_type=jnp.float32)
    logits_CxA = soft_cap.capped(product("cd,cad->ca", hidden_CxD, rows_CxAxD), cap)
    log_probs_CxA = jax.nn.log_softmax(jnp.where(allowed_CxA >= 0, logits_CxA, -jnp.inf), axis=-1)
    is_target_CxA = allowed_CxA == targets_C[:, None]
    lls_C = jnp.max(jnp.where(is_target_CxA, log_probs_CxA, -jnp.inf), axis=-1)
    pull_CxA = is_target_CxA.astype(jnp.float32) - jnp.exp(log_probs_CxA)
    pull_CxA *= soft_cap.slope(logits_CxA, cap)
    return lls_C, lambda: product("ca,cad->cd", pull_CxA, rows_CxAxD)


def _product(x_CxN, head, axis: int):
    """x times the head over the head's `axis`, in float32."""
    contracting = (((1,), (axis,)), ((), ()))
    return jax.lax.dot_general(x_CxN, head, contracting, preferred_element_type=jnp.float32)
