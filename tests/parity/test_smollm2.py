"""SmolLM2-135M-Instruct, logits and greedy decoding: transformers reads the same file itself."""

import numpy as np
import pytest

from seal_jax.weights import load

from . import golden, smollm2

pytestmark = pytest.mark.smollm2
INDICES = range(len(smollm2.TEXTS))


@pytest.fixture(scope="module")
def ours(smollm2_path):
    return load.load_model(smollm2_path, np.float32)


@pytest.fixture(scope="module")
def theirs(smollm2_path, witness):
    return witness.gguf_model(smollm2_path)


@pytest.fixture(scope="module")
def stored():
    return golden.load_checked()


@pytest.mark.parametrize("i", INDICES)
def test_logits_match_transformers(i, ours, theirs, witness):
    tokens = smollm2.texts(ours)[i]
    expected_TxV = witness.logits(theirs, tokens)
    found_TxV = smollm2.logits(ours, tokens)
    print(
        f"{len(tokens)} tokens: logits up to {np.abs(expected_TxV).max():.1f} differ by at most "
        f"{np.abs(found_TxV - expected_TxV).max():.1e}"
    )
    np.testing.assert_allclose(found_TxV, expected_TxV, rtol=0, atol=2e-4)


def test_greedy_decoding_matches_generate(ours, theirs, witness):
    stop_ids = smollm2.stop_ids(ours)
    expected = [
        witness.greedy(theirs, prompt, smollm2.MAX_NEW_TOKENS, stop_ids)
        for prompt in smollm2.prompts(ours)
    ]
    assert len({len(tokens) for tokens in expected}) > 1, "no answer ended before the limit"
    assert smollm2.greedy(ours) == expected


@pytest.mark.parametrize("i", INDICES)
def test_logits_match_stored_ones(i, ours, stored):
    tokens = smollm2.texts(ours)[i]
    assert tokens == stored[f"smollm2/{i}/tokens"].tolist()
    found = smollm2.part(smollm2.logits(ours, tokens))
    np.testing.assert_allclose(found, stored[f"smollm2/{i}/logits"], rtol=0, atol=2e-4)


def test_greedy_decoding_matches_stored_tokens(ours, stored):
    assert smollm2.greedy(ours) == golden.unpad(stored["smollm2/greedy"])
