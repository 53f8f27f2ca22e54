"""Combinations of rewards: weighted sums, minima and Pareto ranks, against numpy and loops."""

import math

import numpy as np
import pytest
import torch

from lidar_lightning import rewards
from lidar_lightning.rewards import (
    QED,
    CallableReward,
    Combined,
    LogP,
    RingCount,
    SyntheticAccessibility,
    minimum,
    pareto_rank,
    score,
    weighted_sum,
)
from tests.rewards.test_rewards import ALANINE, BENZENE, CUBANE, SPIROPENTANE, lengths


def utilities(k, n, levels=None, seed=0):
    drawn = np.random.default_rng(seed).normal(size=(k, n))
    return np.round(drawn * levels) / levels if levels else drawn


def z(u):
    return (u - u.mean(1, keepdims=True)) / u.std(1, keepdims=True)


def test_weighted_sum_and_minimum_agree_with_numpy():
    u = utilities(3, 50) * np.array([[1.0], [1e4], [1e-4]]) + np.array([[0.0], [1e5], [-3.0]])
    weights = [1.0, -0.5, 2.0]
    np.testing.assert_allclose(weighted_sum(torch.tensor(u), weights).numpy(), weights @ z(u), atol=1e-5)
    np.testing.assert_allclose(weighted_sum(torch.tensor(u)).numpy(), z(u).sum(0), atol=1e-5)
    np.testing.assert_allclose(minimum(list(torch.tensor(u))).numpy(), z(u).min(0), atol=1e-5)
    named = {name: torch.tensor(row) for name, row in zip("abc", u, strict=True)}
    assert torch.equal(weighted_sum(named, weights), weighted_sum(torch.tensor(u), weights))


def test_constant_reward_prefers_no_sample():
    """0.1 is no binary fraction, so its mean may differ from it by rounding, which must not be blown up."""
    u = torch.stack([torch.randn(7), torch.full((7,), 0.1)])
    assert rewards.z_normalise(u)[1].tolist() == [0.0] * 7
    assert torch.equal(weighted_sum(u), weighted_sum(u[:1]))
    assert minimum(torch.ones(2, 1)).tolist() == [0.0]


def pareto_by_loops(u):
    k, n = u.shape
    left, rank, front = set(range(n)), [0] * n, 0

    def dominated(i):
        return any(all(u[c, j] >= u[c, i] for c in range(k)) and any(u[c, j] > u[c, i] for c in range(k)) for j in left)

    while left:
        best = {i for i in left if not dominated(i)}
        for i in best:
            rank[i] = -front
        left, front = left - best, front + 1
    return rank


@pytest.mark.parametrize(("k", "n", "levels"), [(1, 20, 2), (2, 60, 2), (2, 60, None), (3, 60, 2), (3, 1, None)])
def test_pareto_rank_agrees_with_loops(k, n, levels):
    u = utilities(k, n, levels, seed=k * n)
    rank = pareto_rank(torch.tensor(u))
    assert rank.tolist() == pareto_by_loops(u) and rank.max() == 0
    assert n == 1 or rank.min() < -1


def test_equal_samples_share_a_front():
    assert pareto_rank(torch.ones(2, 3)).tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ([torch.zeros(3), torch.zeros(4)], r"shapes \[\(3,\), \(4,\)\]"),
        ([], r"shapes \[\]"),
        (torch.zeros(3), "k >= 1 tensors of one length"),
        (torch.tensor([[0.0, 1.0], [0.0, math.nan]]), r"got \[0, 1\] NaN or infinite"),
    ],
)
@pytest.mark.parametrize("function", [weighted_sum, minimum, pareto_rank])
def test_combinations_refuse_bad_utilities(function, bad, message):
    with pytest.raises(ValueError, match=message):
        function(bad)


@pytest.mark.parametrize(
    ("how", "weights", "name"),
    [
        ("sum", None, "sum(ring_count,sa)"),
        ("sum", [2.0, 0.5], "sum(2*ring_count,0.5*sa)"),
        ("min", None, "min(ring_count,sa)"),
        ("pareto", None, "pareto(ring_count,sa)"),
    ],
)
def test_combined_from_stored_scores_equals_scoring_afresh(how, weights, name):
    samples = [BENZENE, CUBANE, ALANINE, "CCO", "", SPIROPENTANE]
    reward = Combined([RingCount(), SyntheticAccessibility()], how, weights)
    stored = {part.name: score(part, samples, [""] * 6) for part in reward.parts} | {"other": torch.zeros(6)}
    afresh = score(reward, samples, [""] * 6)
    assert torch.equal(reward.from_scores(stored), afresh)
    u = np.stack([stored["ring_count"].numpy(), -stored["sa"].numpy()]).astype(float)
    expected = {"sum": (weights or [1, 1]) @ z(u), "min": z(u).min(0), "pareto": pareto_by_loops(u)}[how]
    np.testing.assert_allclose(afresh.numpy(), expected, atol=1e-5)
    assert (reward.name, reward.modality) == (name, "molecule")
    assert reward.higher_is_better and not reward.differentiable


def test_combined_version_follows_its_parts():
    versions = [Combined([QED()]), Combined([QED(floor=-1)]), Combined([QED(floor=-1)], weights=[2])]
    assert len({reward.version for reward in versions}) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([QED()], "product"), "'product': choose 'sum', 'min' or 'pareto'"),
        (([QED(), LogP()], "sum", [1.0]), r"weights \[1.0\] for \['qed', 'logp'\]"),
        (([QED()], "sum", [math.nan]), "one finite weight per reward"),
        (([QED()], "min", [1.0]), "weights apply to how='sum' only"),
        (([],), r"distinct names, got \[\]"),
        (([QED(), QED()],), r"distinct names, got \['qed', 'qed'\]"),
        (([QED(), CallableReward(lengths, modality="image")],), r"different modalities: \['image', 'molecule'\]"),
    ],
)
def test_combined_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        Combined(*arguments)


def test_combined_names_missing_scores():
    with pytest.raises(ValueError, match=r"needs scores of \['logp'\], stored are \['qed'\]"):
        Combined([QED(), LogP()]).from_scores({"qed": torch.zeros(2)})


def test_wrong_number_of_weights_for_stored_utilities():
    with pytest.raises(ValueError, match=r"weights of shape \(3,\) for 2 rewards"):
        weighted_sum(torch.zeros(2, 5), [1, 2, 3])
