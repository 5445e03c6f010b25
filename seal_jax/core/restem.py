"""The outer loop's mathematics: ReST-EM (Singh et al., 2024), as SEAL uses it (section 3.1).

It is line 8 of SEAL's Algorithm 1, LM <- RL update(LM, reward, self-edit), in two steps:

    E-step   of M self-edits a context, sampled from the policy (line 4) and rewarded by what they
             teach (lines 5 to 7), `select` says with what weight each is kept
    M-step   `update` maximises the log-likelihood of the kept ones, where a reward is a constant

With `MStepSettings.gradient` the weights are advantages instead, of either sign, and the M-step
minimises `policy_gradient.loss`. It is written per device shard, with its collectives behind
`axis_name`.

Dims: C contexts, M self-edits of a context, B rows of one shard, T tokens, A allowed
tokens of a constraint.
"""

import dataclasses
import functools
import math
import zlib
from collections.abc import Sequence

import chex
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from seal_jax.core import batching, constrained, optim, policy_gradient
from seal_jax.core import delta as delta_lib
from seal_jax.core.delta import Delta, DeltaSpec
from seal_jax.core.model import decoder
from seal_jax.core.model.config import ModelConfig
from seal_jax.core.specs import MStepSettings, SelectionRule, Selector

_ROUNDING = policy_gradient.ROUNDING


def select(
    rewards_CxM,
    rule: SelectionRule | Selector,
    *,
    baselines_C=None,
    lengths_CxM=None,
    seed: int = 0,
    names_C: Sequence[str] | None = None,
) -> np.ndarray:
    """E-step: weights of the self-edits, 0 for dropped ones.

    Args:
      rewards_CxM: rewards; NaN where a self-edit has none, which is never kept.
      rule: see SelectionRule; ties are broken by the first index. Or a function, see Selector.
      baselines_C: each context's reward without an edit; for "threshold" and "positive_only".
        [C, M] where each self-edit has its own. Nothing exceeds a baseline of NaN.
      lengths_CxM: for "longest", in any unit.
      seed, names_C: for "random": what is drawn of a context follows from the seed and its name (or
        its place), whatever other contexts there are.

    Returns:
      [C, M] float32: 1 for kept ones; with the rule "weighted", shares that sum to 1 within a
      context (or to 0, where no self-edit has a reward); or what the function gives.

    Raises:
      ValueError: the rule needs what is not given, or the function's weights cannot be used.

    >>> select(np.array([[0.2, 0.6, 0.6], [0.0, np.nan, np.nan]]), SelectionRule("best_of_m"))
    array([[0., 1., 0.],
           [1., 0., 0.]], dtype=float32)
    """
    rewards_CxM = np.asarray(rewards_CxM, np.float64)
    chex.assert_rank(rewards_CxM, 2)
    if not isinstance(rule, SelectionRule):
        return _weights_of(rule, rewards_CxM, baselines_C, lengths_CxM)
    valid_CxM = ~np.isnan(rewards_CxM)
    if rule.name == "all":
        kept_CxM = valid_CxM
    elif rule.name == "weighted":
        return _shares(rewards_CxM, rule.temperature)
    elif rule.name in ("threshold", "positive_only"):
        if baselines_C is None:
            raise ValueError(f"the selection rule {rule.name!r} needs baselines_C.")
        baselines = np.asarray(baselines_C, np.float64)
        gains_CxM = rewards_CxM - (baselines[:, None] if baselines.ndim == 1 else baselines)
        least = rule.threshold if rule.name == "threshold" else 0.0
        kept_CxM = np.where(np.isnan(gains_CxM), -np.inf, gains_CxM) > least + _ROUNDING
    else:
        if rule.name == "random":
            names = names_C or [str(c) for c in range(len(rewards_CxM))]
            numbers = [zlib.crc32(name.encode()) for name in names]
            drawn = [np.random.default_rng([seed, n]).random(rewards_CxM.shape[1]) for n in numbers]
            scores_CxM = np.reshape(drawn, rewards_CxM.shape)
        elif rule.name == "longest":
            if lengths_CxM is None:
                raise ValueError("the selection rule 'longest' needs lengths_CxM.")
            scores_CxM = np.asarray(lengths_CxM, np.float64)
        else:
            scores_CxM = np.round(rewards_CxM / _ROUNDING)
        count = rule.k if rule.name == "top_k" else 1
        scores_CxM = np.where(valid_CxM, scores_CxM, 0.0)
        order_CxM = np.lexsort((-scores_CxM, ~valid_CxM), axis=1)  # stable: ties by index
        kept_CxM = np.zeros(rewards_CxM.shape, bool)
        np.put_along_axis(kept_CxM, order_CxM[:, :count], True, axis=1)
        kept_CxM &= valid_CxM
    return kept_CxM.astype(np.float32)


