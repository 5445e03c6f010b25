"""Batched sampling with a key/value cache: prompts in, token ids out.

All rows advance together in a loop with one scalar stop predicate; finished rows emit nothing. A
step reads the whole cache, so where texts may be long the loop is several, and the cache grows
from one to the next (`stages`).
Row r's token at position t is drawn with `fold_in(keys[r], t)`, so a row's text does not depend on
its neighbours. With an automaton (see `constrained`) only texts, or texts with heads, that it
accepts are written; rows may be in their heads while others are past them.

Dims: P prompts, B rows (P times samples per prompt), T prompt tokens, N new tokens, V vocabulary,
A allowed tokens of an automaton's state.
"""

import functools

import chex
import flax.struct
import jax
import jax.numpy as jnp

from seal_jax.core import constrained
from seal_jax.core.model import decoder
from seal_jax.core.model.config import ModelConfig
from seal_jax.core.specs import SampleSettings


class Samples(flax.struct.PyTreeNode):
    """What was written.

    Attributes:
      tokens_BxN: new tokens; what lies past a row's length means nothing.
      lengths_B: number of tokens written, the stop token included.
      stopped_B: bool; the row ended with a stop token rather than at the limit.
    """

    tokens_BxN: jax.Array
    lengths_B: jax.Array
    stopped_B: jax.Array


LEAST_SLOTS = 1024  # of a cache that grows


def stages(first_slot: int, limit: int) -> tuple[int, ...]:
    """How many new tokens have been written at the end of each loop, the last of which is `limit`.

    Args:
      first_slot: tokens of a prompt.

    >>> stages(512, 8192), stages(512, 1024)
    ((576, 1664, 3840, 8192), (1024,))
    """
    ends, slots = [limit], (first_slot + limit) // 2
    while slots >= max(LEAST_SLOTS, first_slot + 1):
        ends.append(slots - first_slot)
        slots //= 2
    return tuple(reversed(ends))


def generate(
    static: tuple[ModelConfig, SampleSettings],
    params: decoder.Params,
    prompts_PxT,
    lengths_P,
    keys_B,
    *,
    delta=None,
    samples_per_prompt: int = 1,
    automaton: constrained.Automaton | None = None,
) -> Samples:
    """Continues prompts; each prompt is prefilled once, however many samples it has.

    Args:
      static: the model's config and the settings, both hashable.
      params: policy parameters.
      prompts_PxT: right-aligned prompts; lengths_P their true lengths. A prompt of length 0 is
        padding: its rows write nothing.
      keys_B: a PRNG key per row (row r continues prompt r // samples_per_prompt).
      delta: None, or grouped delta variables: row r belongs to candidate r // (B / K).
      samples_per_prompt: B / P.
      automaton: None, or what every row has to keep to: tokens are drawn from the policy's
        distribution renormalised over the allowed ones, and the automaton's stop tokens, not the
        settings', end a row. A row that reaches the limit first is a text cut off
        (`constrained.check_limit` says what limit suffices). Of scope "head", a row past its head
        is drawn and ended as without an automaton.
    """
    config, settings = static
    chex.assert_rank(prompts_PxT, 2)
    chex.assert_shape(lengths_P, (prompts_PxT.shape[0],))
    chex.assert_shape(keys_B, (prompts_PxT.shape[0] * samples_per_prompt,))
    first_slot = prompts_PxT.shape[1]
    ends = stages(first_slot, settings.max_new_tokens)
    logits_PxV, cache = decoder.prefill(
        config, params, prompts_PxT, lengths_P, first_slot + ends[0], delta=delta
    )
    repeat = functools.partial(jnp.repeat, repeats=samples_per_prompt, axis=0)
    logits_BxV, cache = jax.tree.map(repeat, (logits_PxV, cache))
    layers = decoder.split_layers(config, params)
    deltas = decoder.split_layers(config, delta)
    stop_ids = jnp.asarray(settings.stop_ids, jnp.int32)

    def draw(logits_BxV, states_B, keys_now_B):
        """The next tokens, the states after them, and whether they end their rows."""
        if automaton is None or automaton.scope == "head":
            free_B = choose(logits_BxV, keys_now_B, settings)
            stops_B = (free_B[:, None] == stop_ids).any(axis=1)
        if automaton is None:
            return free_B, states_B, stops_B
        logits_BxA = constrained.allowed_logits(automaton, states_B, logits_BxV)
        tokens_B = automaton.tokens_SxA[states_B, choose(logits_BxA, keys_now_B, settings)]
        after_B = constrained.advance(automaton, states_B, tokens_B)
        if automaton.scope == "whole":
            return tokens_B, after_B, constrained.ended(automaton, after_B)
        past_head_B = constrained.ended(automaton, states_B)
        return jnp.where(past_head_B, free_B, tokens_B), after_B, stops_B & past_head_B

    def write(t, logits_BxV, states_B, tokens_BxN, lengths_B, done_B):
        keys_now_B = jax.vmap(jax.random.fold_in, (0, None))(keys_B, t)
        tokens_B, states_B, stops_B = draw(logits_BxV, states_B, keys_now_B)
        tokens_BxN = tokens_BxN.at[:, t].set(jnp.where(done_B, 0, tokens_B))
        lengths_B = lengths_B + ~done_B
        return tokens_B, states_B, tokens_BxN, lengths_B, stops_B & ~done_B

    def step(carry):
        t, tokens_B, states_B, tokens_BxN, lengths_B, stopped_B, done_B, cache = carry
        slot = first_slot + t - 1
        logits_BxV, cache = decoder.decode_step(
            config, params, layers, tokens_B, slot, cache, delta=delta, deltas=deltas
        )
        tokens_B, states_B, tokens_BxN, lengths_B, stops_B = write(
            t, logits_BxV, states_B, tokens_BxN, lengths_B, done_B
        )
        t, stopped_B, done_B = t + 1, stopped_B | stops_B, done_B | stops_B
        return t, tokens_B, states_B, tokens_BxN, lengths_B, stopped_B, done_B, cache

    num_rows = logits_BxV.shape[0]
    tokens_BxN = jnp.zeros((num_rows, settings.max_new_tokens), jnp.int32)
    lengths_B = jnp.zeros(num_rows, jnp.int32)
    done_B = repeat(lengths_P) == 0
    states_B = None if automaton is None else jnp.full(num_rows, constrained.START, jnp.int32)
    tokens_B, states_B, tokens_BxN, lengths_B, stopped_B = write(
        0, logits_BxV, states_B, tokens_BxN, lengths_B, done_B
    )
    done_B = done_B | stopped_B
    carry = (jnp.int32(1), tokens_B, states_B, tokens_BxN, lengths_B, stopped_B, done_B, cache)

    def unfinished(end, carry):
        return (carry[0] < end) & ~carry[6].all()

    for end in ends:
        carry = (*carry[:-1], carry[-1].grown(config, first_slot + end))
        carry = jax.lax.while_loop(functools.partial(unfinished, end), step, carry)
    return Samples(tokens_BxN=carry[3], lengths_B=carry[4], stopped_B=carry[5])


