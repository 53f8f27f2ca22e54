"""Fixtures: a single thread, a small random UDLM, and a reward that scores any string."""

import os
from collections.abc import Iterator, Sequence

os.environ.setdefault("HF_HUB_OFFLINE", "1")

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


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Where tensors are small, more threads only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


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
