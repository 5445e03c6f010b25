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

Dims: S states, A allowed tokens of a state (padded), B rows, T tokens, V vocabulary, D model width.
"""

import functools
import graphlib
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
    after = {state: set(next_SxA[state].tolist()) - {NOWHERE} for state in range(end)}
    reached, shortest = {START}, 0
    while end not in reached:
        reached, shortest = set().union(*(after[state] for state in reached)), shortest + 1
    longest: dict[int, int] = {}  # from each state
    try:
        for state in graphlib.TopologicalSorter(after).static_order():  # what follows comes first
            longest[state] = max((longest[other] + 1 for other in after.get(state, ())), default=0)
    except graphlib.CycleError:
        return Lengths(shortest, None)
    return Lengths(shortest, longest[START])


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
    of = functools.partial(
        decoder.log_likelihoods_of_hidden, config, params, hidden_BxTxD, targets_BxT, delta=delta
    )
    held_BxT = jnp.any(allowed_BxTxA >= 0, axis=-1) if scope == "head" else True
    lls_BxT = of(loss_mask_BxT & held_BxT, allowed=allowed_BxTxA)
    if scope == "head":
        lls_BxT = lls_BxT + of(loss_mask_BxT & ~held_BxT)  # each is 0 where the other is not
    return lls_BxT[:, :-1]


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
