"""The inner loop: fine-tuning parameter deltas on what self-edits say (SEAL, section 3.1).

It is line 5 of SEAL's Algorithm 1, LM' <- SFT(LM, self-edit). `update_candidates` trains K
candidates in one program, each on its own sequences and from its own delta, as if it were alone.
One step of it:

    every candidate's sequence of the step's rank   [K*B, T] padded rows
    -> one packed row of their real tokens          [P]      every base matmul is one large product
    -> K losses, K gradients                        low-rank parts and attention on [K*B, T]
    -> K optimizer steps                            `optimizer_step`, written for one

The steps are shared: one scalar predicate chooses the shape (P, T) that a step runs at, which has
room for the sequences of all candidates.

Dims: K candidates, N sequences of a candidate, S steps, B sequences a step, T tokens.
"""

import dataclasses
import functools

import chex
import flax.struct
import jax
import jax.numpy as jnp

from seal_jax.core import delta as delta_lib
from seal_jax.core import optim, retention
from seal_jax.core.delta import Delta, DeltaSpec
from seal_jax.core.model import decoder, token_loss
from seal_jax.core.model import packing as packing_lib
from seal_jax.core.model.config import ModelConfig


class InnerProblem(flax.struct.PyTreeNode):
    """One candidate's training sequences, longest first, right-padded with anything.

    Attributes:
      tokens_NxT: token ids.
      mask_NxT: bool; true at the tokens whose loss is trained on. Position 0 is never trained on.
      lengths_N: int32; number of tokens of each sequence, 0 for rows that hold none.
      attended_N: int32; how many of them, from the first on, may be looked at; None for all.
      soft_NxT: what a teacher expects in the place of each token ([N, T, J]), whose KL divergence
        is trained on; None is the tokens themselves, by cross-entropy.
    """

    tokens_NxT: jax.Array
    mask_NxT: jax.Array
    lengths_N: jax.Array
    attended_N: jax.Array | None = None
    soft_NxT: token_loss.SoftTargets | None = None


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
    """The order of training of a group of candidates: each has its own, the steps are shared.

    Attributes:
      ranks_KxSxB: the sequences (length ranks) of each candidate at each step; -1 for none.
      shapes_S: index into `InnerSettings.shapes` of the shape that each step runs at.
      num_steps: int32 scalar; how many of the S steps are run.
    """

    ranks_KxSxB: jax.Array
    shapes_S: jax.Array
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


class Anchors(flax.struct.PyTreeNode):
    """Texts on which one candidate's predictions are held near those before the update.

    Attributes:
      tokens_AxT: token ids, right-padded.
      lengths_A: number of tokens of each; 0 for padding.
      weight: of the mean KL(before || after) of the next token, in the loss.
    """

    tokens_AxT: jax.Array
    lengths_A: jax.Array
    weight: jax.Array


class Past(flax.struct.PyTreeNode):
    """What one candidate learned before, and how the update spares it.

    Attributes:
      frozen: a low-rank delta that is in place and not trained.
      directions: input directions that the update must not read, as a tree with the place of each
        `a`: [L, in, R'], orthonormal or zero columns; None for no restriction.
      anchors: None for none.
    """

    frozen: Delta
    directions: delta_lib.Tree | None = None
    anchors: Anchors | None = None


@dataclasses.dataclass(frozen=True)
class InnerSettings:
    """What is compiled into the program.

    Attributes:
      shapes: (P, T) of steps: real tokens of all candidates, and tokens of the longest sequence,
        that it has room for (`batching.step_shapes`).
      optimizer: AdamW's constants.
      remat: what the backward pass computes anew; see `decoder.hidden_states` and `remat_at`.
    """

    shapes: tuple[tuple[int, int], ...]
    optimizer: optim.AdamW = optim.AdamW()
    remat: decoder.Remat = "none"

    def remat_at(self, config: ModelConfig, packed: int) -> decoder.Remat:
        """What a step on so many packed tokens computes anew.

        Of "full" it is "dots" for steps of which this keeps no more than "full" keeps of the
        largest one: they are faster, and the program needs no more memory.

        >>> settings = InnerSettings(shapes=((320, 80), (16384, 2048)), remat="full")
        >>> config = ModelConfig(family="qwen2", vocab_size=152064, hidden_size=3584,
        ...     intermediate_size=18944, num_layers=28, num_heads=28, num_kv_heads=4, head_dim=128)
        >>> settings.remat_at(config, 320), settings.remat_at(config, 16384)
        ('dots', 'full')
        """
        if self.remat != "full":
            return self.remat
        projected = (config.num_heads + 2 * config.num_kv_heads) * config.head_dim
        # A token's inputs of a layer and of its feed-forward part, and what its products give.
        of_dots = 3 * config.hidden_size + projected + 2 * config.intermediate_size
        most = max(packed for packed, _ in self.shapes) * config.hidden_size
        return "dots" if packed * of_dots <= most else "full"