def _weights_of(selector: Selector, rewards_CxM, baselines_C, lengths_CxM) -> np.ndarray:
    """The checked weights that a function gives."""
    name = getattr(selector, "__name__", repr(selector))
    if baselines_C is None or lengths_CxM is None:
        raise ValueError(f"the selection function {name} needs baselines_C and lengths_CxM.")
    given = (np.array(of, np.float64) for of in (rewards_CxM, baselines_C, lengths_CxM))
    returned = selector(*given)
    try:
        weights_CxM = np.asarray(returned, np.float32)
    except (TypeError, ValueError):
        weights_CxM = np.empty(0, np.float32)
    impossible = ~((weights_CxM >= 0) & np.isfinite(weights_CxM))
    if weights_CxM.shape != rewards_CxM.shape:
        shape = f", of shape {weights_CxM.shape}" if weights_CxM.size else ""
        wrong = f"it gave {type(returned).__name__}{shape}"
    elif impossible.any():
        wrong = f"one is {weights_CxM[impossible][0]}"
    elif weights_CxM[np.isnan(rewards_CxM)].any():
        wrong = "a self-edit without a reward has a weight"
    else:
        return weights_CxM
    raise ValueError(
        f"the selection function {name} must give an array {rewards_CxM.shape} of finite weights, "
        f"0 or more, and 0 where a reward is NaN: {wrong}."
    )


def _shares(rewards_CxM: np.ndarray, temperature: float) -> np.ndarray:
    """Softmax of each context's rewards; 0 for NaN."""
    filled_CxM = np.where(np.isnan(rewards_CxM), -np.inf, rewards_CxM)
    best_Cx1 = filled_CxM.max(axis=1, keepdims=True, initial=-np.inf)
    relative_CxM = filled_CxM - np.where(np.isfinite(best_Cx1), best_Cx1, 0.0)
    weights_CxM = np.exp(relative_CxM / temperature)
    sums_Cx1 = weights_CxM.sum(axis=1, keepdims=True)
    return (weights_CxM / np.where(sums_Cx1 > 0, sums_Cx1, 1.0)).astype(np.float32)


class Batch(flax.struct.PyTreeNode):
    """Rows "prompt, self-edit, end of sequence", right-padded.

    A self-edit that was cut at the length limit has no end of sequence: it did not end there.

    Attributes:
      tokens_BxT: token ids.
      mask_BxT: bool; true at the self-edit's tokens and its end of sequence.
      weights_B: E-step weights, or advantages, relative to the mean size of all examples'; 0 for
        padding rows.
      allowed_BxTxA: None, or for self-edits that were sampled under a constraint the tokens that
        were allowed in the place of each of theirs, padded with -1: the likelihood is then that of
        the policy under the constraint, from which they were drawn.
      scope: of the constraint. With "head" tokens for which nothing is allowed were drawn freely:
        their likelihood is the policy's own.
      start_lls_BxT: None, or for a policy gradient each token's log-likelihood at the M-step's
        start.
    """

    tokens_BxT: jax.Array
    mask_BxT: jax.Array
    weights_B: jax.Array
    allowed_BxTxA: jax.Array | None = None
    scope: constrained.Scope = flax.struct.field(pytree_node=False, default="whole")
    start_lls_BxT: jax.Array | None = None


