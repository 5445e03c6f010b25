"""Constrained decoding: only texts that a regular expression accepts, token by token.

On the host, `from_regex` turns a regular expression over bytes and a tokenizer's vocabulary into an
`Automaton`: for each state the tokens that may follow, and where each leads. On the device the
distribution of the next token is the policy's own, renormalised over what the state allows:

    p'(token | text) = p(token | text) / (sum of p(other | text) over the allowed tokens)

Sampling draws from p' (temperature, top-k and top-p are applied within the allowed tokens) and
never makes anything of the size of the vocabulary; the M-step's likelihood of a self-edit that was
drawn so is the sum of log p', by `log_likelihoods`. A text that can be cut into tokens in several
ways has that many paths; each is drawn with its own probability.

The regular expression is of the whole text, or (scope "head") of how it begins: once the head is
complete all that follows is free, drawn and scored by p, as if there were no automaton.

Dims: S states, A allowed tokens of a state (padded), B rows, T tokens, V vocabulary, P tokens of
all rows, C tokens of a block, D model width.
"""

import functools
import importlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from seal_jax.core.model import decoder

Scope = Literal["whole", "head"]

START = 0  # the state of a text without tokens
NOWHERE = -1  # the state of a text that no continuation makes an accepted one
BLOCK = 64  # tokens whose allowed rows of the output head exist at once

# Outlines-core loses a token by which a text that is accepted but for its last byte becomes one
# that is not (in "b(ab)*a" the "b" after "ba"). Where every text has to end with a mark, none is
# accepted before its end. The mark is no character, so that no text of sense holds it.
_MARK = "\U0010ffff"


class ConstraintError(ValueError):
    """A constraint that cannot be set up or kept; the message says what to change."""


class Automaton(flax.struct.PyTreeNode):
    """The tokens that may follow, state by state.

    State 0 is the start. Of scope "whole" the last state is that of a text that was ended by a stop
    token; all that follows there is the stop tokens, so that rows which have ended stay where they
    are. A stop token is allowed exactly where the text so far is accepted. Of scope "head" the last
    state is that of a complete head: it is entered with the head's last token, any token may follow
    (its row of the tables is padding), and it is never left. No head holds a stop token.

    Attributes:
      tokens_SxA: allowed tokens, ascending, padded with -1.
      next_SxA: the state that each leads to; -1 at the padding.
      scope: what the regular expression is of, the whole text or its head.
    """

    tokens_SxA: jax.Array
    next_SxA: jax.Array
    scope: Scope = flax.struct.field(pytree_node=False, default="whole")


