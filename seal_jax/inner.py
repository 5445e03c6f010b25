"""The inner loop: fine-tuning a parameter delta on what one self-edit says (SEAL, section 3.1).

`update` is written for one candidate and mapped over K of them where it is called:

    jax.vmap(inner.update, in_axes=(None, None, 0, 0, 0, None))

(`update_candidates` is that, jitted). The base parameters are not mapped, so every base matmul is
one large product over all candidates' tokens and only the low-rank parts are batched. The schedule
is not mapped either: at each step all candidates train on their sequence of the same length rank,
so one predicate chooses the length to which the step is padded.

Dims: N sequences of a candidate, S steps, B sequences a step, T tokens.
"""

import dataclasses
import functools

import flax.struct
import jax
import jax.numpy as jnp

from seal_jax import delta as delta_lib
from seal_jax import optim
from seal_jax.delta import Delta, DeltaSpec
from seal_jax.model import decoder
from seal_jax.model.config import ModelConfig


class InnerProblem(flax.struct.PyTreeNode):
    """One candidate's training sequences, sorted by length, right-padded with anything.

    Attributes:
      tokens_NxT: token ids.
      mask_NxT: bool; true at the tokens whose loss is trained on. Position 0 is never trained on.
      num_sequences: int32 scalar; rows from there on are padding.
    """

    tokens_NxT: jax.Array
    mask_NxT: jax.Array
    num_sequences: jax.Array


class InnerHParams(flax.struct.PyTreeNode):
    """One candidate's recipe, as scalars that may differ between candidates.

    Attributes:
      learning_rate: peak learning rate.
      num_steps: optimizer steps that the candidate takes; the schedule's other steps are no-ops.
      warmup_steps: linear warm-up.
      decay: index into optim.DECAYS.
    """

    learning_rate: jax.Array
    num_steps: jax.Array
    warmup_steps: jax.Array
    decay: jax.Array


class Schedule(flax.struct.PyTreeNode):
    """The order of training, shared by a group of candidates.

    Attributes:
      ranks_SxB: which sequences (length ranks) each step trains on; -1 for none.
      buckets_S: index into `InnerSettings.buckets` of the length each step is padded to.
      num_steps: int32 scalar; how many of the S steps are run.
    """

    ranks_SxB: jax.Array
    buckets_S: jax.Array
    num_steps: jax.Array


class InnerResult(flax.struct.PyTreeNode):
    """What training did.

    Attributes:
      losses_S: mean loss of each scheduled step before its update, in nats a token; 0 where the
        candidate took no step.
      taken_S: bool; the steps that the candidate took.
      finite: bool scalar; false when a loss or the delta became NaN or infinite.
    """

    losses_S: jax.Array
    taken_S: jax.Array
    finite: jax.Array


@dataclasses.dataclass(frozen=True)
class InnerSettings:
    """What is compiled into the program.

    Attributes:
      buckets: the lengths that steps are padded to, ascending.
      optimizer: AdamW's constants.
      remat: recompute layers in the backward pass.
    """

    buckets: tuple[int, ...]
    optimizer: optim.AdamW = optim.AdamW()
    remat: bool = False


def update(
    static: tuple[ModelConfig, InnerSettings],
    params: decoder.Params,
    delta: Delta,
    problem: InnerProblem,
    hparams: InnerHParams,
    schedule: Schedule,
) -> tuple[Delta, InnerResult]:
    """Trains one candidate's delta on its sequences, one optimizer step per scheduled batch.

    Args:
      static: the model's config and the settings, both hashable.
      params: base parameters; they do not change.
      delta: the initial delta.
      problem, hparams, schedule: see their classes.

    Returns:
      The trained delta and the record of its training. A candidate that becomes non-finite stops
      there and says so; under `vmap` its neighbours are untouched.
    """
    config, settings = static
    optimizer = settings.optimizer.transform()

    def loss_at(tree, tokens_BxT, mask_BxT):
        variables = delta_lib.variables(Delta(tree, delta.spec))
        lls_BxT1 = decoder.log_likelihoods(
            config, params, tokens_BxT, delta=variables, remat=settings.remat
        )
        targets_BxT1 = mask_BxT[:, 1:].astype(jnp.float32)
        return -jnp.sum(lls_BxT1 * targets_BxT1) / jnp.maximum(jnp.sum(targets_BxT1), 1.0)

    def gradient_at(bucket: int):
        def gradient(tree, tokens_BxT, mask_BxT):
            return jax.value_and_grad(loss_at)(tree, tokens_BxT[:, :bucket], mask_BxT[:, :bucket])

        return gradient

    branches = [gradient_at(bucket) for bucket in settings.buckets]

    def step(carry):
        s, tree, opt_state, losses_S, taken_S, finite = carry
        ranks_B = schedule.ranks_SxB[s]
        present_B = (ranks_B >= 0) & (ranks_B < problem.num_sequences)
        steps_taken = jnp.sum(taken_S)
        active = present_B.any() & (steps_taken < hparams.num_steps) & finite
        tokens_BxT = problem.tokens_NxT[ranks_B]
        mask_BxT = problem.mask_NxT[ranks_B] & present_B[:, None]
        loss, gradient = jax.lax.switch(schedule.buckets_S[s], branches, tree, tokens_BxT, mask_BxT)
        direction, new_opt_state = optimizer.update(gradient, opt_state, tree)
        rate = optim.learning_rate(
            hparams.learning_rate,
            steps_taken,
            total=hparams.num_steps,
            warmup=hparams.warmup_steps,
            decay=hparams.decay,
        )
        new_tree = jax.tree.map(lambda leaf, change: leaf - rate * change, tree, direction)
        keep = functools.partial(jnp.where, active)
        tree = jax.tree.map(keep, new_tree, tree)
        opt_state = jax.tree.map(keep, new_opt_state, opt_state)
        losses_S = losses_S.at[s].set(jnp.where(active, loss, 0.0))
        taken_S = taken_S.at[s].set(active)
        finite &= jnp.isfinite(loss) | ~active
        return s + 1, tree, opt_state, losses_S, taken_S, finite

    num_steps = schedule.buckets_S.shape[0]
    carry = (
        jnp.int32(0),
        delta.tree,
        optimizer.init(delta.tree),
        jnp.zeros(num_steps, jnp.float32),
        jnp.zeros(num_steps, bool),
        jnp.bool_(True),
    )
    carry = jax.lax.while_loop(lambda carry: carry[0] < schedule.num_steps, step, carry)
    _, tree, _, losses_S, taken_S, finite = carry
    trained = Delta(tree, delta.spec)
    return trained, InnerResult(losses_S, taken_S, finite & delta_lib.is_finite(trained))


@functools.partial(jax.jit, static_argnums=0)
def update_candidates(static, params, deltas_K, problems_K, hparams_K, schedule):
    """`update` for K candidates at once: one program, one frozen base. See `update`.

    Args:
      static, params, schedule: shared by the group.
      deltas_K, problems_K, hparams_K: with a leading axis K on every leaf.

    Returns:
      K deltas and K results, with a leading axis K.
    """
    mapped = jax.vmap(functools.partial(update, static), in_axes=(None, 0, 0, 0, None))
    return mapped(params, deltas_K, problems_K, hparams_K, schedule)


@functools.partial(jax.jit, static_argnums=0)
def init_candidates(spec: DeltaSpec, params, keys_K) -> Delta:
    """K initial deltas, stacked, each from its own key. See `delta.init`."""
    return jax.vmap(lambda key: delta_lib.init(key, params, spec))(keys_K)
