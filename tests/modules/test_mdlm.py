"""Masked diffusion through the modules: guided samples with restarts, rounds and moves, and DPO."""

import math

import pytest
import torch

from lidar_lightning import DPOModule, LiDARModule, Lookahead
from tests.conftest import tiny, tiny_mdlm
from tests.modules.test_lidar_module import mean, predict, strings


def module(reward, **settings):
    return LiDARModule(tiny_mdlm(), reward, Lookahead(3, n=40), steps=6, **settings)


def test_guidance_raises_the_reward(carbon_reward):
    vanilla = mean(predict(LiDARModule(tiny_mdlm(), carbon_reward, None, steps=6), 60))
    assert mean(predict(module(carbon_reward, scale=2.0), 60)) > vanilla + 0.3
    assert mean(predict(module(carbon_reward, restart=0.5, moves=2), 60)) > vanilla + 0.3
    assert mean(predict(module(carbon_reward, restart=0.5, rounds=2, candidates=2), 60, 60)) > vanilla + 0.6


def test_samples_do_not_depend_on_the_batch_and_no_smoothing_is_refused(carbon_reward):
    one, other = (strings(predict(module(carbon_reward, restart=0.5), 12, size)) for size in (5, 12))
    assert one == other
    with pytest.raises(ValueError, match="soon none does"):
        predict(module(carbon_reward, smoothing=0.0), 2)


def test_banks_of_either_noise_guide_the_other(carbon_reward):
    """Their tokens are the same, and so is their space."""
    lidar = LiDARModule(tiny_mdlm(), carbon_reward, Lookahead(3, n=40, backbone=tiny()), steps=6, ess=0.2)
    assert len(strings(predict(lidar, 8))) == 8


def test_dpo_starts_at_the_reference_and_learns_the_pair():
    given = DPOModule(tiny_mdlm(), beta=0.5, lora=None, draws=4)
    chosen, rejected = torch.randint(5, 35, (2, 8, 12), generator=torch.Generator().manual_seed(0))
    terms = given.terms(chosen, rejected, torch.Generator().manual_seed(1))[0]
    torch.testing.assert_close(terms.loss, torch.full((8,), math.log(2)))
    optimizer = torch.optim.Adam(given.backbone.parameters(), lr=1e-2)
    for step in range(20):
        optimizer.zero_grad()
        given.terms(chosen, rejected, torch.Generator().manual_seed(step))[0].loss.mean().backward()
        optimizer.step()
    assert (given.terms(chosen, rejected, torch.Generator().manual_seed(99))[0].margin > 0).float().mean() > 0.8