class MStepState(flax.struct.PyTreeNode):
    """State of one M-step: the policy's delta, the optimizer's moments, steps taken."""

    delta: Delta
    opt_state: tuple
    step: jax.Array


def init(key, params, spec: DeltaSpec, settings: MStepSettings) -> MStepState:
    """A fresh state whose delta changes nothing."""
    delta = delta_lib.init(key, params, spec)
    opt_state = optim.init(settings.optimizer, delta.tree)
    return MStepState(delta=delta, opt_state=opt_state, step=jnp.int32(0))


def gradient(static, params, delta: Delta, batch: Batch, axis_name: str | None):
    """Loss and raw gradient of one batch, spread over `axis_name`.

    The loss is the weighted mean over all target tokens of all shards. The gradient is that of the
    weighted sum, divided by the number of tokens and not by what they weigh: a heavier batch moves
    the policy further. Sums are taken over the axis before they are divided, so shards may hold
    unequal weights, or nothing at all. With `MStepSettings.gradient` both are those of
    `policy_gradient.loss`, a mean over tokens or pairs.

    Returns:
      (what was measured, gradient tree, mean size of a token's weight), the same on every shard.
      Measured are "loss" (of ReST-EM in nats a token), and for a policy gradient also what its loss
      measures and "log_likelihoods", [B, T-1] of the rows of all shards, before the step.
    """
    config, settings = static
    how = settings.gradient
    chex.assert_rank(batch.tokens_BxT, 2)
    chex.assert_equal_shape([batch.tokens_BxT, batch.mask_BxT])
    rows = batch.weights_B.shape[0]
    chex.assert_rank(batch.weights_B, 1)
    chex.assert_tree_shape_prefix(batch, (rows,))
    if rows % settings.microbatch:
        raise ValueError(f"{rows} rows a device do not divide by microbatch={settings.microbatch}.")
    micro = jax.tree.map(lambda leaf: leaf.reshape(-1, settings.microbatch, *leaf.shape[1:]), batch)

    def weighted_loss(tree, part: Batch):
        variables = delta_lib.variables(Delta(tree, delta.spec))
        log_likelihoods = decoder.log_likelihoods
        if part.allowed_BxTxA is not None:
            log_likelihoods = functools.partial(
                constrained.log_likelihoods, allowed_BxTxA=part.allowed_BxTxA, scope=part.scope
            )
        lls_BxT1 = log_likelihoods(
            config,
            params,
            part.tokens_BxT,
            loss_mask_BxT=part.mask_BxT & (part.weights_B != 0)[:, None],
            delta=variables,
            remat=settings.remat,
        )
        targets_BxT1 = part.mask_BxT[:, 1:] * part.weights_B[:, None]
        weight = jnp.sum(jnp.abs(targets_BxT1))
        tokens = jnp.sum(targets_BxT1 != 0, dtype=jnp.float32)
        if how is None:
            loss = -jnp.sum(lls_BxT1 * targets_BxT1)
            return loss, ((weight, tokens, tokens, {"loss": (loss, weight)}), None)
        starts_BxT1 = jnp.asarray(part.start_lls_BxT)[:, 1:]
        loss, count, measured = policy_gradient.loss(
            how, lls_BxT1, starts_BxT1, part.mask_BxT[:, 1:], part.weights_B
        )
        return loss, ((weight, tokens, count, {"loss": (loss, count), **measured}), lls_BxT1)

    def add(sums, part):
        grad, (counts, lls_BxT1) = jax.grad(weighted_loss, has_aux=True)(delta.tree, part)
        return jax.tree.map(jnp.add, sums, (counts, grad)), lls_BxT1

    zero = jnp.float32(0)
    names = ("loss", *(how.measured if how else ()))
    zeros = (zero, zero, zero, dict.fromkeys(names, (zero, zero)))
    sums, lls = jax.lax.scan(add, (zeros, jax.tree.map(jnp.zeros_like, delta.tree)), micro)
    if axis_name is not None:
        sums, lls = jax.lax.psum(sums, axis_name), jax.lax.all_gather(lls, axis_name)
    (weight, tokens, count, sums_of), grad = sums
    grad = jax.tree.map(lambda leaf: leaf / jnp.maximum(count, 1.0), grad)
    measured = {name: of / jnp.maximum(over, 1e-30) for name, (of, over) in sums_of.items()}
    if how is not None:
        measured["log_likelihoods"] = lls.reshape(-1, lls.shape[-1])
    return measured, grad, weight / jnp.maximum(tokens, 1.0)


