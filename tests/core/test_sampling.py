"""What is drawn, how rows end, and that no row's text depends on its neighbours."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from seal_jax.core import constrained, sampling
from seal_jax.core import delta as delta_lib
from seal_jax.core.delta import DeltaSpec
from seal_jax.core.model.config import LayerKind
from seal_jax.core.sampling import SampleSettings

WIDTH, NEW = 5, 6
STOPS = (3, 10, 17, 24, 31, 38, 45, 52)
SETTINGS = SampleSettings(NEW, temperature=1.0, top_p=0.95, stop_ids=STOPS)

choose = jax.jit(sampling.choose, static_argnums=2)
truncate = jax.jit(sampling.truncate, static_argnums=1)


def _right_aligned(seed, lengths):
    """Prompts of these lengths whose padding is noise."""
    prompts = np.random.default_rng(seed).integers(0, 61, (len(lengths), WIDTH)).astype(np.int32)
    return prompts, np.array(lengths, np.int32)


def _texts(samples):
    """Each row's tokens up to its length."""
    return [
        row[:length].tolist()
        for row, length in zip(
            np.asarray(samples.tokens_BxN), np.asarray(samples.lengths_B), strict=True
        )
    ]


@pytest.fixture(scope="module")
def generate(tiny_llama):
    def generate(prompts, lengths, keys, settings=SETTINGS, **kwargs):
        static = (tiny_llama.config, settings)
        return sampling.generate_jit(static, tiny_llama.params, prompts, lengths, keys, **kwargs)

    return generate


def _assert_drawn_from(counts, probs):
    """Chi-square at 1e-5, over the tokens expected five times or more and the rest as one."""
    total = counts.sum()
    assert counts[probs == 0].sum() == 0
    often = probs * total >= 5
    observed = np.append(counts[often], counts[~often].sum())
    expected = np.append(probs[often], probs[~often].sum()) * total
    observed, expected = observed[expected > 0], expected[expected > 0]
    statistic = ((observed - expected) ** 2 / expected).sum()
    assert len(observed) > 3
    assert statistic < scipy.stats.chi2.isf(1e-5, len(observed) - 1)


def _kept(probs, top_p, top_k):
    """Reference by sorting: probabilities, those that are cut set to 0, not renormalised."""
    if top_k:
        probs = np.where(probs >= np.sort(probs)[-top_k], probs, 0.0)
    if top_p == 1:
        return probs
    order = np.argsort(-probs, kind="stable")
    reached = np.cumsum(probs[order])
    last = order[np.searchsorted(reached, top_p * reached[-1] - 1e-12)]
    return np.where(probs >= probs[last], probs, 0.0)


@pytest.mark.parametrize(
    ("temperature", "top_p", "top_k", "left"),
    [(1.0, 1.0, 0, 20), (0.5, 1.0, 0, 20), (1.7, 0.8, 0, 12), (1.0, 1.0, 5, 5), (0.8, 0.9, 8, 6)],
)
def test_draws_follow_the_truncated_softmax(temperature, top_p, top_k, left):
    logits = np.random.default_rng(0).normal(size=20).astype(np.float32) * 1.5
    settings = SampleSettings(1, temperature=temperature, top_p=top_p, top_k=top_k)
    keys = jax.random.split(jax.random.key(1), 20000)
    drawn = np.asarray(choose(np.tile(logits, (20000, 1)), keys, settings))
    probs = np.exp(np.float64(logits) / temperature)
    probs = _kept(probs / probs.sum(), top_p, top_k)
    assert (probs > 0).sum() == left
    _assert_drawn_from(np.bincount(drawn, minlength=20), probs / probs.sum())


def test_generated_tokens_follow_the_model(generate, tiny_llama):
    """The first token of 20,000 samples of one prompt, and the second given the likeliest first."""
    settings = SampleSettings(2, temperature=0.8, top_p=0.9)
    prompt, lengths = _right_aligned(0, [WIDTH])
    keys = jax.random.split(jax.random.key(2), 20000)
    found = generate(prompt, lengths, keys, settings, samples_per_prompt=20000)
    tokens_BxN = np.asarray(found.tokens_BxN)

    def probs_after(tokens):
        logits = np.asarray(tiny_llama.logits(np.array([tokens], np.int32)))[0, -1]
        probs = np.exp(np.float64(logits) / 0.8)
        probs = _kept(probs / probs.sum(), 0.9, 0)
        return probs / probs.sum()

    counts = np.bincount(tokens_BxN[:, 0], minlength=61)
    _assert_drawn_from(counts, probs_after(prompt[0].tolist()))
    likeliest = int(counts.argmax())
    seconds = tokens_BxN[tokens_BxN[:, 0] == likeliest, 1]
    assert len(seconds) > 2000
    _assert_drawn_from(
        np.bincount(seconds, minlength=61), probs_after([*prompt[0].tolist(), likeliest])
    )


