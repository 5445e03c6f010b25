"""Texts that begin with a head under a grammar and go on freely: automata, draws, likelihoods."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import regex
import scipy.special
import scipy.stats

from seal_jax.core import constrained, sampling
from seal_jax.core.constrained import NOWHERE, START, ConstraintError
from seal_jax.core.delta import DeltaSpec, variables
from seal_jax.core.sampling import SampleSettings

# Newlines alone, after a letter, twice, and before one: only the first two can end a head.
VOCABULARY = {b"a": [3], b"b": [5], b"ab": [7, 2], b"\n": [10], b"b\n": [12]}
VOCABULARY |= {b"\n\n": [13], b"\na": [14]}
STOPS = (9, 4)
PIECES = {token: piece for piece, tokens in VOCABULARY.items() for token in tokens}
PROMPT = [11, 40, 2, 57]
HEADS = "a(b|ba?b)?\n"
V = 61

advance = jax.jit(constrained.advance)


def _automaton(pattern=HEADS, scope="head"):
    return constrained.from_regex(pattern, VOCABULARY, STOPS, scope=scope)


def _text(tokens):
    return b"".join(PIECES[token] for token in tokens)


def test_the_tables_literal():
    """Start: ab (two tokens) or a; after ab a newline; after a: b, or either; then nothing."""
    automaton = _automaton("ab?\n")
    nothing = [-1, -1, -1]
    np.testing.assert_array_equal(
        automaton.tokens_SxA, [[2, 3, 7], [10, -1, -1], [5, 10, 12], nothing]
    )
    np.testing.assert_array_equal(automaton.next_SxA, [[1, 2, 1], [3, -1, -1], [1, 3, 3], nothing])
    assert automaton.scope == "head" and _automaton("ab?\n", "whole").scope == "whole"


def test_lengths_and_limits_by_hand():
    """[a, newline] to [a, b, newline], and one more token at least."""
    automaton = _automaton("ab?\n")
    assert constrained.lengths(automaton) == (2, 3)
    constrained.check_limit(automaton, 4)
    message = (
        r"max_new_tokens=3 can cut a constrained head off .* heads take 2 to 3 .* at least 4\."
    )
    with pytest.raises(ConstraintError, match=message):
        constrained.check_limit(automaton, 3)
    endless = _automaton("a(ab)*\n")
    assert constrained.lengths(endless) == (2, None)
    constrained.check_limit(endless, 3)
    with pytest.raises(ConstraintError, match=r"2 to any number of tokens.* at least 3\."):
        constrained.check_limit(endless, 2)


def test_states_equal_a_regular_expression_on_all_texts():
    """All 4,681 texts of up to four of the eight tokens, in one walk."""
    automaton = _automaton()
    texts = [text for n in range(5) for text in itertools.product(sorted(PIECES), repeat=n)]
    padded = np.array([(*text, *[-1] * (4 - len(text))) for text in texts])
    states = np.full(len(texts), START, np.int32)
    for place in range(4):
        after = advance(automaton, states, padded[:, place])
        states = np.where(padded[:, place] >= 0, after, states)
    stopped = advance(automaton, states, np.full(len(texts), STOPS[0]))
    ended = np.asarray(constrained.ended(automaton, states))
    compiled = regex.compile(HEADS.encode())
    complete = 0
    for row, text in enumerate(texts):
        begins = [_text(text[:n]) for n in range(len(text) + 1)]
        whole = any(compiled.fullmatch(begin) for begin in begins)
        complete += whole
        begun = compiled.fullmatch(begins[-1], partial=True) is not None
        assert ended[row] == whole
        assert (states[row] == NOWHERE) == (not whole and not begun)
        assert stopped[row] == (states[row] if whole else NOWHERE)  # no stop within a head
    assert complete > 100


@pytest.mark.parametrize("pattern", ["", "a*", "ab|a", "a\n?", "(a\n)+"])
def test_heads_whose_end_cannot_be_told_are_refused(pattern):
    _automaton(pattern, "whole")
    with pytest.raises(ConstraintError, match=r"is empty or begins another one.*with a newline"):
        _automaton(pattern)


def test_what_a_head_was_chosen_from():
    automaton = _automaton("ab?\n")
    rows = ((2, 3, 7), (5, 10, 12))
    assert constrained.allowed_along(automaton, [3, 12, 60, 9]) == rows
    assert constrained.allowed_along(automaton, [3, 12]) == rows
    assert constrained.allowed_along(automaton, [3]) == rows[:1]  # cut off before its end
    for tokens, place in [([3, 9], 1), ([60], 0), ([2, 13], 1)]:
        with pytest.raises(ConstraintError, match=f"token {place} of the text is {tokens[place]}"):
            constrained.allowed_along(automaton, tokens)


def _generate(model, settings, keys, automaton=None):
    return sampling.generate_jit(
        (model.config, settings),
        model.params,
        np.array([PROMPT], np.int32),
        np.array([len(PROMPT)]),
        keys,
        samples_per_prompt=len(keys),
        automaton=_automaton() if automaton is None else automaton,
    )


def _texts(found):
    lengths = np.asarray(found.lengths_B).tolist()
    return [r[:n] for r, n in zip(np.asarray(found.tokens_BxN).tolist(), lengths, strict=True)]


def _head_paths():
    """All ways to write a head, by Python's regular expressions alone."""
    compiled = regex.compile(HEADS.encode())
    paths, open_paths = [], [()]
    while open_paths:
        path = open_paths.pop()
        longer = [(*path, token) for token in PIECES]
        paths += [p for p in longer if compiled.fullmatch(_text(p))]
        open_paths += [p for p in longer if compiled.fullmatch(_text(p), partial=True)]
        open_paths = [p for p in open_paths if p not in paths]
    return sorted(paths)


