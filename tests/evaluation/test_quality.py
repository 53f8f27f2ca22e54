"""What no reward sees, against what is written out."""

import math
from itertools import combinations

import pytest
import torch
from rdkit import Chem
from rdkit.Chem import rdFingerprintGenerator
from rdkit.DataStructs import TanimotoSimilarity

from lidar_lightning import UDLM
from lidar_lightning.evaluation.quality import excess, fingerprint_diversity, nelbo_of


def test_the_nelbo_of_a_model_that_knows_nothing():
    """A uniform denoiser leaves its bound at L log V: every token is one of V."""
    model = UDLM(35, 8, hidden_dim=8, n_blocks=1, n_heads=2, dropout=0.0)
    x0 = torch.randint(0, 35, (300, 8), generator=torch.Generator().manual_seed(0))
    found = nelbo_of(model, x0, draws=64)
    error = found.std() / math.sqrt(300)
    assert found.shape == (300,) and found.mean() == pytest.approx(8 * math.log(35), abs=4 * error.item() + 0.5)
    assert torch.equal(found, nelbo_of(model, x0, draws=64))
    with pytest.raises(ValueError, match="at least 1 draw, got 0"):
        nelbo_of(model, x0, draws=0)


def test_excess_is_against_plain_samples_of_the_same_reward():
    rewards = torch.arange(4.0).repeat_interleave(100)
    reference = (10 * rewards + torch.randn(400, generator=torch.Generator().manual_seed(0))).double()
    found = excess(torch.tensor([12.0, 31.0]), torch.tensor([1.0, 3.0]), reference, rewards)
    wanted = torch.stack([12 - reference[rewards == 1].mean(), 31 - reference[rewards == 3].mean()])
    torch.testing.assert_close(found, wanted)
    # Of a continuous reward, the nearest 64.
    spread = torch.linspace(0, 1, 400)
    near = (spread - 0.5).abs().argsort()[:64]
    torch.testing.assert_close(
        excess(torch.tensor([0.0]), torch.tensor([0.5]), reference, spread)[0], -reference[near].double().mean()
    )
    with pytest.raises(ValueError, match="at least 64, got 3"):
        excess(rewards, rewards, reference[:3], rewards[:3])


def test_diversity_is_the_mean_over_pairs():
    strings = ["CCO", "CCN", "c1ccccc1", "C1CC1O", "nonsense(", ""]
    generator = rdFingerprintGenerator.GetMorganGenerator(2, fpSize=2048)
    prints = [generator.GetFingerprint(Chem.MolFromSmiles(text)) for text in strings[:4]]
    pairs = [1 - TanimotoSimilarity(one, other) for one, other in combinations(prints, 2)]
    assert fingerprint_diversity(strings) == pytest.approx(sum(pairs) / 6)
    assert fingerprint_diversity(["CCO", "OCC"]) == 0 and math.isnan(fingerprint_diversity(["CCO"]))