VOCABULARY = 50_000


@pytest.fixture(scope="module")
def large_logits():
    rng = np.random.default_rng(3)
    peaked = rng.normal(size=VOCABULARY)
    peaked[123] = 30.0
    two_peaks = rng.normal(size=VOCABULARY)
    two_peaks[[7, 49_999]] = 15.0  # equal
    rows = [
        rng.normal(size=VOCABULARY),
        rng.normal(size=VOCABULARY) * 4,
        np.round(rng.normal(size=VOCABULARY) * 2),  # about 17 distinct values
        np.zeros(VOCABULARY),
        peaked,
        two_peaks,
        np.where(np.arange(VOCABULARY) < 100, 0.0, -np.inf),
    ]
    return np.stack(rows).astype(np.float32)


@pytest.mark.parametrize(
    ("temperature", "top_p", "top_k"),
    [(1.0, 1.0, 0), (1.0, 0.95, 0), (0.7, 0.3, 0), (1.0, 1.0, 50), (1.3, 0.9, 3000), (1.0, 0.5, 1)],
)
def test_truncation_over_a_whole_vocabulary_equals_sorting(large_logits, temperature, top_p, top_k):
    settings = SampleSettings(1, temperature=temperature, top_p=top_p, top_k=top_k)
    found_BxV = np.asarray(truncate(large_logits, settings), np.float64)
    for row, (found, logits) in enumerate(zip(found_BxV, large_logits, strict=True)):
        probs = np.exp((np.float64(logits) - logits.max()) / temperature)
        probs /= probs.sum()
        kept = found > 0
        np.testing.assert_allclose(found[kept], probs[kept], rtol=2e-5, err_msg=f"row {row}")
        # Sums in float32 move the cut by the tokens worth 1e-6 of the mass, and by no more.
        slack = 1e-6 if top_p < 1 else 0.0
        fewest, most = (_kept(probs, top_p + way * slack, top_k) > 0 for way in (-1, 1))
        assert (fewest <= kept).all() and (kept <= most).all(), f"row {row}"


@pytest.mark.parametrize("digit", [2, 4])
def test_a_threshold_is_the_same_with_several_tried_a_pass(large_logits, digit):
    """As accelerators find it; 30 bits are not a whole number of digits of 4."""
    probs_BxV = jax.nn.softmax(large_logits)
    goals_B = jnp.array([0.1, 0.5, 0.9, 0.95, 0.999, 0.2, 0.7])

    def enough(kept_BxTxV):
        return jnp.where(kept_BxTxV, probs_BxV[:, None], 0).sum(-1) >= goals_B[:, None]

    found, expected = (sampling.highest_threshold(probs_BxV, enough, digit=of) for of in (digit, 1))
    np.testing.assert_array_equal(found, expected)
    assert len(np.unique(expected)) > 4 and expected.min() > 0


def test_truncation_literal():
    """Probabilities 0.4, 0.2, 0.2, 0.1, 0.1: ties stay or go together."""
    logits = np.log(np.array([[0.2, 0.4, 0.1, 0.2, 0.1]], np.float32))

    def kept(**cut):
        return np.flatnonzero(truncate(logits, SampleSettings(1, **cut))[0]).tolist()

    assert kept(top_p=0.3) == [1]
    assert kept(top_p=0.5) == [0, 1, 3]
    assert kept(top_p=0.79) == [0, 1, 3]
    assert kept(top_p=0.85) == [0, 1, 2, 3, 4]
    assert kept(top_k=1) == [1]
    assert kept(top_k=2) == [0, 1, 3]
    assert kept(top_k=4) == [0, 1, 2, 3, 4]
    assert kept(top_k=9) == [0, 1, 2, 3, 4]  # more than there are
    assert kept(top_k=3, top_p=0.45) == [1]  # 0.4 of the 0.8 that top-k left
    assert kept(top_k=3, top_p=0.55) == [0, 1, 3]