def from_regex(
    regex: str,
    vocabulary: Mapping[bytes, Sequence[int]],
    stop_ids: Sequence[int],
    *,
    scope: Scope = "whole",
) -> Automaton:
    """Compiles a regular expression for a tokenizer (numpy arrays; place them as parameters are).

    Args:
      regex: matched against the whole text, or its head; no anchors, look-around or references
        back. Of several ways to go on, those that the vocabulary cannot spell are left out. No head
        may be how another one begins: end them with a newline that they hold nowhere else.
      vocabulary: the bytes of each token, as `weights.tokenizer.token_bytes` gives them.
      stop_ids: the tokens that may end an accepted text; those that no head may hold.
      scope: "whole" or "head".

    Raises:
      ConstraintError: no stop token, a regular expression that cannot be compiled, texts for which
        the vocabulary has no way to go on at all, or heads of which one begins another; or
        outlines-core is not installed.
    """
    if not stop_ids:
        raise ConstraintError("a constrained text needs at least one stop token to end with.")
    library = _library()
    stops = sorted(set(stop_ids))
    words = {
        piece: [token for token in ids if token not in stops]
        for piece, ids in vocabulary.items()
        if piece  # an empty token would go round in circles
    }
    mark = 1 + max((token for ids in words.values() for token in ids), default=0)
    mark = max(mark, 1 + stops[-1])
    every_byte = {bytes([byte]): [byte] for byte in range(256)}
    try:
        library.Index(regex, library.Vocabulary(256, every_byte))
    except ValueError as error:
        raise ConstraintError(
            f"The regular expression {_short(regex)} cannot be compiled: {error}. Correct it."
        ) from None
    words = {**words, _MARK.encode(): [mark]}
    try:
        index = library.Index(f"(?:{regex}){_MARK}", library.Vocabulary(stops[0], words))
    except ValueError as error:
        missing = re.search(r"missing tokens [^\[]*\[.*?\]", str(error))
        raise ConstraintError(
            f"This tokenizer cannot spell the texts of the regular expression {_short(regex)}: "
            f"{missing[0] if missing else error}. Use another tokenizer, or letters that it has."
        ) from None
    followers_of = index.get_transitions()
    marked = {state for state, followers in followers_of.items() if mark in followers}
    transitions = {
        state: {token: after for token, after in followers.items() if token != mark}
        for state, followers in followers_of.items()
    }
    first = index.get_initial_state()
    states = _useful(transitions, first, marked)
    if not states:
        raise ConstraintError(
            f"This tokenizer cannot spell a single text of the regular expression {_short(regex)}: "
            "use another tokenizer, or letters that it has."
        )
    complete = marked & states.keys()
    if scope == "head" and (first in complete or any(states[state] for state in complete)):
        raise ConstraintError(
            f"A head of the regular expression {_short(regex)} is empty or begins another one, so "
            "that its end cannot be told: let all end with a newline that they hold nowhere else."
        )
    return _tables(states, marked, stops, scope)


def _useful(
    transitions: Mapping[int, Mapping[int, int]], first: int, accepted: set[int]
) -> dict[int, dict[int, int]]:
    """What leads where, of the states on a path from the first (the first key) to an accepted one.

    Empty if there is no such path.
    """
    before: dict[int, list[int]] = {}
    for state, followers in transitions.items():
        for after in followers.values():
            before.setdefault(after, []).append(state)
    useful = _reached(accepted, before)
    if first not in useful:
        return {}
    kept = {
        state: {token: after for token, after in sorted(followers.items()) if after in useful}
        for state, followers in transitions.items()
    }
    forward = {state: followers.values() for state, followers in kept.items()}
    return {state: kept.get(state, {}) for state in _reached([first], forward)}


def _tables(
    states: Mapping[int, Mapping[int, int]], accepted: set[int], stops: list[int], scope: Scope
) -> Automaton:
    """The states as arrays; those of complete heads are one, the last."""
    kept = [state for state in states if scope == "whole" or state not in accepted]
    end = len(kept)
    numbers = {**dict.fromkeys(accepted, end), **{state: i for i, state in enumerate(kept)}}
    rows = [
        {token: numbers[after] for token, after in states[state].items()}
        | (dict.fromkeys(stops, end) if state in accepted else {})
        for state in kept
    ]
    rows.append(dict.fromkeys(stops, end) if scope == "whole" else {})
    width = max(map(len, rows))
    tokens_SxA = np.full((len(rows), width), -1, np.int32)
    next_SxA = np.full((len(rows), width), NOWHERE, np.int32)
    for number, row in enumerate(rows):
        tokens = sorted(row)
        tokens_SxA[number, : len(row)] = tokens
        next_SxA[number, : len(row)] = [row[token] for token in tokens]
    return Automaton(tokens_SxA, next_SxA, scope)  # type: ignore[arg-type]  # numpy on the host


def _reached(starts: Iterable[int], neighbours: Mapping[int, Iterable[int]]) -> dict[int, None]:
    """The states that can be reached from `starts`, these included, nearest first."""
    found: dict[int, None] = dict.fromkeys(starts)
    queue = list(found)
    for state in queue:
        for other in neighbours.get(state, ()):
            if other not in found:
                found[other] = None
                queue.append(other)
    return found


