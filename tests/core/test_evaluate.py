"""Gold log-likelihoods and answers of many candidates against one at a time."""

import functools

import jax
import numpy as np
import pytest

from seal_jax.core import batching, evaluate
from seal_jax.core import delta as delta_lib
from seal_jax.core.delta import DeltaSpec
from seal_jax.core.sampling import SampleSettings

K, Q, WIDTH, ANSWER = 3, 4, 6, 3
SPEC = DeltaSpec(("q_proj", "v_proj"), rank=2, alpha=4.0)
# (prompt length, answer length) of each query; missing ones are padding rows.
SIZES = (((6, 3), (1, 1), (3, 2)), ((2, 3), (5, 1), (6, 2), (4, 3)), ((1, 3),))

gold_log_likelihoods = jax.jit(evaluate.gold_log_likelihoods, static_argnums=0)


def _texts(k):
    rng = np.random.default_rng([k, 3])
    return [
        (rng.integers(0, 61, prompt).tolist(), rng.integers(0, 61, answer).tolist())
        for prompt, answer in SIZES[k]
    ]


@pytest.fixture(scope="module")
def queries():
    return batching.stack(
        [
            batching.queries(
                *zip(*_texts(k), strict=True), rows=Q, length=WIDTH, answer_length=ANSWER
            )
            for k in range(K)
        ]
    )


@pytest.fixture(scope="module")
def stacked_delta(random_delta):
    """(model, count) -> stacked random deltas."""

    def make(model, count=K):
        return delta_lib.stack([random_delta(model.params, SPEC, seed) for seed in range(count)])

    return make


@pytest.fixture(scope="module")
def llama_deltas(tiny_llama, stacked_delta):
    return stacked_delta(tiny_llama)


def _of_candidates(model, deltas, queries):
    found = evaluate.gold_log_likelihoods_of_candidates(model.config, model.params, deltas, queries)
    return np.asarray(found)


def _direct(model, delta, prompt, answer):
    """log p(answer | prompt), token by token from the logits of the whole row."""
    row = np.zeros((1, WIDTH + ANSWER), np.int32)
    row[0, : len(prompt) + len(answer)] = prompt + answer
    logits = np.asarray(model.logits(row, delta), np.float64)[0]
    total = 0.0
    for i, token in enumerate(answer):
        before = logits[len(prompt) - 1 + i]
        total += before[token] - np.log(np.exp(before).sum())
    return total


def test_every_query_of_every_candidate_equals_its_own_row(tiny_model, stacked_delta, queries):
    deltas = stacked_delta(tiny_model)
    found_KxQ = _of_candidates(tiny_model, deltas, queries)
    assert found_KxQ.shape == (K, Q) and found_KxQ.dtype == np.float32
    for k in range(K):
        delta = delta_lib.take(deltas, k)
        expected = [_direct(tiny_model, delta, *text) for text in _texts(k)]
        np.testing.assert_allclose(found_KxQ[k, : len(expected)], expected, rtol=1e-4, atol=1e-4)
        assert (found_KxQ[k, len(expected) :] == 0).all()  # padding rows
    assert (found_KxQ[1] < -0.5).all()


def test_candidates_at_once_equal_a_loop_over_them(tiny_llama, llama_deltas, queries):
    found_KxQ = _of_candidates(tiny_llama, llama_deltas, queries)
    for k in range(K):
        of_k = functools.partial(jax.tree.map, lambda leaf, k=k: leaf[k])
        one_Q = gold_log_likelihoods(
            tiny_llama.config, tiny_llama.params, delta_lib.take(llama_deltas, k), of_k(queries)
        )
        np.testing.assert_allclose(found_KxQ[k], one_Q, rtol=1e-5, atol=1e-5)


def test_no_delta_is_a_zero_delta(tiny_llama, llama_deltas, queries):
    zero = jax.tree.map(np.zeros_like, llama_deltas)
    base = _of_candidates(tiny_llama, None, queries)
    np.testing.assert_allclose(
        base, _of_candidates(tiny_llama, zero, queries), rtol=1e-5, atol=1e-5
    )
    expected = [_direct(tiny_llama, None, *text) for text in _texts(1)]
    np.testing.assert_allclose(base[1], expected, rtol=1e-4, atol=1e-4)
    assert np.abs(base - _of_candidates(tiny_llama, llama_deltas, queries))[1].min() > 1e-3


def test_what_padding_holds_never_matters(tiny_llama, llama_deltas, queries):
    lengths = queries.prompt_lengths_Q + queries.answer_lengths_Q
    beyond = np.arange(WIDTH + ANSWER) >= lengths[..., None]
    unused = np.arange(ANSWER) >= queries.answer_lengths_Q[..., None]
    noisy = queries.replace(
        tokens_QxT=np.where(beyond, 17, queries.tokens_QxT),
        answers_QxA=np.where(unused, 19, queries.answers_QxA),
    )
    np.testing.assert_array_equal(
        _of_candidates(tiny_llama, llama_deltas, noisy),
        _of_candidates(tiny_llama, llama_deltas, queries),
    )


def test_answers_of_candidates_are_those_of_each_alone(tiny_llama, stacked_delta):
    """Greedy answers, rows in the order (k, q), against the argmax of whole forward passes."""
    deltas = stacked_delta(tiny_llama, 2)
    prompts = [[text[0] for text in _texts(k)] for k in range(2)]
    aligned = [
        batching.right_align(of_k, rows=Q, buckets=(WIDTH,), what="buckets") for of_k in prompts
    ]
    tokens_KxQxT, lengths_KxQ = (np.stack(arrays) for arrays in zip(*aligned, strict=True))
    keys_KxQ = jax.random.split(jax.random.key(0), (2, Q))
    static = (tiny_llama.config, SampleSettings(2, temperature=0.0))
    found = {
        name: evaluate.answers_of_candidates(
            static, tiny_llama.params, stacked, tokens_KxQxT, lengths_KxQ, keys_KxQ
        )
        for name, stacked in (("adapted", deltas), ("base", None))
    }
    np.testing.assert_array_equal(found["adapted"].lengths_B, [2, 2, 2, 0, 2, 2, 2, 2])
    for k in range(2):
        for q, prompt in enumerate(prompts[k]):
            for name, delta in (("adapted", delta_lib.take(deltas, k)), ("base", None)):
                text = list(prompt)
                for _ in range(2):
                    row = np.zeros((1, WIDTH + ANSWER), np.int32)
                    row[0, : len(text)] = text
                    logits = np.asarray(tiny_llama.logits(row, delta))
                    text.append(int(logits[0, len(text) - 1].argmax()))
                answer = found[name].tokens_BxN[k * Q + q].tolist()
                assert answer == text[len(prompt) :]
    assert not np.array_equal(found["adapted"].tokens_BxN, found["base"].tokens_BxN)
