"""Fixtures: image rewards on tiny networks that are on disk as published, and modules of the user."""

import importlib
import sys

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from lidar_lightning.rewards import Aesthetic, CLIPScore, HPSv21, ImageReward, PickScore
from tests.image_models import save_bert_tokenizer, save_clip
from tests.open_clip import OpenCLIP
from tests.rewards.networks import GOLDEN, TinyImageReward, weights


@pytest.fixture(scope="module")
def golden():
    return load_file(GOLDEN)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Folders and files of every network, as published."""
    folder = tmp_path_factory.mktemp("models")
    save_clip(folder / "clip")
    open_clip = OpenCLIP()
    torch.save({"epoch": 3, "state_dict": open_clip.state_dict()}, folder / HPSv21.filename)
    save_clip(folder / "open_clip", act="gelu")
    layers = nn.Sequential(nn.Linear(24, 9), nn.Dropout(), nn.Linear(9, 4), nn.Dropout(), nn.Linear(4, 1))
    torch.save({f"layers.{key}": value for key, value in layers.state_dict().items()}, folder / Aesthetic.filename)
    torch.save(weights(load_file(GOLDEN)), folder / ImageReward.filename)
    save_bert_tokenizer(folder / "bert")
    return folder


@pytest.fixture
def make(models):
    """A fresh reward by its name, and anything of its constructor."""
    arguments = {
        "clip_score": (CLIPScore, dict(model=models / "clip")),
        "pick_score": (PickScore, dict(model=models / "clip", tokenizer=models / "clip")),
        "hpsv2.1": (HPSv21, dict(model=models, clip=models / "open_clip")),
        "aesthetic": (Aesthetic, dict(model=models, clip=models / "clip")),
        "image_reward": (TinyImageReward, dict(model=models, tokenizer=models / "bert")),
    }

    def one(name, **other):
        kind, known = arguments[name]
        return kind(**{key: str(value) for key, value in known.items()} | other)

    return one


@pytest.fixture
def modules(tmp_path, monkeypatch):
    """Writes a module of that source and imports it, afresh."""
    monkeypatch.syspath_prepend(tmp_path / "modules")
    (tmp_path / "modules").mkdir()

    def load(name, source):
        (tmp_path / "modules" / f"{name}.py").write_text(source)
        monkeypatch.delitem(sys.modules, name, raising=False)
        importlib.invalidate_caches()
        return importlib.import_module(name)

    return load
