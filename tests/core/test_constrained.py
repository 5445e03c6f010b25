"""Automata against Python's regular expressions, and p' against the whole vocabulary by force."""

import itertools
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import regex
import scipy.special

from seal_jax.core import constrained, sampling
from seal_jax.core.constrained import NOWHERE, START, ConstraintError
from seal_jax.core.delta import DeltaSpec, variables
from seal_jax.core.model import decoder
from seal_jax.core.model.config import ModelConfig
from seal_jax.core.sampling import SampleSettings

advance = jax.jit(constrained.advance)
allowed_logits = jax.jit(constrained.allowed_logits)

# Tokens of one letter, of several, two of the same bytes, and halves of a letter of UTF-8.
SMALL = {b"a": [3], b"b": [5], b"ab": [7, 2], b"bb": [6], b"\xc3": [8], b"\xa9": [1]}
STOPS = (9, 4)
PIECES = {token: piece for piece, tokens in SMALL.items() for token in tokens}


def _automaton(pattern):
    return constrained.from_regex(pattern, SMALL, STOPS)


def _text(tokens):
    return b"".join(PIECES[token] for token in tokens)


def test_the_tables_literal():
    """Start: ab (two tokens) or a; after a: b, or the end; after ab: the end."""
    automaton = _automaton("ab|a")
    np.testing.assert_array_equal(
        automaton.tokens_SxA, [[2, 3, 7], [4, 9, -1], [4, 5, 9], [4, 9, -1]]
    )
    np.testing.assert_array_equal(
        automaton.next_SxA, [[1, 2, 1], [3, 3, -1], [3, 1, 3], [3, 3, -1]]
    )
    assert constrained.lengths(automaton) == (2, 3)


@pytest.mark.parametrize(
    "pattern",
    ["ab|a", "a(b|ab)*", "(ab|a)b{2,3}", "(a|b)*ab", "a?b?a?", "é|ab", "(éa)+", "", "(a+b|b+a)b?"],
)
def test_states_equal_a_regular_expression_on_all_texts(pattern):
    """All 4,681 texts of up to four of the eight tokens, in one walk."""
    automaton = _automaton(pattern)
    texts = [text for n in range(5) for text in itertools.product(sorted(PIECES), repeat=n)]
    padded = np.array([(*text, *[-1] * (4 - len(text))) for text in texts])
    states = np.full(len(texts), START, np.int32)
    for place in range(4):
        after = advance(automaton, states, padded[:, place])
        states = np.where(padded[:, place] >= 0, after, states)
    stopped = {stop: advance(automaton, states, np.full(len(texts), stop)) for stop in STOPS}
    ended = {stop: np.asarray(constrained.ended(automaton, stopped[stop])) for stop in STOPS}
    compiled = regex.compile(pattern.encode())
    accepted = 0
    for row, text in enumerate(texts):
        joined = _text(text)
        whole = compiled.fullmatch(joined) is not None
        accepted += whole
        assert ended[4][row] == ended[9][row] == whole
        # Beyond a text that can be continued there is a state; beyond others nothing.
        begun = compiled.fullmatch(joined, partial=True) is not None
        assert (states[row] != NOWHERE) == begun
        assert not constrained.ended(automaton, states)[row]
    assert accepted >= 1


def test_nothing_follows_where_a_token_was_not_allowed():
    automaton = _automaton("ab")
    states = advance(automaton, np.array([0, 0, 0, -1, -1]), np.array([3, 5, -1, 3, 4]))
    np.testing.assert_array_equal(states, [2, NOWHERE, NOWHERE, NOWHERE, NOWHERE])


def test_a_text_that_has_ended_stays_there():
    automaton = _automaton("a")
    end = len(automaton.tokens_SxA) - 1
    logits = np.zeros((1, 61), np.float32)
    allowed = np.asarray(allowed_logits(automaton, np.array([end]), logits))
    tokens = automaton.tokens_SxA[end][np.isfinite(allowed[0])]
    np.testing.assert_array_equal(tokens, [4, 9])
    after = advance(automaton, np.array([end, end, end]), np.array([4, 9, 3]))
    np.testing.assert_array_equal(after, [end, end, NOWHERE])


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("ab", (2, 3)),
        ("(ab|a)b{2,3}", (3, 6)),
        ("a|bb(a|b)", (2, 4)),
        ("", (1, 1)),
        ("é", (3, 3)),
        ("a+", (2, None)),
        ("b(ab)*a", (3, None)),
        ("a*", (1, None)),
        ("ab|(bb)+a", (2, None)),
    ],
)
def test_lengths_by_hand(pattern, found):
    """The stop token included: "abb" is [ab, b] or [a, bb], "abbbb" at most five tokens."""
    assert constrained.lengths(_automaton(pattern)) == found


