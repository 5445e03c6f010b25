"""Updates of the policy that learn from worse self-edits too; ReST-EM learns from better ones only.

    advantages   what a self-edit earns beyond the others of its context; below 0 it is unlearned
    loss         RLOO and GRPO: the advantages by how much likelier each token has become since the
                 M-step's start, clipped (PPO). DPO: the best of a context against its worst

Where the self-edits were drawn from the policy that the M-step starts from, its likelihoods are
those of the ratios' denominator and of the reference at once: they are computed once, before the
first step. What top-p and a temperature other than 1 leave out of the sampling is not corrected.

Dims: C contexts, M self-edits of a context, B rows, T target tokens, P pairs of rows.
"""

import zlib
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from seal_jax.core.specs import PolicyGradient, Update

# Rewards this close are equal: means of the same accuracies in another order differ by 1e-16.
ROUNDING = 1e-9
_STD_FLOOR = 1e-4  # is added to GRPO's standard deviation, in units of the reward


def advantages(rewards_CxM, update: Update) -> np.ndarray:
    """What each self-edit earned beyond the others of its context.

    With n rewarded self-edits in the context, of mean m and standard deviation s (over n, not
    n - 1), the reward r gives

      "rloo"  r - (the mean of the n - 1 others) = (r - m) * n / (n - 1)  (Ahmadian et al., 2024)
      "grpo"  (r - m) / (s + 1e-4)                                        (Shao et al., 2024)
      "dpo"   1 for the best, -1 for the worst, the first of each; 0 for the others

    and 0 where all rewards of the context are equal (within 1e-9), or there is only one.

    Args:
      rewards_CxM: NaN where a self-edit has none: it is no part of the group.

    Returns:
      [C, M] float32, 0 where the reward is NaN.

    >>> advantages([[0.0, 1.0, 2.0, np.nan], [3.0, 3.0, 3.0, 3.0]], "rloo")
    array([[-1.5,  0. ,  1.5,  0. ],
           [ 0. ,  0. ,  0. ,  0. ]], dtype=float32)
    """
    found_CxM = np.zeros(np.shape(rewards_CxM), np.float32)
    for found_M, rewards_M in zip(found_CxM, np.asarray(rewards_CxM, np.float64), strict=True):
        valid_M = ~np.isnan(rewards_M)
        group, count = rewards_M[valid_M], valid_M.sum()
        if count < 2 or np.ptp(group) <= ROUNDING:
            continue
        centred = group - group.mean()
        centred[np.abs(centred) <= ROUNDING] = 0.0
        if update == "rloo":
            found_M[valid_M] = centred * count / (count - 1)
        elif update == "grpo":
            found_M[valid_M] = centred / (group.std() + _STD_FLOOR)
        else:
            found_M[np.nanargmax(rewards_M)], found_M[np.nanargmin(rewards_M)] = 1.0, -1.0
    return found_CxM


def shuffled(rewards_CxM, *, seed: int, names_C: Sequence[str]) -> np.ndarray:
    """[C, M] with each context's rewards dealt out anew among its rewarded self-edits (a control).

    What is drawn of a context follows from the seed and its name.
    """
    found_CxM = np.array(rewards_CxM, np.float64)
    for name, found_M in zip(names_C, found_CxM, strict=True):
        valid_M = ~np.isnan(found_M)
        draw = np.random.default_rng([seed, zlib.crc32(name.encode())])
        found_M[valid_M] = draw.permutation(found_M[valid_M])
    return found_CxM


def loss(settings: PolicyGradient, lls_BxT, start_lls_BxT, targets_BxT, advantages_B):
    """A sum over rows, what it is a mean over, and what is measured beside it.

    With r the ratio of a token's probability to that at the M-step's start, A the row's advantage,
    "rloo" and "grpo" minimise the mean over all target tokens of the batch (so that a self-edit
    counts by its length, as in ReST-EM; as in DAPO, Yu et al., 2025) of

      -min(r A, clip(r, 1 - clip_low, 1 + clip_high) A) + kl (r - 1 - log r)

    (Schulman et al., 2017). At the start, where r is 1, its gradient is that of -A log p. The last
    term is Schulman's k3 (http://joschu.net/blog/kl-approx.html) of KL(start || policy), in nats a
    token: unbiased in value and gradient, since the self-edits were drawn at the start. (GRPO's,
    of KL(policy || start), would need tokens that are drawn from the policy.)

    "dpo" (Rafailov et al., 2023) minimises the mean over pairs of

      -log sigmoid(beta * (the best's sum of log r - the worst's sum of log r))

    where sums are over a self-edit's tokens, and are not divided by their number.

    Args:
      lls_BxT, start_lls_BxT: log p of each token now, and at the M-step's start.
      targets_BxT: bool; the tokens of self-edits.
      advantages_B: 0 for padding rows. With "dpo" rows 2i and 2i + 1 are a pair, in any order: the
        one above 0 is the better one.

    Returns:
      (loss, count, measured): the sum of the loss, over how many tokens or pairs, and by the names
      of `PolicyGradient.measured` pairs of a sum and what it is a mean over: "ratio", "kl" and
      "clip_fraction" (tokens whose gradient the clip stops) of tokens; "preferred" of pairs, of
      which the better one has gained more.
    """
    advantages_Bx1 = advantages_B[:, None]
    targets_BxT &= advantages_Bx1 != 0
    logs_BxT = jnp.where(targets_BxT, lls_BxT - start_lls_BxT, 0.0)
    ratios_BxT = jnp.exp(logs_BxT)
    kls_BxT = ratios_BxT - 1 - logs_BxT
    tokens = jnp.sum(targets_BxT)
    measured = {"ratio": (jnp.sum(ratios_BxT * targets_BxT), tokens), "kl": (kls_BxT.sum(), tokens)}
    if settings.update == "dpo":
        gained_B = jnp.sign(advantages_B) * logs_BxT.sum(axis=1)
        margins_P, real_P = gained_B.reshape(-1, 2).sum(axis=1), advantages_B[::2] != 0
        losses_P = -jax.nn.log_sigmoid(settings.beta * margins_P)
        pairs = jnp.sum(real_P)
        measured["preferred"] = (jnp.sum(real_P & (margins_P > 0)), pairs)
        return jnp.sum(losses_P * real_P), pairs, measured
    gains_BxT = ratios_BxT * advantages_Bx1
    limits_BxT = jnp.clip(ratios_BxT, 1 - settings.clip_low, 1 + settings.clip_high)
    limits_BxT = jax.lax.stop_gradient(limits_BxT * advantages_Bx1)
    stopped_BxT = limits_BxT < gains_BxT
    losses_BxT = settings.kl * kls_BxT - jnp.where(stopped_BxT, limits_BxT, gains_BxT)
    measured["clip_fraction"] = (jnp.sum(stopped_BxT & targets_BxT), tokens)
    return jnp.sum(losses_BxT * targets_BxT), tokens, measured