class Lengths(NamedTuple):
    """Lengths in tokens, of whole texts with the stop token; `longest` is None without a limit."""

    shortest: int
    longest: int | None


def lengths(automaton: Automaton) -> Lengths:
    """How many tokens the accepted texts, or heads, take, over all ways to cut them into tokens."""
    next_SxA = np.asarray(automaton.next_SxA)
    end = len(next_SxA) - 1
    forward = {state: set(next_SxA[state].tolist()) - {NOWHERE} for state in range(end)}
    entering = [0] * (end + 1)
    for followers in forward.values():
        for after in followers:
            entering[after] += 1
    distance = {START: 0}
    queue = [START]
    for state in queue:
        for after in forward.get(state, ()):
            if after not in distance:
                distance[after] = distance[state] + 1
                queue.append(after)
    # States in an order in which every one comes after all that lead to it; a cycle never comes.
    longest = [0] * (end + 1)
    ready = [START] if entering[START] == 0 else []
    for state in ready:
        for after in forward.get(state, ()):
            longest[after] = max(longest[after], longest[state] + 1)
            entering[after] -= 1
            if entering[after] == 0:
                ready.append(after)
    return Lengths(distance[end], longest[end] if len(ready) == end + 1 else None)


def check_limit(automaton: Automaton, max_new_tokens: int) -> None:
    """Refuses a length limit that would cut an accepted text off before its end.

    After a head one more token has to fit. Where there is no longest text or head, the shortest
    has to.

    Raises:
      ConstraintError: it is too low.
    """
    shortest, longest = lengths(automaton)
    needed = shortest if longest is None else longest
    what, rest = "text", "the stop token included"
    if automaton.scope == "head":
        needed, what, rest = needed + 1, "head", "and its text goes on"
    if max_new_tokens < needed:
        raise ConstraintError(
            f"max_new_tokens={max_new_tokens} can cut a constrained {what} off before its end: "
            f"such {what}s take {shortest} to {longest or 'any number of'} tokens, {rest}. Set "
            f"max_new_tokens to at least {needed}."
        )