def test_a_limit_that_cuts_texts_off_is_refused():
    automaton = _automaton("(ab|a)b{2,3}")
    constrained.check_limit(automaton, 6)
    message = r"max_new_tokens=5 .* take 3 to 6 tokens, the stop .* at least 6\."
    with pytest.raises(ConstraintError, match=message):
        constrained.check_limit(automaton, 5)
    endless = _automaton("a(ab)*")
    constrained.check_limit(endless, 2)
    with pytest.raises(ConstraintError, match=r"2 to any number of tokens.* at least 2\."):
        constrained.check_limit(endless, 1)


def test_what_a_text_was_chosen_from():
    automaton = _automaton("ab|a")
    assert constrained.allowed_along(automaton, [3, 5, 9]) == ((2, 3, 7), (4, 5, 9), (4, 9, -1))
    assert constrained.allowed_along(automaton, [7]) == ((2, 3, 7),)  # cut off before its end
    assert constrained.allowed_along(automaton, []) == ()


@pytest.mark.parametrize(
    ("tokens", "place"),
    [([5], 0), ([7, 5], 1), ([3, 5, 3], 2), ([3, 4, 4], 2), ([4], 0), ([7, -1], 1)],
)
def test_a_text_that_breaks_the_constraint_has_no_likelihood_under_it(tokens, place):
    with pytest.raises(ConstraintError, match=f"token {place} of the text is {tokens[place]}, "):
        constrained.allowed_along(_automaton("ab|a"), tokens)


def test_texts_that_the_vocabulary_cannot_spell_are_left_out():
    """The branch of "a" that needs a "c" could go on for ever and never end."""
    automaton = _automaton("a+c|bb")
    assert set(automaton.tokens_SxA[START].tolist()) - {-1} == {5, 6}
    assert constrained.lengths(automaton) == (2, 3)


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("c", r"cannot spell the texts of .* 'c': missing tokens .* \[\"c\"\]\. Use another"),
        ("a+c", r"cannot spell a single text of the regular expression 'a\+c'"),
        ("(ab", r"'\(ab' cannot be compiled: .* Correct it"),
        ("a)|(b", "cannot be compiled"),  # also where it would fit into parentheses
        ("(?=a)ab", "cannot be compiled"),
        ("^ab$", "cannot be compiled"),
        ("c" * 100, "expression 'c{57}...': missing"),
    ],
)
def test_impossible_constraints(pattern, message):
    with pytest.raises(ConstraintError, match=message):
        _automaton(pattern)


def test_a_constraint_needs_a_stop_token():
    with pytest.raises(ConstraintError, match="at least one stop token"):
        constrained.from_regex("a", SMALL, ())


def test_stop_tokens_and_empty_tokens_are_no_text():
    """A stop token that has bytes is no way to write them."""
    vocabulary = {**SMALL, b"": [10], b"a": [3, 9]}
    automaton = constrained.from_regex("ab|a", vocabulary, STOPS)
    jax.tree.map(np.testing.assert_array_equal, automaton, _automaton("ab|a"))


def test_the_mark_that_ends_texts_while_compiling_cannot_be_written():
    """Not even byte by byte, where a tokenizer has its bytes."""
    vocabulary = {**SMALL, b"\xf4": [10], b"\x8f": [11], b"\xbf": [12]}
    for pattern in ("ab|a", "a*"):
        automaton = constrained.from_regex(pattern, vocabulary, STOPS)
        jax.tree.map(np.testing.assert_array_equal, automaton, _automaton(pattern))
    anything = _automaton(".*").tokens_SxA
    assert set(anything.ravel().tolist()) == {-1, *PIECES, *STOPS}


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "outlines_core", None)
    with pytest.raises(ConstraintError, match=r"outlines-core: pip install 'seal_jax\[constrained"):
        _automaton("a")


PATTERN = "(ab|a)(b|é){1,2}a?"
PROMPT = [11, 40, 2, 57]
MOST = 8


def _paths(pattern):
    """All ways to write a text of a finite language, by Python's regular expressions alone."""
    compiled = regex.compile(pattern.encode())
    paths, open_paths = [], [()]
    while open_paths:
        path = open_paths.pop()
        if compiled.fullmatch(_text(path)):
            paths += [(*path, stop) for stop in STOPS]
        longer = [(*path, token) for token in PIECES]
        open_paths += [p for p in longer if compiled.fullmatch(_text(p), partial=True)]
    return sorted(paths)


