"""A step of DPO on two processes that share the weights of the network, against one process with all of them."""

import os
import runpy
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from lidar_lightning import DPOModule
from tests.backbones.test_any_pipeline import make

SCRIPT = """
import sys
import lightning as L, torch
from lightning.pytorch.strategies import ModelParallelStrategy
from torch.utils.data import DataLoader
from lidar_lightning import DPOModule
from lidar_lightning.backbones.adapters import LoRA
from tests.modules.test_fsdp import items, model

folder, devices = sys.argv[1], int(sys.argv[2])
torch.manual_seed(0)
DPOModule.step_seed = lambda self, batch: batch  # the same noise on each process
settings = {"draws": 1, "warmup": 0, "checkpointing": True, "export": f"{folder}/lora"}
module = DPOModule(model(), beta=1.0, lora=LoRA(2), lr=0.01, **settings)
strategy = "auto"
if devices > 1:
    strategy = ModelParallelStrategy(devices, 1, save_distributed_checkpoint=False)
trainer = L.Trainer(
    max_steps=2, accelerator="cpu", devices=devices, strategy=strategy, logger=False, enable_progress_bar=False,
    enable_model_summary=False, enable_checkpointing=False, use_distributed_sampler=False,
)
trainer.fit(module, DataLoader(items(module.backbone), batch_size=2))
if devices > 1:
    shares = {tuple(p.to_local().shape) != tuple(p.shape) for p in module.backbone.network.parameters()}
    assert True in shares, "nothing is spread"
trainer.save_checkpoint(f"{folder}/last.ckpt")
"""


def model():
    return make("ZImage")


def items(backbone):
    generator = torch.Generator().manual_seed(3)
    told = {name: rows[0] for name, rows in backbone.told(["a cat"]).items()}
    pairs = torch.randn(4, 2, 4, 16, 16, generator=generator)
    return [
        {"chosen": chosen, "rejected": rejected, "prompt": "a cat", "condition": told} for chosen, rejected in pairs
    ]


@pytest.mark.slow
def test_a_step_on_shared_weights_is_that_of_whole_ones(tmp_path, monkeypatch):
    script = tmp_path / "step.py"
    script.write_text(SCRIPT)
    for devices in "12":
        (tmp_path / devices).mkdir()
    monkeypatch.setattr(DPOModule, "step_seed", DPOModule.step_seed)  # which the script replaces
    monkeypatch.setattr(sys, "argv", [str(script), str(tmp_path / "1"), "1"])
    runpy.run_path(str(script))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([os.getcwd(), *sys.path])}
    found = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "2"), "2"],
        env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert found.returncode == 0, found.stdout + found.stderr
    states = [torch.load(tmp_path / n / "last.ckpt", weights_only=True)["state_dict"] for n in "12"]
    loras = [load_file(tmp_path / n / "lora" / "pytorch_lora_weights.safetensors") for n in "12"]
    for one, two in (states, loras):
        assert one.keys() == two.keys() and all(".lora_" in name for name in one)
        for name in one:
            torch.testing.assert_close(two[name], one[name], rtol=1e-3, atol=1e-4)