def allowed_along(automaton: Automaton, tokens: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    """The tokens that were allowed in the place of each of a text's: for `restem.SftExample`.

    Returns:
      One row of the automaton's A tokens, padded with -1, for each token; of scope "head" for the
      head's tokens only, so that their number is the head's length.

    Raises:
      ConstraintError: a token is not among them.
    """
    tokens_SxA, next_SxA = np.asarray(automaton.tokens_SxA), np.asarray(automaton.next_SxA)
    rows: list[tuple[int, ...]] = []
    state = START
    end = len(tokens_SxA) - 1
    for place, token in enumerate(tokens):
        if state == end and automaton.scope == "head":
            break
        row = tokens_SxA[state].tolist()
        if token < 0 or token not in row or state == end:
            raise ConstraintError(
                f"token {place} of the text is {token}, which the constraint does not allow there: "
                "the text was not sampled under this constraint, or with another tokenizer."
            )
        rows.append(tuple(row))
        state = int(next_SxA[state, row.index(token)])
    return tuple(rows)


def allowed_logits(automaton: Automaton, states_B, logits_BxV):
    """[B, A] logits of the allowed tokens of each row's state; -inf at the padding.

    Meaningless, though finite, for rows whose head is complete.
    """
    if automaton.scope == "head":
        states_B = jnp.where(ended(automaton, states_B), START, states_B)
    tokens_BxA = jnp.asarray(automaton.tokens_SxA)[states_B]
    logits_BxA = jnp.take_along_axis(logits_BxV, jnp.maximum(tokens_BxA, 0), axis=-1)
    return jnp.where(tokens_BxA >= 0, logits_BxA, -jnp.inf)


def advance(automaton: Automaton, states_B, tokens_B):
    """The states after one more token each; NOWHERE where it was not allowed, and from there on.

    After a complete head everything is allowed.
    """
    matches_BxA = jnp.asarray(automaton.tokens_SxA)[states_B] == tokens_B[:, None]
    matches_BxA &= (states_B >= 0)[:, None]
    next_BxA = jnp.asarray(automaton.next_SxA)[states_B]
    after_B = jnp.max(jnp.where(matches_BxA, next_BxA, NOWHERE), axis=-1)
    if automaton.scope == "whole":
        return after_B
    return jnp.where(ended(automaton, states_B), states_B, after_B)


def ended(automaton: Automaton, states_B):
    """bool [B]: the text was ended by a stop token; of scope "head": the head is complete."""
    return states_B == automaton.next_SxA.shape[0] - 1


def log_likelihoods(
    config,
    params,
    tokens_BxT,
    allowed_BxTxA,
    *,
    loss_mask_BxT,
    scope: Scope = "whole",
    delta=None,
    remat: decoder.Remat = "none",
):
    """[B, T-1] float32: log p'(token t+1 | tokens ..t), as `decoder.log_likelihoods` gives log p.

    Args:
      tokens_BxT, loss_mask_BxT, delta, remat: see there.
      allowed_BxTxA: the tokens that were allowed in the place of each masked one, padded with -1. A
        masked token that is not among them has the log-likelihood -inf.
      scope: of the constraint. With "head", masked tokens for which nothing is allowed are the free
        ones: their log-likelihood is that of `decoder.log_likelihoods`, from the same forward pass.
    """
    hidden_BxTxD = decoder.hidden_states(config, params, tokens_BxT, delta=delta, remat=remat)
    targets_BxT, loss_mask_BxT = decoder.next_tokens(tokens_BxT, loss_mask_BxT)
    allowed_BxTxA = jnp.roll(allowed_BxTxA, -1, axis=1)
    free_lls_BxT = None
    if scope == "head":
        held_BxT = jnp.any(allowed_BxTxA >= 0, axis=-1)
        free_lls_BxT = decoder.log_likelihoods_of_hidden(
            config, params, hidden_BxTxD, targets_BxT, loss_mask_BxT & ~held_BxT, delta=delta
        )
        loss_mask_BxT = loss_mask_BxT & held_BxT
    head = decoder.frozen_head(config, params, delta)
    if head is not None:
        lls_BxT = _block_log_likelihoods(
            config.tie_embeddings,
            head,
            hidden_BxTxD.reshape(-1, hidden_BxTxD.shape[-1]),
            targets_BxT.reshape(-1),
            loss_mask_BxT.reshape(-1),
            allowed_BxTxA.reshape(-1, allowed_BxTxA.shape[-1]),
        ).reshape(targets_BxT.shape)
    else:  # the head itself is being trained
        logits_BxTxV = decoder.logits(config, params, hidden_BxTxD, delta=delta)
        lls_BxT = _of_logits(logits_BxTxV, targets_BxT, loss_mask_BxT, allowed_BxTxA)
    if free_lls_BxT is not None:
        lls_BxT = lls_BxT + free_lls_BxT  # each is 0 where the other is not
    return lls_BxT[:, :-1]


def _of_logits(logits_BxTxV, targets_BxT, loss_mask_BxT, allowed_BxTxA):
    """[B, T] log p' at the mask, else 0."""
    index_BxTxA = jnp.maximum(allowed_BxTxA, 0)
    logits_BxTxA = jnp.take_along_axis(logits_BxTxV, index_BxTxA, axis=-1)
    logits_BxTxA = jnp.where(allowed_BxTxA >= 0, logits_BxTxA, -jnp.inf)
    is_target_BxTxA = allowed_BxTxA == targets_BxT[..., None]
    chosen_BxT = jnp.where(is_target_BxTxA, logits_BxTxA, -jnp.inf).max(axis=-1)
    lls_BxT = chosen_BxT - jax.nn.logsumexp(logits_BxTxA, axis=-1)
    return jnp.where(loss_mask_BxT, lls_BxT, 0.0)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _block_log_likelihoods(tied: bool, head, hidden_PxD, targets_P, loss_mask_P, allowed_PxA):
    """[P] log p' at the mask, computed block by block, from the allowed rows of a frozen head."""
    return _sweep(tied, head, hidden_PxD, targets_P, loss_mask_P, allowed_PxA, with_gradient=False)[
        0
    ]


def _forward(tied, head, hidden_PxD, targets_P, loss_mask_P, allowed_PxA):
    return _sweep(tied, head, hidden_PxD, targets_P, loss_mask_P, allowed_PxA, with_gradient=True)


def _backward(tied, gradient_PxD, cotangent_P):
    gradient = cotangent_P[:, None] * gradient_PxD.astype(jnp.float32)
    return None, gradient.astype(gradient_PxD.dtype), None, None, None


_block_log_likelihoods.defvjp(_forward, _backward)


def _sweep(tied, head, hidden_PxD, targets_P, loss_mask_P, allowed_PxA, *, with_gradient: bool):
    """Log-likelihoods, and d log-likelihood / d hidden of each token: head[target] - E'[head]."""
    count = hidden_PxD.shape[0]
    # The masked tokens first; indices past the end read zeros and write nothing.
    order_P = jnp.argsort(~loss_mask_P, stable=True)
    order_P = jnp.where(jnp.arange(count) < jnp.sum(loss_mask_P), order_P, count)
    order_P = jnp.pad(order_P, (0, -count % BLOCK), constant_values=count)

    def sweep(i, carry):
        lls_P, gradient_PxD = carry
        rows_C = jax.lax.dynamic_slice(order_P, (i * BLOCK,), (BLOCK,))
        hidden_CxD = hidden_PxD.at[rows_C].get(mode="fill", fill_value=0)
        targets_C = targets_P.at[rows_C].get(mode="fill", fill_value=0)
        allowed_CxA = allowed_PxA.at[rows_C].get(mode="fill", fill_value=0)
        head_CxAxD = jnp.take(head, jnp.maximum(allowed_CxA, 0), axis=0 if tied else 1)
        head_CxAxD = head_CxAxD if tied else jnp.moveaxis(head_CxAxD, 0, -1)
        logits_CxA = jnp.einsum(
            "cd,cad->ca", hidden_CxD, head_CxAxD, preferred_element_type=jnp.float32
        )
        logits_CxA = jnp.where(allowed_CxA >= 0, logits_CxA, -jnp.inf)
        log_probs_CxA = jax.nn.log_softmax(logits_CxA, axis=-1)
        is_target_CxA = allowed_CxA == targets_C[:, None]
        lls_C = jnp.max(jnp.where(is_target_CxA, log_probs_CxA, -jnp.inf), axis=-1)
        lls_P = lls_P.at[rows_C].set(lls_C, mode="drop")
        if with_gradient:
            pull_CxA = is_target_CxA.astype(jnp.float32) - jnp.exp(log_probs_CxA)
            gradient_CxD = jnp.einsum(
                "ca,cad->cd", pull_CxA, head_CxAxD, preferred_element_type=jnp.float32
            )
            gradient_PxD = gradient_PxD.at[rows_C].set(
                gradient_CxD.astype(gradient_PxD.dtype), mode="drop"
            )
        return lls_P, gradient_PxD

    zeros = (jnp.zeros(count, jnp.float32), jnp.zeros_like(hidden_PxD) if with_gradient else None)
    needed = -(-jnp.sum(loss_mask_P) // BLOCK)
    return jax.lax.fori_loop(0, needed, sweep, zeros)


def _library() -> Any:
    try:
        return importlib.import_module("outlines_core")
    except ImportError:
        raise ConstraintError(
            "constrained sampling needs the package outlines-core: "
            "pip install 'seal_jax[constrained]'"
        ) from None


def _short(regex: str) -> str:
    return repr(regex if len(regex) <= 60 else f"{regex[:57]}...")