@pytest.fixture(scope="module")
def outcomes(tiny_llama):
    """Every head with every token after it: rows, heads' lengths, and log p by force."""
    paths = [(*head, body) for head in _head_paths() for body in range(V)]
    rows = np.zeros((len(paths), len(PROMPT) + 6), np.int32)
    for row, path in zip(rows, paths, strict=True):
        row[: len(PROMPT) + len(path)] = [*PROMPT, *path]
    logits = np.float64(tiny_llama.logits(rows))
    compiled = regex.compile(HEADS.encode())
    log_probs = []
    for path, logits_TxV in zip(paths, logits, strict=True):
        total = 0.0
        for n, token in enumerate(path):
            probs_V = scipy.special.softmax(logits_TxV[len(PROMPT) + n - 1])
            longer = [(*path[:n], t) for t in PIECES]
            may = [p[-1] for p in longer if compiled.fullmatch(_text(p), partial=True)]
            in_head = n < len(path) - 1
            total += np.log(probs_V[token] / (probs_V[may].sum() if in_head else 1.0))
        log_probs.append(total)
    return paths, rows, np.array(log_probs)


def _batch(automaton, paths, rows):
    width = automaton.tokens_SxA.shape[1]
    allowed = np.full((*rows.shape, width), -1, np.int32)
    mask = np.zeros(rows.shape, bool)
    for i, path in enumerate(paths):
        of_head = constrained.allowed_along(automaton, path)
        allowed[i, len(PROMPT) : len(PROMPT) + len(of_head)] = of_head
        mask[i, len(PROMPT) : len(PROMPT) + len(path)] = True
    return allowed, mask


@pytest.mark.parametrize("head_is_trained", [False, True])
def test_likelihoods_equal_those_by_force(tiny_llama, random_delta, outcomes, head_is_trained):
    """With every head and every next token they sum to 1."""
    paths, rows, expected = outcomes
    allowed, mask = _batch(_automaton(), paths, rows)
    spec = DeltaSpec(("^head/",), kind="dense")
    delta = random_delta(tiny_llama.params, spec, seed=1, size=0.1) if head_is_trained else None
    found = jax.jit(constrained.log_likelihoods, static_argnums=0, static_argnames="scope")(
        tiny_llama.config,
        tiny_llama.params,
        rows,
        allowed,
        loss_mask_BxT=mask,
        scope="head",
        delta=variables(delta),
    )
    sums = np.float64(found).sum(axis=1)
    np.testing.assert_allclose(np.exp(sums).sum(), 1, rtol=1e-4)
    if not head_is_trained:
        np.testing.assert_allclose(sums, expected, rtol=1e-4, atol=2e-5)
    assert np.all(np.asarray(found)[~mask[:, 1:]] == 0)
    assert {len(path) for path in paths} == {3, 4, 5, 6}


def test_draws_follow_the_likelihoods(tiny_llama, outcomes):
    """How often 10,000 samples take each head and token after it, against p by force."""
    paths, _, log_probs = outcomes
    keys = jax.random.split(jax.random.key(3), 10_000)
    texts = _texts(_generate(tiny_llama, SampleSettings(6, stop_ids=STOPS), keys))
    heads = [len(constrained.allowed_along(_automaton(), text)) for text in texts]
    index = {path: i for i, path in enumerate(paths)}
    taken = [index[tuple(text[: n + 1])] for text, n in zip(texts, heads, strict=True)]
    counts, expected = np.bincount(taken, minlength=len(paths)), np.exp(log_probs) * 10_000
    often = expected >= 5
    assert often.sum() > 50
    observed = np.append(counts[often], counts[~often].sum())
    expected = np.append(expected[often], expected[~often].sum())
    statistic = ((observed - expected) ** 2 / expected).sum()
    assert statistic < scipy.stats.chi2.isf(1e-5, len(observed) - 1)


SETTINGS = SampleSettings(
    9, temperature=1.3, top_p=0.9, top_k=40, stop_ids=(9, 4, 3, *range(20, 35))
)


