"""Logits against transformers: a tiny random checkpoint of every family, with and without LoRA."""

import jax
import numpy as np
import pytest

from seal_jax.core.model import decoder
from seal_jax.core.model.config import ModelConfig

from . import checkpoints, forward


@pytest.mark.parametrize("name", checkpoints.CONFIGS)
def test_logits_match_transformers(name, witness):
    """Rows of different lengths in one padded batch, against each sequence alone."""
    model = witness.model(name)
    sequences = checkpoints.prompts(name, forward.LENGTHS)
    for ours_TxV, sequence in zip(forward.logits(name, sequences), sequences, strict=True):
        expected_TxV = witness.logits(model, sequence)
        assert expected_TxV.shape == (len(sequence), checkpoints.model_config(name).vocab_size)
        np.testing.assert_allclose(ours_TxV, expected_TxV, rtol=0, atol=2e-4)


@pytest.mark.fault("15")
@pytest.mark.parametrize("name", checkpoints.CONFIGS)
def test_padding_that_is_trained_on_is_not_attended_to(name, witness):
    """As the reference trains: filled up, with an attention mask, and a loss on everything."""
    model, config = witness.model(name), checkpoints.model_config(name)
    for sequence in checkpoints.prompts(name, forward.LENGTHS):
        filled = [*sequence, *[7] * 6]
        found = decoder.log_likelihoods(
            config,
            checkpoints.params(name),
            np.array([filled], np.int32),
            attended_B=np.array([len(sequence)]),
        )
        expected = witness.padded_log_likelihoods(model, filled, len(sequence))
        np.testing.assert_allclose(found[0], expected, rtol=0, atol=2e-4)


@pytest.mark.parametrize("name", checkpoints.CONFIGS)
def test_config_means_the_same_to_both(name, witness):
    """What transformers writes into `config.json` is read as the config that it was made from."""
    written = witness.model(name).config.to_dict()
    assert ModelConfig.from_hf(written) == checkpoints.model_config(name)


def test_llama3_scaling_is_seen():
    """The llama checkpoint's logits depend on its rotary scaling (else the parity says nothing)."""
    sequences = checkpoints.prompts("llama", (24,))
    plain = {k: v for k, v in checkpoints.CONFIGS["llama"].items() if k != "rope_scaling"}
    params = checkpoints.params("llama")
    tokens_1xT = np.array(sequences, np.int32)
    found = [
        decoder.logits(config, params, decoder.hidden_states(config, params, tokens_1xT))
        for config in (checkpoints.model_config("llama"), ModelConfig.from_hf(plain))
    ]
    assert np.abs(jax.numpy.subtract(*found)).max() > 1e-2
