"""Percentile intervals of any statistic of contexts."""

import math

import numpy as np
import pytest

from seal_jax.stats import resampling


def test_quantiles_are_widened_as_t_asks():
    # 12 contexts: t(0.975, 11) = 2.200985, times sqrt(12 / 11) = 2.298841, normal tail 0.010757
    assert resampling._tail(12, 0.95) == pytest.approx(0.010757, abs=2e-6)
    # 200 contexts: t(0.975, 199) = 1.971957, times sqrt(200 / 199) = 1.976905, normal tail 0.024026
    assert resampling._tail(200, 0.95) == pytest.approx(0.024026, abs=2e-6)


def test_the_mean_of_two_contexts():
    # Of 0 and 1 the resamples' means are 0, 0.5 and 1; at two contexts the quantiles are extremes.
    values = np.array([0.0, 1.0])
    found = resampling.bootstrap(lambda chosen: values[chosen].mean(axis=1), 2, seed=0)
    assert found == (0.5, 0.0, 1.0)
    means = np.concatenate([i.mean(axis=1) for i in resampling._resamples(2, 20_000, seed=1)])
    assert np.mean(means == 0.5) == pytest.approx(0.5, abs=0.015)
    assert np.mean(means == 1.0) == pytest.approx(0.25, abs=0.015)


def test_undefined_resamples_are_left_out_if_they_are_few():
    values = np.random.default_rng(0).normal(size=30)

    def undefined(share):
        def statistic(chosen):
            means = values[chosen].mean(axis=1)
            means[1 : 1 + int(share * len(means))] = np.nan
            return means

        return resampling.bootstrap(statistic, 30, seed=1, draws=500)

    few, many = undefined(0.05), undefined(0.2)
    assert few.low < few.value == many.value < few.high
    assert math.isnan(many.low) and math.isnan(many.high)
    alone = resampling.bootstrap(lambda chosen: values[chosen].mean(axis=1), 1, seed=1)
    assert alone.value == values[0] and math.isnan(alone.low)
    assert math.isnan(resampling.bootstrap(lambda chosen: chosen, 0, seed=1).value)