def test_the_cut_is_exact_to_the_last_bits():
    """Two tokens whose probabilities differ by a few units in the last place are told apart."""
    logits = np.array([[-2.0, 1.0, 1.0 - 2.0**-20]], np.float32)
    for cut in (dict(top_k=1), dict(top_p=0.4)):
        kept = truncate(logits, SampleSettings(1, **cut))[0] > 0
        np.testing.assert_array_equal(kept, [False, True, False])


def test_greedy_takes_the_first_of_the_largest():
    logits = np.array([[0.0, 2.0, 2.0], [3.0, -1.0, 0.0]], np.float32)
    keys = jax.random.split(jax.random.key(0), 2)
    found = sampling.choose(logits, keys, SampleSettings(1, temperature=0.0, top_p=0.1, top_k=1))
    np.testing.assert_array_equal(found, [1, 0])


@pytest.mark.fault("12")
@pytest.mark.parametrize("temperature", [3e-9, 1e-9, 1e-12, 1e-20, 1e-38, 1e-45])
def test_a_temperature_near_0_takes_the_largest(temperature):
    """The rounding of logits / temperature, some hundreds of nats, decides nothing.

    Whether it did went by what the compiler fused, so by the size of the vocabulary.
    """
    keys = jax.random.split(jax.random.key(2), 40)
    for vocabulary, cut in itertools.product((61, 300), ({}, {"top_k": 5}, {"top_p": 0.9})):
        logits = np.random.default_rng(2).normal(size=(40, vocabulary)).astype(np.float32) * 7
        logits[1, 50:] = -np.inf
        drawn = choose(logits, keys, SampleSettings(1, temperature=temperature, **cut))
        np.testing.assert_array_equal(drawn, logits.argmax(axis=1))


@pytest.mark.fault("12")
@pytest.mark.parametrize("cut", [{}, {"top_k": 2}, {"top_p": 0.7}])
def test_a_draw_with_nothing_above_it_is_the_last_token_that_is_kept(cut, monkeypatch):
    """As where a prefix sum grows over tokens of probability 0."""
    monkeypatch.setattr(jax.random, "uniform", lambda key: jnp.float32(1.0))
    logits = np.log(np.array([[1e-30, 0.5, 0.3, 0.2], [1e-30, 0.6, 0.4, 1e-30]], np.float32))
    logits = np.pad(logits, [(0, 0), (0, 1)], constant_values=-np.inf)
    keys = jax.random.split(jax.random.key(0), 2)
    drawn = sampling.choose(logits, keys, SampleSettings(1, **cut))
    np.testing.assert_array_equal(drawn, [2, 2] if cut else [3, 3])


@pytest.mark.fault("12")
@pytest.mark.parametrize("temperature", [float("nan"), float("inf")])
def test_a_temperature_that_is_no_number_is_refused(temperature):
    with pytest.raises(ValueError, match="temperature must be 0"):
        SampleSettings(1, temperature=temperature)


PROMPTS = _right_aligned(4, [5, 1, 3, 0, 4, 2, 5, 3])
KEYS = jax.random.split(jax.random.key(5), 8)


@pytest.fixture(scope="module")
def eight(generate):
    return generate(*PROMPTS, KEYS)


def test_a_row_ends_with_its_first_stop_token_or_at_the_limit(generate):
    ends = {True: 0, False: 0}
    for seed in range(5):
        found = generate(*PROMPTS, jax.random.split(jax.random.key(seed), 8))
        for row, text in enumerate(_texts(found)):
            if PROMPTS[1][row] == 0:
                continue
            stopped = bool(found.stopped_B[row])
            ends[stopped] += 1
            assert not set(text[:-1]) & set(STOPS)
            assert (text[-1] in STOPS) == stopped
            assert stopped or len(text) == NEW
    assert min(ends.values()) >= 5


def test_a_padding_prompt_writes_nothing(eight, generate):
    assert _texts(eight)[3] == [] and not eight.stopped_B[3]
    assert all(text for row, text in enumerate(_texts(eight)) if row != 3)
    nothing = generate(PROMPTS[0], np.zeros(8, np.int32), KEYS)
    assert _texts(nothing) == [[]] * 8 and not np.any(nothing.stopped_B)