class _Training(flax.struct.PyTreeNode):
    """One candidate in training: its delta's leaves, optimizer state and record."""

    tree: delta_lib.Tree
    opt_state: optim.State
    losses_S: jax.Array
    taken_S: jax.Array
    finite: jax.Array


def update(
    static: tuple[ModelConfig, InnerSettings],
    params: decoder.Params,
    deltas_K: Delta,
    problems_K: InnerProblem,
    hparams_K: InnerHParams,
    schedule: Schedule,
    pasts_K: Past | None = None,
) -> tuple[Delta, InnerResult]:
    """Trains K candidates' deltas on their sequences, one optimizer step per scheduled batch.

    Args:
      static: the model's config and the settings, both hashable.
      params: base parameters; they do not change.
      deltas_K: initial deltas. Dense ones are trained one at a time (K = 1).
      problems_K, hparams_K: with a leading axis K on every leaf; see their classes.
      schedule: of the whole group.
      pasts_K: what the candidates learned before, with a leading axis K on every leaf, or None.

    Returns:
      K trained deltas and K records of their training. A candidate that becomes non-finite stops
      there and says so; its neighbours are untouched.

    Raises:
      ValueError: K > 1 dense deltas.
    """
    config, settings = static
    chex.assert_rank([problems_K.tokens_NxT, schedule.ranks_KxSxB], 3)
    chex.assert_equal_shape([problems_K.tokens_NxT, problems_K.mask_NxT])
    count = schedule.ranks_KxSxB.shape[0]
    chex.assert_tree_shape_prefix((deltas_K.tree, problems_K, hparams_K, pasts_K), (count,))
    spec = deltas_K.spec
    anchors_K = None if pasts_K is None else pasts_K.anchors

    def variables(tree_K):
        """Delta variables of what is trained, beside what is frozen."""
        deltas = Delta(tree_K, spec)
        if pasts_K is not None:
            deltas = jax.vmap(lambda *both: delta_lib.concatenate(both))(pasts_K.frozen, deltas)
        return delta_lib.grouped_variables(deltas)

    def anchor_states(tokens, delta):
        """Hidden states [K, A, T, D] of the anchors' tokens [K, A, T]."""
        hidden = decoder.hidden_states(
            config, params, tokens.reshape(-1, tokens.shape[-1]), delta=delta, remat=settings.remat
        )
        return hidden.reshape(*tokens.shape, -1)

    if anchors_K is not None:
        before = anchor_states(anchors_K.tokens_AxT, variables(deltas_K.tree))

    def losses(shape, tree_K, tokens_KxBxT, loss_mask_KxBxT, lengths_KxB, attended_KxB, soft):
        """K mean losses of a batch of B sequences each; nats a token."""
        packed, padded = shape
        rows = (-1, tokens_KxBxT.shape[-1])
        lls_RxT1 = decoder.log_likelihoods(
            config,
            params,
            tokens_KxBxT.reshape(rows)[:, :padded],
            loss_mask_BxT=loss_mask_KxBxT.reshape(rows)[:, :padded],
            delta=variables(tree_K),
            packing=packing_lib.make(lengths_KxB.reshape(-1), packed=packed, padded=padded),
            attended_B=None if attended_KxB is None else attended_KxB.reshape(-1),
            soft_BxT=jax.tree.map(lambda of: of.reshape(*rows, of.shape[-1])[:, :padded], soft),
            remat=settings.remat_at(config, packed),
        )
        targets_K = loss_mask_KxBxT[..., 1:].sum(axis=(1, 2))
        sums_K = lls_RxT1.reshape(tokens_KxBxT.shape[0], -1).sum(axis=1)
        losses_K = -sums_K / jnp.maximum(targets_K, 1)
        return losses_K.sum(), losses_K  # each depends on its own delta alone

    def penalty(tree_K, anchors_K):
        """Sum of the K candidates' penalties for what changed on their anchors."""
        divergence = functools.partial(_divergence, config, params)
        after = anchor_states(anchors_K.tokens_AxT, variables(tree_K))
        return jnp.sum(anchors_K.weight * jax.vmap(divergence)(before, after, anchors_K.lengths_A))

    def gradient_at(shape):
        return jax.grad(functools.partial(losses, shape), has_aux=True)

    branches = [gradient_at(shape) for shape in settings.shapes]

    def step(carry):
        s, training_K = carry
        batch = jax.vmap(_batch_of)(problems_K, schedule.ranks_KxSxB[:, s])
        gradients_K, losses_K = jax.lax.switch(
            schedule.shapes_S[s], branches, training_K.tree, *batch
        )
        if anchors_K is not None:
            more_K = jax.grad(penalty)(training_K.tree, anchors_K)
            gradients_K = jax.tree.map(jnp.add, gradients_K, more_K)
        present_K = (batch[2] > 0).any(axis=1)
        decayed_K = jax.vmap(decayed)(training_K.tree)
        step_of_one = functools.partial(optimizer_step, settings.optimizer, s)
        training_K = jax.vmap(step_of_one)(
            training_K, gradients_K, losses_K, present_K, hparams_K, decayed_K
        )
        return s + 1, training_K.replace(tree=allowed(training_K.tree))

    def decayed(tree):
        return delta_lib.decayed(params, Delta(tree, spec))

    def allowed(tree_K):
        """Trees without what the past forbids."""
        if pasts_K is None or pasts_K.directions is None:
            return tree_K
        return jax.vmap(retention.project_out)(tree_K, pasts_K.directions)

    num_steps = schedule.shapes_S.shape[0]
    start = functools.partial(_untrained, settings.optimizer, num_steps)
    start_K = jax.vmap(start)(allowed(deltas_K.tree))
    _, training_K = jax.lax.while_loop(
        lambda carry: carry[0] < schedule.num_steps, step, (jnp.int32(0), start_K)
    )
    trained_K = Delta(training_K.tree, spec)
    finite_K = training_K.finite & jax.vmap(delta_lib.is_finite)(trained_K)
    return trained_K, InnerResult(training_K.losses_S, training_K.taken_S, finite_K)


