"""Values learned from rollouts, against those that the enumerated chain has."""

import lightning as L
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from lidar_lightning.modules.value import ValueModule, rollouts
from lidar_lightning.samplers.svdd import SVDD
from tests.exact import (
    LENGTH,
    STATES,
    TABLE,
    TOKENS,
    VOCAB,
    total_variation,
)
from tests.token_laws import CHAIN, REWARD, noise, tokens_task


def test_rollouts_pair_states_with_where_they_end():
    """The last states are one step from the end, and the rewards of equal last states average to what they promise."""
    given = tokens_task()
    x, t, value = rollouts(given, 3000).tensors
    assert x.shape == (3000 * 5, LENGTH) and given.meter.network == 3000 * 6 and given.meter.rewards == 3000
    times = TOKENS.solver(6).times[1:-1]
    assert torch.equal(t.view(3000, 5), times.expand(3000, 5))
    assert (value.view(3000, 5) == value.view(3000, 5)[:, :1]).all()
    states = (x @ torch.tensor([16, 4, 1])).view(3000, 5)
    law = np.full(64, 1 / 64)
    for i in range(5):
        law = law @ CHAIN.matrices[i]
        mean, std = noise(law, 3000)
        found = np.bincount(states[:, i], minlength=64) / 3000
        assert total_variation(found, law) < mean + 4 * std


@pytest.mark.parametrize("target", ["soft", "mean"])
def test_a_learned_value_finds_the_true_one(target):
    torch.manual_seed(0)
    module = ValueModule((LENGTH,), VOCAB, target=target, lr=3e-3)
    loader = DataLoader(rollouts(tokens_task(), 2000), batch_size=500, shuffle=True)
    trainer = L.Trainer(
        max_epochs=12, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module, loader)
    truth = CHAIN.soft_values()
    if target == "mean":
        truth = [REWARD]
        for matrix in CHAIN.matrices[::-1]:
            truth.insert(0, matrix @ truth[0])
    states, law = torch.from_numpy(STATES), np.full(64, 1 / 64)
    for i, t in enumerate(TOKENS.solver(6).times.tolist()[1:-1], 1):
        law = law @ CHAIN.matrices[i - 1]
        with torch.no_grad():
            value = module(states, torch.full((64,), t, dtype=torch.float64)).numpy()
        error = np.sqrt(law @ (value - truth[i]) ** 2)
        assert error < 0.3
    plain, guided = (TABLE(s(tokens_task(), 300), []).mean() for s in (SVDD(1), SVDD(8, value=module)))
    assert guided > plain + 0.5


@pytest.mark.parametrize("shape", [(2,), (5, 4), (3, 16, 16)])
def test_values_of_continuous_data(shape):
    module = ValueModule(shape, width=8)
    x, t = torch.randn(3, *shape), torch.rand(3, dtype=torch.float64)
    loss = module.loss(module(x, t), torch.ones(3, dtype=torch.float64))
    assert module(x, t).shape == (3,) and loss.isfinite()
