"""Fixtures: a small model, and a home folder of its own."""

import pytest
import torch

from lidar_lightning import UDLM
from lidar_lightning.backbones import smiles


@pytest.fixture
def at_home(tmp_path, monkeypatch):
    """~ is a folder `home`, and the working directory is another, which must stay empty."""
    (tmp_path / "home").mkdir()
    (tmp_path / "work").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "work")
    yield tmp_path / "home"
    assert not list((tmp_path / "work").iterdir())


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return UDLM(len(smiles.VOCABULARY), 12, hidden_dim=16, n_blocks=1, n_heads=2, cond_dim=16, name="tiny").eval()