update_candidates = jax.jit(update, static_argnums=0)


def _batch_of(problem: InnerProblem, ranks_B):
    """A candidate's sequences of these ranks: tokens and loss mask [B, T], lengths, attended [B],
    and what a teacher expects [B, T, J].

    A rank that it does not have is a row of length 0 without anything to train on.
    """
    count = problem.lengths_N.shape[0]
    lengths_B = jnp.where((ranks_B >= 0) & (ranks_B < count), problem.lengths_N[ranks_B], 0)
    loss_mask_BxT = problem.mask_NxT[ranks_B] & (lengths_B > 0)[:, None]
    attended_B = None if problem.attended_N is None else problem.attended_N[ranks_B]
    soft_BxT = jax.tree.map(lambda of: of[ranks_B], problem.soft_NxT)
    return problem.tokens_NxT[ranks_B], loss_mask_BxT, lengths_B, attended_B, soft_BxT


def _divergence(config, params, before_AxTxD, after_AxTxD, lengths_A):
    """Mean KL(before || after) of the next token over one candidate's anchors, in nats."""
    log_p, log_q = (
        jax.nn.log_softmax(decoder.logits(config, params, hidden)[..., :-1, :])
        for hidden in (jax.lax.stop_gradient(before_AxTxD), after_AxTxD)
    )
    kl_AxT1 = jnp.sum(jnp.exp(log_p) * (log_p - log_q), axis=-1)
    counted_AxT1 = jnp.arange(1, before_AxTxD.shape[1]) < lengths_A[:, None]
    return jnp.sum(jnp.where(counted_AxT1, kl_AxT1, 0.0)) / jnp.maximum(counted_AxT1.sum(), 1)


def _untrained(optimizer: optim.AdamW, num_steps: int, tree) -> _Training:
    """A candidate before its first step."""
    return _Training(
        tree=tree,
        opt_state=optim.init(optimizer, tree),
        losses_S=jnp.zeros(num_steps, jnp.float32),
        taken_S=jnp.zeros(num_steps, bool),
        finite=jnp.bool_(True),
    )


def optimizer_step(
    optimizer: optim.AdamW,
    s,
    training: _Training,
    gradient,
    loss,
    present,
    hparams: InnerHParams,
    decayed,
) -> _Training:
    """One candidate's optimizer step; nothing if it is absent, done or not finite."""
    taken = jnp.sum(training.taken_S)
    active = present & (taken < hparams.num_steps) & training.finite
    rate = optim.learning_rate(
        hparams.learning_rate,
        taken,
        total=hparams.num_steps,
        warmup=hparams.warmup_steps,
        decay=hparams.decay,
    )
    tree, opt_state = optim.apply(
        optimizer, gradient, training.opt_state, training.tree, rate, decayed
    )
    keep = functools.partial(jnp.where, active)
    return _Training(
        tree=jax.tree.map(keep, tree, training.tree),
        opt_state=jax.tree.map(keep, opt_state, training.opt_state),
        losses_S=training.losses_S.at[s].set(jnp.where(active, loss, 0.0)),
        taken_S=training.taken_S.at[s].set(active),
        finite=training.finite & (jnp.isfinite(loss) | ~active),
    )


@functools.partial(jax.jit, static_argnums=0)
def init_candidates(spec: DeltaSpec, params, keys_K) -> Delta:
    """K initial deltas, stacked, each from its own key. See `delta.init`."""
    return jax.vmap(lambda key: delta_lib.init(key, params, spec))(keys_K)