@pytest.fixture(scope="module")
def drawn(tiny_llama):
    keys = jax.random.split(jax.random.key(5), 64)
    return keys, _generate(tiny_llama, SETTINGS, keys)


def test_each_token_is_drawn_from_what_its_row_may_write(tiny_llama, drawn):
    """Heads from the allowed tokens, bodies as `choose` draws from all, each with its own key.

    Of the tokens that end a text "a" (3) stands in heads, and ends nothing there.
    """
    automaton, keys = _automaton(), drawn[0]
    texts = _texts(drawn[1])
    rows = np.zeros((len(texts), len(PROMPT) + SETTINGS.max_new_tokens), np.int32)
    for row, text in zip(rows, texts, strict=True):
        row[: len(PROMPT) + len(text)] = [*PROMPT, *text]
    logits = jnp.asarray(tiny_llama.logits(rows))
    starts = []
    for t in range(SETTINGS.max_new_tokens):
        keys_t = jax.vmap(jax.random.fold_in, (0, None))(keys, t)
        logits_BxV = logits[:, len(PROMPT) + t - 1]
        free_B = np.asarray(sampling.choose(logits_BxV, keys_t, SETTINGS))
        for i, text in enumerate(texts):
            if t >= len(text):
                continue
            of_head = constrained.allowed_along(automaton, text)
            expected = free_B[i]
            if t < len(of_head):
                may = np.array([token for token in of_head[t] if token >= 0])
                chosen = sampling.choose(logits_BxV[i : i + 1, may], keys_t[i : i + 1], SETTINGS)
                expected = may[int(chosen[0])]
            assert text[t] == expected
            starts += [len(of_head)] * (t == len(of_head))
    assert len(set(starts)) >= 3  # heads end at different times: both kinds are drawn at once
    for text, stopped in zip(texts, np.asarray(drawn[1].stopped_B), strict=True):
        body = text[len(constrained.allowed_along(automaton, text)) :]
        assert [token in SETTINGS.stop_ids for token in body] == [False] * (len(body) - 1) + [
            stopped
        ]
        assert stopped or len(text) == SETTINGS.max_new_tokens
    assert 3 in {text[0] for text in texts}


def test_a_text_does_not_depend_on_its_neighbours(tiny_llama, drawn):
    keys, found = drawn
    for chosen in ([7], [40, 3, 21, 22], list(range(63, 31, -1))):
        alone = _generate(tiny_llama, SETTINGS, keys[np.array(chosen)])
        assert _texts(alone) == [_texts(found)[i] for i in chosen]
        np.testing.assert_array_equal(alone.stopped_B, np.asarray(found.stopped_B)[chosen])


def test_greedy_texts_begin_with_a_head(tiny_llama):
    """Then they go on as the greedy text of the prompt with that head."""
    keys = jax.random.split(jax.random.key(0), 1)
    greedy = SampleSettings(9, temperature=0.0)
    (text,) = _texts(_generate(tiny_llama, greedy, keys))
    count = len(constrained.allowed_along(_automaton(), text))
    assert tuple(text[:count]) in _head_paths()
    prompt = np.array([[*PROMPT, *text[:count]]], np.int32)
    rest = sampling.generate_jit(
        (tiny_llama.config, SampleSettings(9 - count, temperature=0.0)),
        tiny_llama.params,
        prompt,
        np.array([prompt.shape[1]]),
        keys,
    )
    assert text[count:] == _texts(rest)[0]


def _equations(jaxpr):
    for equation in jaxpr.eqns:
        yield equation
        for nested in jax.extend.core.jaxprs_in_params(equation.params):
            yield from _equations(nested)


def test_the_free_part_makes_no_logits_of_all_tokens(tiny_llama):
    """1,200 tokens: three blocks of 400 at most; and whole texts sweep over the allowed only."""
    rows = np.zeros((4, 300), np.int32)
    allowed, mask = np.full((4, 300, 3), -1, np.int32), np.ones((4, 300), bool)

    def made(scope):
        def loss(hidden_scale):
            delta = {"layers": {}}
            params = {**tiny_llama.params, "final_norm": {"scale": hidden_scale}}
            lls = constrained.log_likelihoods(
                tiny_llama.config,
                params,
                rows,
                allowed,
                loss_mask_BxT=mask,
                scope=scope,
                delta=delta,
            )
            return lls.sum()

        scale = tiny_llama.params["final_norm"]["scale"]
        equations = list(_equations(jax.make_jaxpr(jax.grad(loss))(scale).jaxpr))
        sizes = [
            out.aval.size
            for equation in equations
            for out in equation.outvars
            if V in out.aval.shape
        ]
        return max(sizes, default=0), sum(e.primitive.name == "while" for e in equations)

    assert made("head") == (400 * V, 2)
    assert made("whole") == (0, 1)
