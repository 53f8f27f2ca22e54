"""Fixtures: a small random UDLM, and a reward that scores any string. All is run by one thread, and without network."""

import os
from collections.abc import Sequence

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # Tensors are small here: more threads only wait for each other.

import pytest
import torch

from lidar_lightning import MDLM, UDLM
from lidar_lightning.lookahead.bank import LookaheadBank, Provenance
from lidar_lightning.rewards import CallableReward


def carbons(samples: Sequence[str], prompts: Sequence[str]) -> list[float]:
    return [float(sample.count("C")) for sample in samples]


def tiny(seed: int = 0, length: int = 12, dim: int = 32) -> UDLM:
    """A random UDLM whose output layer is not zero."""
    torch.manual_seed(seed)
    model = UDLM(model_length=length, hidden_dim=dim, cond_dim=16, n_blocks=2, n_heads=2, dropout=0.0, name="tiny")
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


def tiny_mdlm(seed: int = 0, length: int = 12, redraw: float = 0.0) -> MDLM:
    """A random MDLM whose output layer is not zero."""
    torch.manual_seed(seed)
    small = {"model_length": length, "hidden_dim": 32, "cond_dim": 16, "n_blocks": 2, "n_heads": 2, "dropout": 0.0}
    model = MDLM(**small, redraw=redraw, name="tiny-masks")
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--kills", type=int, default=1, help="how often test_kills.py kills each command")


@pytest.fixture
def udlm() -> UDLM:
    return tiny()


@pytest.fixture
def carbon_reward() -> CallableReward:
    return CallableReward(carbons, name="carbons")


@pytest.fixture
def bank() -> LookaheadBank:
    generator = torch.Generator().manual_seed(0)
    return LookaheadBank(
        samples=torch.randint(35, (40, 12), generator=generator),
        rewards={"carbons": torch.arange(40.0)},
        provenance=Provenance("molecule", "tiny", "abc", "smiles-35x12", "Ancestral", 8, 40, 0),
        versions={"carbons": "1"},
        seconds=1.5,
    )
