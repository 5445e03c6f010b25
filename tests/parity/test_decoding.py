"""Greedy decoding with the cache, token for token: against none, and against `generate`."""

import pytest

from . import checkpoints, forward


@pytest.mark.parametrize("name", checkpoints.CONFIGS)
def test_cached_equals_uncached(name):
    prompts = checkpoints.prompts(name)
    assert forward.cached_greedy(name, prompts) == forward.uncached_greedy(name, prompts)


@pytest.mark.parametrize("name", checkpoints.CONFIGS)
def test_cached_equals_generate(name, witness):
    """Right-aligned prompts of different lengths in one batch, against each prompt alone."""
    prompts = checkpoints.prompts(name)
    model = witness.model(name)
    free = [witness.greedy(model, prompt, forward.MAX_NEW_TOKENS, ()) for prompt in prompts]
    assert forward.cached_greedy(name, prompts) == free
    stop_ids = forward.stops(free)
    stopped = [
        witness.greedy(model, prompt, forward.MAX_NEW_TOKENS, stop_ids) for prompt in prompts
    ]
    assert len({len(tokens) for tokens in stopped}) > 1, "the stop tokens stopped nothing"
    assert forward.cached_greedy(name, prompts, stop_ids) == stopped