@pytest.mark.parametrize("window", [None, 8])
def test_texts_are_the_same_where_the_cache_grows(tiny_llama, window, monkeypatch):
    """Over 7, 9 and 11 slots, of which a window holds 8; the texts end in different loops."""
    pattern = (LayerKind(window=window), LayerKind())
    config = dataclasses.replace(tiny_llama.config, pattern=pattern)
    given = ((config, SETTINGS), tiny_llama.params, *PROMPTS, KEYS)
    assert sampling.stages(WIDTH, NEW) == (NEW,)
    expected = sampling.generate_jit(*given)
    assert {1, NEW} <= set(expected.lengths_B.tolist())
    monkeypatch.setattr(sampling, "stages", lambda first_slot, limit: (2, 4, limit))
    # A function of its own: JAX keeps what it has traced of `generate`.
    program = jax.jit(lambda *given: sampling.generate(*given), static_argnums=0)
    found = program(*given)
    assert _texts(found) == _texts(expected)
    np.testing.assert_array_equal(found.stopped_B, expected.stopped_B)
    heads = f"{config.num_kv_heads}x{config.head_dim}xf32"
    text = program.lower(*given).as_text()
    for slots in (7, 9, 11, *[window] * bool(window)):
        assert f"tensor<8x{slots}x{heads}>" in text


def test_the_same_keys_give_the_same_texts_and_others_give_others(eight, generate):
    assert _texts(generate(*PROMPTS, KEYS)) == _texts(eight)
    assert _texts(generate(*PROMPTS, KEYS[::-1])) != _texts(eight)


def test_a_text_does_not_depend_on_its_neighbours(eight, generate):
    """Rows 0, 2 and 4 keep prompt and key; all others get another prompt, length and key."""
    prompts, lengths = _right_aligned(6, [2, 5, 0, 1, 5, 5, 3, 1])
    keys = jax.random.split(jax.random.key(7), 8)
    mine = np.array([0, 2, 4])
    prompts[mine], lengths[mine] = PROMPTS[0][mine], PROMPTS[1][mine]
    found = _texts(generate(prompts, lengths, keys.at[mine].set(KEYS[mine])))
    for row, text in enumerate(_texts(eight)):
        assert (found[row] == text) == (row in mine)


def test_a_text_does_not_depend_on_its_place_or_on_the_number_of_rows(eight, generate):
    prompts, lengths = PROMPTS
    backwards = _texts(generate(prompts[::-1], lengths[::-1], KEYS[::-1]))
    assert backwards[::-1] == _texts(eight)
    for row in (0, 1, 4):
        alone = generate(prompts[row : row + 1], lengths[row : row + 1], KEYS[row : row + 1])
        assert _texts(alone) == [_texts(eight)[row]]


def test_padding_of_a_prompt_never_matters(eight, generate):
    prompts, lengths = PROMPTS
    padding = np.arange(WIDTH) < WIDTH - lengths[:, None]
    found = generate(np.where(padding, 60 - prompts, prompts), lengths, KEYS)
    assert _texts(found) == _texts(eight)


def test_samples_of_a_prompt_equal_those_of_the_repeated_prompt(generate):
    prompts, lengths = _right_aligned(8, [5, 0, 3, 1])
    found = generate(prompts, lengths, KEYS, samples_per_prompt=2)
    repeated = generate(np.repeat(prompts, 2, axis=0), np.repeat(lengths, 2), KEYS)
    assert _texts(found) == _texts(repeated)
    texts = _texts(found)
    assert texts[0] != texts[1] and texts[2] == texts[3] == []


GREEDY = SampleSettings(NEW, temperature=0.0)
SPEC = DeltaSpec(("q_proj", "v_proj", "down_proj"), rank=2, alpha=4.0)


@pytest.fixture(scope="module")
def adapters(tiny_llama, random_delta):
    return [random_delta(tiny_llama.params, SPEC, seed) for seed in range(2)]


@pytest.fixture(scope="module")
def greedy_texts(generate, adapters):
    variables = delta_lib.grouped_variables(delta_lib.stack(adapters))
    return _texts(generate(*PROMPTS, KEYS, GREEDY, delta=variables))


