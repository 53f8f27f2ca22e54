"""Intervals of clustered samples: coverage on simulated data, closed forms, and what is refused."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from lidar_lightning.runs.intervals import FEW, Interval, interval, student


def simulated(rng, prompts, seeds, samples, skewed=False):
    """Values with mean 1: each is its prompt's effect, its bank's and its own; and their prompts and seeds."""
    effects = rng.exponential(1.0, prompts) - 1 if skewed else rng.normal(0, 1.0, prompts)
    effects = effects if prompts > 1 else 0 * effects
    banks = rng.normal(0, 0.5, (prompts, seeds))
    values = 1 + effects[:, None, None] + banks[..., None] + rng.normal(0, 1.0, (prompts, seeds, samples))
    names = [(p, s) for p in range(prompts) for s in range(seeds) for _ in range(samples)]
    return values.ravel(), *zip(*names, strict=True)


def covers(found):
    return found.low <= 1 <= found.high


def as_if_independent(values):
    half = 1.96 * values.std(ddof=1) / math.sqrt(len(values))
    return Interval(values.mean() - half, values.mean(), values.mean() + half)


@pytest.mark.parametrize(
    ("prompts", "seeds", "samples", "skewed"),
    [(1, 3, 64, False), (1, 6, 16, False), (6, 3, 4, False), (12, 1, 1, False), (FEW + 20, 2, 4, True)],
)
def test_coverage_is_the_nominal_one(prompts, seeds, samples, skewed):
    rng = np.random.default_rng(0)
    draws = [simulated(rng, prompts, seeds, samples, skewed) for _ in range(1000)]
    # 1,000 trials of 95% have a standard deviation of 0.7%.
    assert np.mean([covers(interval(*draw)) for draw in draws]) == pytest.approx(0.95, abs=0.022)
    if samples > 1:
        assert np.mean([covers(as_if_independent(draw[0])) for draw in draws]) < 0.88


def test_few_clusters_are_students():
    """Six banks of one prompt, as ring counts of LiDAR on QM9 at 64 calls."""
    means = [1.80, 2.45, 2.21, 2.13, 2.04, 1.85]
    values = [mean + offset for mean in means for offset in (-1.0, 0.5, 0.5)]
    seeds = [seed for seed in range(6) for _ in range(3)]
    low, high = stats.t.interval(0.95, 5, np.mean(means), stats.sem(means))
    assert interval(values, ["m"] * 18, seeds) == pytest.approx((low, np.mean(means), high))
    assert interval(values, ["m"] * 18, seeds).text(2) == "2.08 ± 0.25"


@pytest.mark.parametrize("degrees", [1, 2, 3, 4, 5, 10, 17, FEW - 2])
def test_students_quantile(degrees):
    assert student(degrees) == pytest.approx(stats.t.ppf(0.975, degrees), rel=1e-9)


def test_seeds_of_a_prompt_are_no_clusters_beside_other_prompts():
    values, prompts, seeds = [1.0, 3.0, 5.0, 7.0], ["a", "a", "b", "b"], [0, 1, 0, 1]
    assert interval(values, prompts, seeds).half == pytest.approx(stats.t.ppf(0.975, 1) * 2.0)


def test_many_clusters_are_bootstrapped_with_their_skew():
    values = np.random.default_rng(1).exponential(1.0, 200)
    found = interval(values, range(200), [0] * 200)
    assert found.high - found.mean > 1.02 * (found.mean - found.low) > 0
    again = interval(torch.from_numpy(values), range(200), [0] * 200)
    assert again == found
    reference = stats.bootstrap((values,), np.mean, method="percentile", rng=np.random.default_rng(2))
    ends = reference.confidence_interval
    assert (found.low, found.high) == pytest.approx((ends.low, ends.high), abs=0.02)


def test_one_cluster_has_no_interval():
    """However many samples share the bank."""
    found = interval(torch.arange(100.0), ["m"] * 100, [0] * 100)
    assert found.mean == 49.5 and math.isnan(found.low) and math.isnan(found.high) and found.text(1) == "49.5"


@pytest.mark.parametrize(("values", "prompts"), [([], []), ([1.0, 2.0], ["a"])])
def test_bad_input_is_named(values, prompts):
    with pytest.raises(ValueError, match=f"a prompt and a seed each, got {len(values)}, {len(prompts)}"):
        interval(values, prompts, [0] * len(values))
