"""Samplers that choose, from the YAML of `lidar compare` and of `lidar predict`; the page that lists all samplers."""

import json
import re
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml

from lidar_lightning import UDLM, samplers
from lidar_lightning.backbones import smiles
from lidar_lightning.cli import main
from lidar_lightning.samplers import ParticleSampler, Sampler

ROOT = Path(__file__).parents[2]
LOOKAHEAD = {"class_path": "lidar_lightning.Lookahead", "init_args": {"steps": 2, "n": 12}}
RIVALS = {
    "drafts": ("BestOfN", {"steps": 2}),
    "lookaheads": ("BestLookaheads", {"lookahead": LOOKAHEAD}),
    "draft": ("DraftThenFinish", {"draft_steps": 1, "at": 0.6}),
    "beam": ("BeamSearch", {"beams": 2, "ahead_steps": 1, "steps": 2}),
    "threshold": ("VerifierThreshold", {"threshold": 1.0, "starts": 2, "calls": 9, "steps": 3}),
    "smc": ("SMC", {"every": 1, "start": 1.0, "stop": 0.0, "steps": 2}),
    "das": ("DAS", {"derivative_free": True, "steps": 3, "keep": "best"}),
    "svdd": ("SVDD", {"children": 2, "steps": 3}),
    "rbf": ("RBF", {"starts": 2, "calls": 9, "steps": 3}),
    "lidar+smc": ("LiDARSMC", {"lookahead": LOOKAHEAD, "steps": 2}),
}


def spoken(name):
    kind, settings = RIVALS[name]
    return {"class_path": f"lidar_lightning.samplers.{kind}", "init_args": settings}


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """What both configurations say: a tiny model of molecules, and how it is scored."""
    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    UDLM(len(smiles.VOCABULARY), 12, hidden_dim=16, n_blocks=1, n_heads=2, cond_dim=16).save_pretrained(folder)
    (folder / "training.txt").write_text("CCO\nC1CC1\n")
    backbone = {"class_path": "lidar_lightning.UDLM.from_pretrained"}
    return {
        "backbone": backbone | {"init_args": {"pretrained_model_name_or_path": str(folder)}},
        "reward": {"class_path": "lidar_lightning.rewards.RingCount"},
        "training_data": str(folder / "training.txt"),
    }


def test_they_are_compared_at_equal_calls(shared, tmp_path):
    given = {"prompts": "m", "samples": 3, "steps": 5, "budgets": [24], "out": str(tmp_path / "out")}
    config = shared | given | {"samplers": {name: spoken(name) for name in RIVALS}}
    (tmp_path / "compare.yaml").write_text(yaml.safe_dump(config))
    assert main(["compare", "--config", str(tmp_path / "compare.yaml")]) == 0
    rows = json.loads((tmp_path / "out" / "summary.json").read_text())["methods"]
    assert set(rows) == {"vanilla"} | {f"{name} @ 24" for name in RIVALS}
    assert all(0.95 * 24 <= numbers["calls"] <= 24 for row, numbers in rows.items() if row != "vanilla")


@pytest.mark.parametrize("name", RIVALS)
def test_they_predict(name, shared, tmp_path):
    model = shared | {"sampler": spoken(name), "steps": 5, "temperature": 1.0, "out": str(tmp_path / "out")}
    data = {"prompts": "m", "samples": 3, "batch_size": 3}
    quiet = {"logger": False, "enable_progress_bar": False, "accelerator": "cpu"}
    config = {
        "model": {"class_path": "lidar_lightning.SamplingModule", "init_args": model},
        "data": {"class_path": "datamodules.PromptDataModule", "init_args": data},
        "trainer": quiet,
    }
    (tmp_path / "predict.yaml").write_text(yaml.safe_dump(config))
    assert main(["predict", "-c", str(tmp_path / "predict.yaml")]) == 0
    assert len(pd.read_csv(tmp_path / "out" / "samples.csv")) == 3
    assert (tmp_path / "out" / "report.html").exists()


def test_the_page_lists_every_sampler():
    kinds = [getattr(samplers, name) for name in samplers.__all__]
    named = {kind.__name__ for kind in kinds if isinstance(kind, type) and issubclass(kind, Sampler)}
    rows = [
        line.split("|")[1] for line in (ROOT / "docs" / "samplers.md").read_text().splitlines() if line[:3] == "| `"
    ]
    assert {name for row in rows for name in re.findall("`(.*?)`", row)} == named - {"Sampler", "ParticleSampler"}
    assert issubclass(samplers.SMC, ParticleSampler)
