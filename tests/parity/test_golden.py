"""Our side against stored values of PyTorch, transformers and PEFT, which need not be installed."""

import contextlib
import dataclasses

import numpy as np
import pytest

from seal_jax.core import optim

from . import checkpoints, forward, golden, inner_cases


@pytest.fixture(scope="module")
def stored():
    return golden.load_checked()


def trained(stored, name, k):
    """(losses, LoRA factors) of candidate k of an inner case, as PyTorch and PEFT trained it."""
    prefix = f"{name}/{k}/"
    found = {key.removeprefix(prefix): v for key, v in stored.items() if key.startswith(prefix)}
    losses = found.pop("losses")
    keys = {key: (int(key.split(".")[0]), *key.split(".")[1:]) for key in found}
    return losses, {keys[key]: factor for key, factor in found.items()}


@pytest.mark.parametrize("name", checkpoints.CONFIGS)
def test_logits(name, stored):
    ours = forward.logits(name, checkpoints.prompts(name, forward.LENGTHS))
    np.testing.assert_allclose(forward.part(ours), stored[f"{name}/logits"], rtol=0, atol=2e-4)


@pytest.mark.parametrize("name", checkpoints.CONFIGS)
def test_greedy_decoding(name, stored):
    prompts = checkpoints.prompts(name)
    free, stopped = (golden.unpad(stored[f"{name}/{key}"]) for key in ("free", "stopped"))
    assert forward.cached_greedy(name, prompts) == free
    stop_ids = tuple(stored[f"{name}/stop_ids"].tolist())
    assert forward.cached_greedy(name, prompts, stop_ids) == stopped
    assert len({len(tokens) for tokens in stopped}) > 1


@pytest.mark.parametrize("name", inner_cases.CASES)
def test_inner_update(name, stored):
    for k, (losses_S, factors) in enumerate(inner_cases.run_ours(name)):
        initial = inner_cases.initial_factors(name, k)
        inner_cases.check(losses_S, factors, *trained(stored, name, k), initial)


# One bucket, so that there is less to compile; padding does not change what is learnt.
LINEAR = dataclasses.replace(inner_cases.CASES["linear"], buckets=(24,))
MISTAKES = {
    "none": {},
    "scale is halved": {"case": dataclasses.replace(LINEAR, alpha=LINEAR.alpha / 2)},
    "gradients are not clipped": {"optimizer": optim.AdamW(max_grad_norm=1e9)},
    "weights decay a little": {"optimizer": optim.AdamW(weight_decay=0.05)},
    "rate falls a step too late": {"changes": {"num_steps": np.int32(21)}},
    "rate starts at zero": {"changes": {"warmup_steps": np.int32(1)}},
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_the_comparison_notices(mistake, stored):
    """What `test_inner_update` passes is failed by each of these mistakes, and only by them."""
    losses_S, factors = inner_cases.train(**{"case": LINEAR, **MISTAKES[mistake]})[0]
    initial = inner_cases.initial_factors("linear", 0)
    fails = pytest.raises(AssertionError) if MISTAKES[mistake] else contextlib.nullcontext()
    with fails:
        inner_cases.check(losses_S, factors, *trained(stored, "linear", 0), initial)