def update(
    static: tuple[ModelConfig, MStepSettings],
    params: decoder.Params,
    state: MStepState,
    batch: Batch,
    total_steps,
    axis_name: str | None = None,
) -> tuple[MStepState, dict[str, jax.Array]]:
    """M-step: one optimizer step on the kept self-edits, per device shard.

    Args:
      static: the model's config and the settings, both hashable.
      params: the policy that the M-step starts from; it does not change.
      state: replicated over `axis_name`.
      batch: this shard's rows.
      total_steps: int32 scalar; the length of the whole M-step, for the schedule.
      axis_name: the mapped axis that the batch is spread over, or None.

    Returns:
      The new state, and the metrics `MStepSettings.metrics` with what else `gradient` measures,
      equal on every shard.
    """
    _, settings = static
    # M-step, 1: the gradient of the weighted mean log-likelihood over all shards.
    measured, grad, weight = gradient(static, params, state.delta, batch, axis_name)
    # M-step, 2: one step of the optimizer along it, at this step's learning rate. AdamW's steps may
    # be of full length however small the gradient: those of a light batch are shortened.
    rate = jnp.minimum(weight, 1.0) * optim.learning_rate(
        settings.learning_rate,
        state.step,
        total=total_steps,
        warmup=settings.warmup_steps,
        decay=optim.DECAYS.index(settings.decay),
    )
    tree, opt_state = optim.apply(
        settings.optimizer,
        grad,
        state.opt_state,
        state.delta.tree,
        rate,
        delta_lib.decayed(params, state.delta),
    )
    norm = jnp.sqrt(sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(grad)))
    metrics = measured | {"grad_norm": norm, "learning_rate": rate}
    delta = Delta(tree, state.delta.spec)
    return MStepState(delta=delta, opt_state=opt_state, step=state.step + 1), metrics


@dataclasses.dataclass(frozen=True)
class SftExample:
    """One kept self-edit as tokens: the loss is on those after the prompt.

    Attributes:
      weight: of the E-step; for a policy gradient the advantage, which may be below 0.
      allowed: None, or where the self-edit was sampled under a constraint what its tokens were
        chosen from, as `constrained.allowed_along` gives it: one row for each, or for each of its
        head.
      scope: of that constraint; with "head" the tokens after the first len(allowed) were free.
      start_lls: for a policy gradient, its tokens' log-likelihoods at the M-step's start; () until
        they are known.
    """

    tokens: tuple[int, ...]
    prompt_length: int
    weight: float = 1.0
    allowed: tuple[tuple[int, ...], ...] | None = None
    scope: constrained.Scope = "whole"
    start_lls: tuple[float, ...] | None = None


