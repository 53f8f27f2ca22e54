"""The recipes of the image models, on tiny pipelines: guided samples, DPO on their banks, and both together."""

import importlib
import json

import pytest

from lidar_lightning.rewards import CallableReward
from tests.pipelines import build

REWARD = CallableReward(lambda samples, prompts: samples.mean((1, 2, 3)), name="brightness", modality="image")


@pytest.mark.parametrize(
    ("recipe", "name"), [("sd15", "StableDiffusion"), ("sdxl", "StableDiffusionXL"), ("flux", "Flux")]
)
def test_guided_samples_then_dpo_then_both(recipe, name, tmp_path):
    pipe = build(name)
    if name == "Flux":
        pipe.transformer.register_to_config(sample_size=16)
    pipe.save_pretrained(tmp_path / "model")
    module = importlib.import_module(f"recipes.{recipe}")
    settings = {"model": str(tmp_path / "model"), "dtype": "float32", "reward": REWARD, "preset": "dpm-3", "n": 4}
    settings |= {"steps": 3, "samples": 2, "batch_size": 2, "size": 32}
    out = module.lidar(["a cat"], str(tmp_path / "lidar"), **settings)
    checkpoint = module.dpo(
        f"{out}/banks", str(tmp_path / "dpo"), str(tmp_path / "model"), reward=REWARD, size=32, steps=1
    )
    both = module.lidar(["a cat"], str(tmp_path / "both"), **settings, method="dpo+lidar", checkpoint=checkpoint)
    plain = module.lidar(["a cat"], str(tmp_path / "plain"), **{**settings, "preset": None}, method="vanilla")
    rows = [json.loads((tmp_path / run / "summary.json").read_text())["methods"] for run in ("lidar", "both", "plain")]
    assert [next(iter(row)) for row in rows] == ["lidar", "dpo+lidar", "vanilla"]
    assert rows[0]["lidar"]["calls"] == 3 + 4 * 3 / 2 and rows[2]["vanilla"]["calls"] == 3
    assert (tmp_path / "dpo" / "lora" / "pytorch_lora_weights.safetensors").is_file()
    assert both != plain
