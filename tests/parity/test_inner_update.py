"""The inner update against a plain PyTorch loop over a PEFT model, step by step."""

import pytest

from . import inner_cases


@pytest.mark.parametrize("name", inner_cases.CASES)
def test_inner_update_matches_peft(name, witness):
    for k, (losses_S, factors) in enumerate(inner_cases.run_ours(name)):
        expected_losses_S, expected_factors = witness.train(name, k)
        inner_cases.check(
            losses_S,
            factors,
            expected_losses_S,
            expected_factors,
            inner_cases.initial_factors(name, k),
        )
