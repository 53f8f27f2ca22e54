"""Settings of trainings that make no sense are refused where they are given; a loss of NaN ends a run."""

import math

import lightning as L
import pytest
import torch

from datamodules import PreferenceDataModule, QM9DataModule, RolloutDataModule, ShapesDataModule
from lidar_lightning import DPOModule, PretrainModule, RewardTuningModule, ValueModule
from lidar_lightning.backbones.adapters import LoRA
from lidar_lightning.functional import lidar_shift
from lidar_lightning.guidance.lidar import LiDARGuidance
from lidar_lightning.guidance.settings import LiDARSettings
from lidar_lightning.pretraining.autoencoder import AutoencoderModule
from lidar_lightning.pretraining.latents import StableDiffusionPretrain
from lidar_lightning.pretraining.matching import MatchingModule
from lidar_lightning.pretraining.muon import MuonModule
from lidar_lightning.samplers.task import Task
from lidar_lightning.schedules import FlowMatching
from tests.conftest import tiny
from tests.pictures import BRIGHTNESS, backbone

NAN, INF = math.nan, math.inf


@pytest.mark.parametrize("value", [NAN, INF, -INF, -1.0, 0.0])
@pytest.mark.parametrize("name", ["beta", "lr"])
def test_dpo(name, value):
    with pytest.raises(ValueError, match=f"DPOModule needs {name} > 0 and finite, got {value}"):
        DPOModule(tiny(), **{name: value})


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"warmup": -5}, "warmup=-5"), ({"decay": NAN}, "decay=nan"), ({"decay": -0.1}, "decay=-0.1"),
        ({"lr": NAN}, "lr > 0 and finite, got nan"), ({"margin": NAN}, "must be finite, got nan"),
        ({"margin": INF}, "must be finite, got inf"),
    ],
)  # fmt: skip
def test_reward_tuning(setting, message):
    with pytest.raises(ValueError, match=message):
        RewardTuningModule(backbone(), BRIGHTNESS, steps=2, **setting)


@pytest.mark.parametrize(
    ("kind", "arguments", "setting", "message"),
    [
        (PretrainModule, [tiny()], {"lr": NAN}, "PretrainModule needs lr > 0"),
        (PretrainModule, [tiny()], {"warmup_fraction": -5}, "fractions of one run"),
        (PretrainModule, [tiny()], {"warmup_fraction": NAN}, "fractions of one run"),
        (PretrainModule, [tiny()], {"samples": -1}, "must not be negative, got -1"),
        (StableDiffusionPretrain, [None], {"dropout": NAN}, "fraction of the captions, got nan"),
        (StableDiffusionPretrain, [None], {"steps": 0}, "steps >= 1"),
        (StableDiffusionPretrain, [None], {"guidance": NAN}, "finite guidance"),
        (MatchingModule, [None], {"noise": NAN}, "finite, got nan"),
        (AutoencoderModule, [None], {"kl": INF}, "finite and at least 0, got inf"),
        (ValueModule, [(4,)], {"lr": INF}, "ValueModule needs lr > 0"),
        (ValueModule, [(4,)], {"width": 0}, "width > 0"),
        (ValueModule, [(0,)], {}, r"shape\[0\] > 0"),
        (ValueModule, [(4,)], {"vocab_size": 0}, "vocab_size > 0"),
        (LoRA, [], {"dropout": NAN}, "dropout in"),
        (RolloutDataModule, [None, None], {"steps": 1}, "steps at least 2"),
        (RolloutDataModule, [None, None], {"temperature": NAN}, "and nan"),
        (RolloutDataModule, [None, None], {"batch_size": 0}, "batch_size must be at least 1"),
        (QM9DataModule, [], {"batch_size": 0}, "must be at least 1"),
        (QM9DataModule, [], {"num_workers": -1}, "and -1"),
        (ShapesDataModule, [], {"num_workers": -1}, "got -1"),
        (PreferenceDataModule, ["x"], {"fraction": NAN}, "fraction must be in"),
    ],
)
def test_others(kind, arguments, setting, message):
    with pytest.raises(ValueError, match=message):
        kind(*arguments, **setting)


def test_losses_of_nan_end_a_run_before_they_reach_the_weights():
    class Diverging(MuonModule):
        def __init__(self):
            super().__init__(1e-2, 0.0, 0.0)
            self.layer = torch.nn.Linear(2, 2)

        def training_step(self, batch, batch_idx):
            return self.layer(torch.ones(2)).sum() * (NAN if batch_idx == 1 else 1.0)

        def matrices(self):
            return [self.layer.weight]

    module = Diverging()
    trainer = L.Trainer(
        max_steps=3, logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        accelerator="cpu",
    )  # fmt: skip
    with pytest.raises(ValueError, match="the loss of step 1 is NaN or infinite"):
        trainer.fit(module, torch.utils.data.DataLoader(range(3)))
    assert all(parameter.isfinite().all() for parameter in module.parameters())


def test_a_temperature_that_overflows(carbon_reward):
    samples, rewards = torch.randn(5, 2, dtype=torch.float64), torch.arange(5.0)
    with pytest.raises(ValueError, match=r"temperature \(lambda\) of 1e\+308 overflows with rewards as large as 4"):
        LiDARGuidance(samples, rewards, FlowMatching(), LiDARSettings(temperature=1e308))
    with pytest.raises(ValueError, match="overflows"):
        lidar_shift(samples, 0.5, 0.5, samples, rewards, 1e308)
    model = tiny()
    task = Task(model, model.solver(2), carbon_reward, temperature=1e308)
    with pytest.raises(ValueError, match="overflows"):
        task.value(model.x0_of(["CCCC", "C"]))
    # As large as it may be: the best member alone, and no NaN.
    guidance = LiDARGuidance(samples, rewards, FlowMatching(), LiDARSettings(temperature=1e307))
    change = guidance.change(torch.zeros(1, 2, dtype=torch.float64), 0.9)
    assert change.isfinite().all() and guidance.take_diagnostics()[0]["ess_r"] == pytest.approx(1)


@pytest.mark.parametrize("temperature", [NAN, -1.0])
def test_temperatures_of_the_functional_form(temperature):
    with pytest.raises(ValueError, match="must be at least 0"):
        lidar_shift(torch.zeros(1, 2), 0.5, 0.5, torch.zeros(3, 2), torch.arange(3.0), temperature)