def _allowed(pattern, path):
    """The tokens that may follow a path, by force."""
    compiled = regex.compile(pattern.encode())
    allowed = [t for t in PIECES if compiled.fullmatch(_text((*path, t)), partial=True)]
    return sorted(allowed + list(STOPS if compiled.fullmatch(_text(path)) else ()))


def _log_softmax_by_force(logits_V, allowed):
    """log p renormalised over the allowed: the softmax of all, divided by their share of it."""
    probs_V = scipy.special.softmax(np.float64(logits_V))
    return {token: np.log(probs_V[token] / probs_V[allowed].sum()) for token in allowed}


@pytest.fixture(scope="module")
def paths(tiny_llama):
    """Each path of PATTERN as a padded row after the prompt, and the logits at every token."""
    paths = _paths(PATTERN)
    rows = np.zeros((len(paths), len(PROMPT) + MOST), np.int32)
    for row, path in zip(rows, paths, strict=True):
        row[: len(PROMPT) + len(path)] = [*PROMPT, *path]
    return paths, rows, np.asarray(tiny_llama.logits(rows))


def test_first_tokens_are_drawn_from_the_renormalised_distribution(tiny_llama, paths):
    """How often 10,000 samples take each path, against the product of p' by force."""
    automaton = _automaton(PATTERN)
    found = sampling.generate_jit(
        (tiny_llama.config, SampleSettings(MOST)),
        tiny_llama.params,
        np.array([PROMPT], np.int32),
        np.array([len(PROMPT)]),
        jax.random.split(jax.random.key(3), 10_000),
        samples_per_prompt=10_000,
        automaton=automaton,
    )
    lengths_B, tokens_BxN = np.asarray(found.lengths_B), np.asarray(found.tokens_BxN)
    counts: dict[tuple[int, ...], int] = {}
    for row, length in zip(tokens_BxN.tolist(), lengths_B.tolist(), strict=True):
        counts[tuple(row[:length])] = counts.get(tuple(row[:length]), 0) + 1
    expected = {}
    for path, logits_TxV in zip(paths[0], paths[2], strict=True):
        steps = [
            _log_softmax_by_force(logits_TxV[len(PROMPT) + n - 1], _allowed(PATTERN, path[:n]))[t]
            for n, t in enumerate(path)
        ]
        expected[path] = np.exp(sum(steps)) * 10_000
    assert set(counts) <= set(expected)
    np.testing.assert_allclose(sum(expected.values()), 10_000, rtol=1e-4)
    often = [path for path in expected if expected[path] >= 5]
    assert len(often) > 10
    observed = np.array([counts.get(path, 0) for path in often])
    wanted = np.array([expected[path] for path in often])
    rest = 10_000 - observed.sum(), 10_000 - wanted.sum()
    statistic = ((observed - wanted) ** 2 / wanted).sum() + (rest[0] - rest[1]) ** 2 / rest[1]
    assert statistic < scipy.stats.chi2.isf(1e-5, len(often))


def test_greedy_takes_the_likeliest_allowed_token(tiny_llama, paths):
    """Along the greedy path each token is the argmax of the full logits over the allowed ones."""
    found = sampling.generate_jit(
        (tiny_llama.config, SampleSettings(MOST, temperature=0.0)),
        tiny_llama.params,
        np.array([PROMPT], np.int32),
        np.array([len(PROMPT)]),
        jax.random.split(jax.random.key(0), 1),
        automaton=_automaton(PATTERN),
    )
    path = tuple(found.tokens_BxN[0, : found.lengths_B[0]].tolist())
    logits_TxV = paths[2][paths[0].index(path)]
    overruled = 0
    for n, token in enumerate(path):
        logits_V = logits_TxV[len(PROMPT) + n - 1]
        allowed = _allowed(PATTERN, path[:n])
        assert token == allowed[int(logits_V[allowed].argmax())]
        overruled += token != logits_V.argmax()
    assert overruled >= 2


@pytest.fixture(scope="module")
def batch(paths):
    """The paths' rows, what their tokens were chosen from, and the mask of these tokens."""
    automaton = _automaton(PATTERN)
    width = automaton.tokens_SxA.shape[1]
    allowed = np.full((*paths[1].shape, width), -1, np.int32)
    mask = np.zeros(paths[1].shape, bool)
    for i, path in enumerate(paths[0]):
        own = slice(len(PROMPT), len(PROMPT) + len(path))
        allowed[i, own] = constrained.allowed_along(automaton, path)
        mask[i, own] = True
    return paths[1], allowed, mask