generate_jit = jax.jit(generate, static_argnums=0, static_argnames="samples_per_prompt")


def choose(logits_BxV, keys_B, settings: SampleSettings):
    """The next token of each row: the argmax, or one draw from the truncated distribution."""
    if settings.temperature == 0:
        return jnp.argmax(logits_BxV, axis=-1).astype(jnp.int32)
    probs_BxV = truncate(logits_BxV, settings)
    cumulative_BxV = jnp.cumsum(probs_BxV, axis=-1)
    uniform_B = jax.vmap(lambda key: jax.random.uniform(key))(keys_B)
    reach_Bx1 = (uniform_B * cumulative_BxV[:, -1])[:, None]
    # A prefix sum in float32 may step down by an ulp, so a token of probability 0 is ruled out; and
    # rounding may leave nothing above: the draw is then the last token that is kept.
    kept_BxV = probs_BxV > 0
    above_BxV = (cumulative_BxV > reach_Bx1) & kept_BxV
    last_B = kept_BxV.shape[-1] - 1 - jnp.argmax(kept_BxV[:, ::-1], axis=-1)
    drawn_B = jnp.where(above_BxV.any(axis=-1), jnp.argmax(above_BxV, axis=-1), last_B)
    return drawn_B.astype(jnp.int32)


def truncate(logits_BxV, settings: SampleSettings):
    """Unnormalised probabilities [B, V] after temperature, top-k and top-p, in that order.

    Both cuts keep every token at least as probable as a threshold, so tokens of equal probability
    stay or go together. The thresholds are exact: they are found digit by digit of the bits of a
    non-negative float32, whose order is that of the numbers.
    """
    logits_BxV = logits_BxV.astype(jnp.float32)
    # The largest is 0 before the division: divided first, it would leave its own rounding error,
    # which is everything at a low temperature. (The compiler multiplies by the inverse: not inf.)
    logits_BxV = logits_BxV - jnp.max(logits_BxV, axis=-1, keepdims=True)
    probs_BxV = jax.nn.softmax(logits_BxV / max(settings.temperature, 1e-30), axis=-1)
    if settings.top_k:
        probs_BxV = _keep(probs_BxV, lambda kept_BxTxV: kept_BxTxV.sum(-1) >= settings.top_k)
    if settings.top_p < 1:
        goal_B = settings.top_p * probs_BxV.sum(-1)
        probs_BxV = _keep(
            probs_BxV,
            lambda kept_BxTxV: (
                jnp.where(kept_BxTxV, probs_BxV[:, None], 0).sum(-1) >= goal_B[:, None]
            ),
        )
    return probs_BxV


def _keep(probs_BxV, enough):
    """Zeroes what lies below the highest threshold at which enough is kept.

    Args:
      enough: bool [B, T] of what T thresholds keep, bool [B, T, V].
    """
    # A pass reads the vocabulary once. Accelerators wait for that and for its start; a CPU for the
    # comparisons.
    low_B = jax.lax.platform_dependent(
        probs_BxV,
        cpu=functools.partial(highest_threshold, enough=enough, digit=1),
        default=functools.partial(highest_threshold, enough=enough, digit=4),
    )
    return jnp.where(probs_BxV >= low_B[:, None], probs_BxV, 0.0)


def highest_threshold(probs_BxV, enough, digit: int):
    """[B] the highest number that, as a threshold, keeps enough; 0 if none does.

    Args:
      enough: see `_keep`.
      digit: how many of its bits a pass over the vocabulary finds, with 2^digit - 1 thresholds.
    """
    bits = 30  # of the numbers below 2

    def of_bits(bits):
        return jax.lax.bitcast_convert_type(bits, jnp.float32)

    def find_digit(place, low_B):
        unit = jnp.left_shift(1, jnp.maximum(bits - digit * (place + 1), 0))
        tried_BxT = low_B[:, None] + unit * jnp.arange(1, 2**digit)
        good_BxT = enough(probs_BxV[:, None] >= of_bits(tried_BxT)[..., None])
        return low_B + unit * good_BxT.sum(-1, dtype=jnp.int32)

    low_B = jnp.zeros(probs_BxV.shape[0], jnp.int32)
    return of_bits(jax.lax.fori_loop(0, -(-bits // digit), find_digit, low_B))