def test_cached_greedy_decoding_equals_the_uncached_pass(greedy_texts, adapters, tiny_llama):
    """Two adapters of four rows each; one whole forward pass for every token of every row."""
    prompts, lengths = PROMPTS
    differ = 0
    for k, delta in enumerate((*adapters, None)):
        rows = np.arange(4 * (k % 2), 4 * (k % 2) + 4)
        texts = np.zeros((4, WIDTH + NEW), np.int32)
        for i, row in enumerate(rows):
            texts[i, : lengths[row]] = prompts[row, WIDTH - lengths[row] :]
        for t in range(NEW):
            at = lengths[rows] + t
            logits = np.asarray(tiny_llama.logits(texts, delta))
            texts[np.arange(4), at] = logits[np.arange(4), at - 1].argmax(-1)
        for i, row in enumerate(rows):
            expected = texts[i, lengths[row] : lengths[row] + NEW].tolist()
            if delta is None:
                differ += greedy_texts[row] != expected
            elif lengths[row]:
                assert greedy_texts[row] == expected
    assert differ >= 3  # the adapters are no decoration


def test_rows_of_all_adapters_at_once_equal_the_mapped_loop(greedy_texts, adapters, tiny_llama):
    prompts, lengths = PROMPTS

    @jax.jit
    def mapped(stacked):
        def of_one(delta, *rows):
            static = (tiny_llama.config, GREEDY)
            variables = jax.tree.map(jnp.asarray, delta_lib.variables(delta))
            return sampling.generate(static, tiny_llama.params, *rows, delta=variables)

        return jax.vmap(of_one)(
            stacked, prompts.reshape(2, 4, -1), lengths.reshape(2, 4), KEYS.reshape(2, 4)
        )

    found = jax.tree.map(
        functools.partial(jax.lax.collapse, start_dimension=0, stop_dimension=2),
        mapped(delta_lib.stack(adapters)),
    )
    assert _texts(found) == greedy_texts


def _allowing(tokens):
    """An automaton of one state and the end: these tokens may always follow."""
    leads_to = [1 if token in STOPS else 0 for token in tokens]
    stops = [*STOPS, *[-1] * (len(tokens) - len(STOPS))]
    return constrained.Automaton(
        jnp.array([tokens, stops], jnp.int32),
        jnp.array([leads_to, [min(token, 1) for token in stops]], jnp.int32),
    )


def test_a_constraint_that_allows_everything_changes_nothing(eight, generate):
    """The same draws, bit for bit; rows end as before, and padding prompts write nothing."""
    found = generate(*PROMPTS, KEYS, automaton=_allowing(range(61)))
    assert _texts(found) == _texts(eight)
    np.testing.assert_array_equal(found.stopped_B, eight.stopped_B)
    assert len(set(map(len, _texts(eight)))) > 2


def test_the_tables_are_no_part_of_the_program(generate, count_compiles):
    """Other tables of the same shapes give other texts and compile nothing."""
    first = _allowing(range(61))
    generate(*PROMPTS, KEYS, automaton=first)
    other = first.replace(tokens_SxA=jnp.full_like(first.tokens_SxA, 9))  # a 9, and the end
    compiled, found = count_compiles(lambda: generate(*PROMPTS, KEYS, automaton=other))
    assert compiled == 0
    assert _texts(found) == [[9] if length else [] for length in PROMPTS[1]]


def test_without_a_constraint_its_state_is_not_carried(tiny_llama):
    """The loop of the unconstrained program carries one array less, and gathers no tables."""

    def carried(**kwargs):
        static = (tiny_llama.config, SETTINGS)
        traced = jax.make_jaxpr(
            lambda *rows, **kw: sampling.generate(static, tiny_llama.params, *rows, **kw)
        )(*PROMPTS, KEYS, **kwargs)
        (loop,) = (e for e in traced.eqns if e.primitive.name == "while" and len(e.outvars) > 4)
        return len(loop.outvars)

    assert carried(automaton=_allowing(range(61))) == carried(automaton=None) + 1 == carried() + 1


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(max_new_tokens=0), "max_new_tokens must be at least 1, not 0"),
        (dict(max_new_tokens=1, temperature=-0.1), "temperature must be 0 .* not -0.1"),
        (dict(max_new_tokens=1, top_p=0.0), r"top_p must be in \(0, 1\], not 0.0"),
        (dict(max_new_tokens=1, top_p=1.1), r"top_p must be in \(0, 1\], not 1.1"),
        (dict(max_new_tokens=1, top_k=-1), "top_k must be 0 .* not -1"),
    ],
)
def test_impossible_settings(fields, message):
    with pytest.raises(ValueError, match=message):
        SampleSettings(**fields)