HEAD = DeltaSpec(("^head/",), kind="dense")


@pytest.mark.parametrize("head_is_trained", [False, True])
def test_likelihoods_equal_those_by_force(tiny_llama, random_delta, paths, batch, head_is_trained):
    delta = random_delta(tiny_llama.params, HEAD, seed=1, size=0.1) if head_is_trained else None
    rows, allowed, mask = batch
    found = jax.jit(constrained.log_likelihoods, static_argnums=0)(
        tiny_llama.config,
        tiny_llama.params,
        rows,
        allowed,
        loss_mask_BxT=mask,
        delta=variables(delta),
    )
    logits_BxTxV = np.asarray(tiny_llama.logits(rows, delta)) if delta else paths[2]
    expected = np.zeros((len(rows), rows.shape[1] - 1))
    for i, path in enumerate(paths[0]):
        for n, token in enumerate(path, len(PROMPT)):
            may = _allowed(PATTERN, path[: n - len(PROMPT)])
            expected[i, n - 1] = _log_softmax_by_force(logits_BxTxV[i, n - 1], may)[token]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=2e-5)
    # The texts of a finite language have all of the probability between them.
    np.testing.assert_allclose(np.exp(np.float64(found).sum(axis=1)).sum(), 1, rtol=1e-4)


def test_a_token_that_was_not_allowed_has_no_likelihood(tiny_llama, batch):
    rows, allowed, mask = batch
    found = np.asarray(
        jax.jit(constrained.log_likelihoods, static_argnums=0)(
            tiny_llama.config,
            tiny_llama.params,
            np.full_like(rows, 60),
            allowed,
            loss_mask_BxT=mask,
            delta=variables(None),
        )
    )
    assert np.all(found[mask[:, 1:]] == -np.inf)
    assert np.all(found[~mask[:, 1:]] == 0)


def _by_masking(logits, targets, wanted, allowed):
    """The plain way: logits that are not allowed are -inf, then the log-softmax of all."""
    may = (allowed[..., None] == jnp.arange(logits.shape[-1])).any(axis=-2) | ~wanted[..., None]
    log_probs = jax.nn.log_softmax(jnp.where(may, logits, -jnp.inf), axis=-1)
    chosen = jnp.take_along_axis(log_probs, targets[..., None], axis=-1)[..., 0]
    return jnp.where(wanted, chosen, 0.0)


@pytest.mark.parametrize("form", ["tied", "untied", "logits"])
def test_gradients_equal_those_of_masked_logits(form):
    """150 tokens, of which 90 are wanted (two blocks), with 1 to 7 allowed tokens each."""
    rng = np.random.default_rng(0)
    hidden, head = rng.normal(size=(150, 6)), rng.normal(size=(6, 40))
    targets, wanted = rng.integers(0, 40, 150), rng.permutation(150) < 90
    allowed = np.full((150, 7), -1)
    for row, target, want in zip(allowed, targets, wanted, strict=True):
        if want:
            others = rng.permutation(np.delete(np.arange(40), target))[: rng.integers(0, 7)]
            row[: len(others) + 1] = np.sort([target, *others])
    scales = rng.normal(size=150)
    hidden, head, scales = (jnp.asarray(array, jnp.float32) for array in (hidden, head, scales))
    targets, wanted, allowed = (jnp.asarray(array) for array in (targets, wanted, allowed))

    def plain(hidden):
        return _by_masking(hidden @ head, targets, wanted, allowed)

    def tested(hidden):
        config = ModelConfig(
            family="llama", vocab_size=40, hidden_size=6, intermediate_size=6, num_layers=1,
            num_heads=1, num_kv_heads=1, head_dim=6, tie_embeddings=form == "tied",
        )  # fmt: skip
        params = {"embed": {"embedding": head.T}, "head": {"kernel": head}}
        delta = {"head": {}} if form == "logits" else None
        return decoder.log_likelihoods_of_hidden(
            config, params, hidden, targets, wanted, allowed=allowed, delta=delta
        )

    def both(hidden):
        return [
            (*jax.value_and_grad(lambda x, f=f: jnp.sum(f(x) * scales))(hidden), f(hidden))
            for f in (tested, plain)
        ]

    found, expected = jax.jit(both)(hidden)
    np.testing.assert_allclose(found[2], expected[2], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-4, atol=1e-5)
    assert np.count_nonzero(np.any(found[1], axis=1)) > 60 and not np.any(found[1][~wanted])