def epoch_batches(
    examples: list[SftExample],
    *,
    batch_size: int,
    multiple: int,
    buckets: Sequence[int],
    order: np.ndarray,
) -> list[Batch]:
    """One epoch of batches on the host; those of weight 0 are dropped, padding rows weigh 0.

    Weights are taken relative to their mean size over the target tokens of all examples, so that
    only relative ones count, across batches too.

    Args:
      examples: kept self-edits.
      batch_size: effective batch over all devices.
      multiple: what a batch's rows are padded to a multiple of (devices x microbatch).
      buckets: T is the first that holds the longest example of a batch.
      order: a permutation of the examples whose weight is not 0.

    Raises:
      TooLong: an example exceeds the last bucket.
      ValueError: examples with and without a constraint, of constraints that are padded otherwise,
        or of whole texts and of heads.

    >>> example = SftExample(tokens=(1, 2, 3), prompt_length=1)
    >>> batches = epoch_batches([example] * 3, batch_size=2, multiple=2, buckets=(4, 8),
    ...                         order=np.arange(3))
    >>> [batch.weights_B.tolist() for batch in batches]
    [[1.0, 1.0], [1.0, 0.0]]
    """
    examples = [example for example in examples if example.weight != 0]
    weights = _relative_weights(examples)
    width = _allowed_width(examples)
    scope = "whole" if width is None else examples[0].scope
    started = any(example.start_lls is not None for example in examples)
    batches = []
    for first in range(0, len(examples), batch_size):
        places = order[first : first + batch_size]
        chosen = [examples[i] for i in places]
        count = math.ceil(len(chosen) / multiple) * multiple
        longest = max(len(example.tokens) for example in chosen)
        length = buckets[batching.bucket_index(longest, buckets)]
        tokens_BxT = np.zeros((count, length), np.int32)
        mask_BxT = np.zeros((count, length), bool)
        weights_B = np.zeros(count, np.float32)
        allowed_BxTxA = None if width is None else np.full((count, length, width), -1, np.int32)
        start_lls_BxT = np.zeros((count, length), np.float32) if started else None
        for i, example in enumerate(chosen):
            tokens_BxT[i, : len(example.tokens)] = example.tokens
            mask_BxT[i, example.prompt_length : len(example.tokens)] = True
            weights_B[i] = weights[places[i]]
            if allowed_BxTxA is not None and example.allowed:
                end = example.prompt_length + len(example.allowed)
                allowed_BxTxA[i, example.prompt_length : end] = example.allowed
            if start_lls_BxT is not None:
                end = example.prompt_length + len(example.start_lls or ())
                start_lls_BxT[i, example.prompt_length : end] = example.start_lls
        batches.append(Batch(tokens_BxT, mask_BxT, weights_B, allowed_BxTxA, scope, start_lls_BxT))
    return batches


def _relative_weights(examples: list[SftExample]) -> np.ndarray:
    """Weights whose mean size over all target tokens is 1; exactly 1 where they are equal."""
    weights = np.array([example.weight for example in examples], np.float64)
    targets = [len(example.tokens) - example.prompt_length for example in examples]
    weights /= np.abs(weights).max(initial=0.0) or 1.0
    return weights / (np.average(np.abs(weights), weights=targets) if sum(targets) else 1.0)


def _allowed_width(examples: list[SftExample]) -> int | None:
    """A of all examples, or None where none was sampled under a constraint."""
    free = [example.allowed is None for example in examples]
    if all(free):
        return None
    widths = {len(allowed) for example in examples for allowed in example.allowed or ()}
    if any(free) or len(widths) > 1 or len({example.scope for example in examples}) > 1:
        raise ValueError(
            "the examples of an M-step must all have been sampled under one constraint."
        )
    for example in examples:
        count, given = len(example.tokens) - example.prompt_length, len(example.allowed or ())
        if given != count and example.scope == "whole":
            raise ValueError(
                "an example's allowed tokens must be given for each token after its prompt."
            )
        if not 0 < given <= count and example.scope == "head":
            raise ValueError(
                "an example's allowed tokens must be given for its head, one row a token."
            )
    return widths.pop() if widths else 1
