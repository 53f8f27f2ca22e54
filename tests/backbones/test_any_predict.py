"""`lidar predict` of every pipeline of the table in docs/how-to/any-pipeline.md from its folder, and its resumption."""

import pandas as pd
import pytest
import torch
import yaml
from PIL import Image

from lidar_lightning import cli
from tests import pipelines
from tests.any_pipelines import NAMES, make
from tests.pipelines import ddim, filled


def brightness(samples, prompts):
    return samples.mean((1, 2, 3)) * 1e2


def saved(name, folder):
    """A folder of the pipeline, and what it is called with; SD 2.1 is SD 1.5 whose network predicts v."""
    if name == "StableDiffusion21":
        pipe = filled(pipelines.stable_diffusion)
        pipe.scheduler = ddim(prediction_type="v_prediction")
        call = {"height": 32, "width": 32, "guidance_scale": 3.0}
    else:
        backbone = make(name)
        pipe, call = backbone.pipe, dict(backbone.call)
    pipe.save_pretrained(folder)
    return {**call, "num_frames": 9} if name == "Wan" else call


@pytest.mark.parametrize("name", [*NAMES, "StableDiffusion21"])
def test_a_folder_is_predicted_from_by_the_command_and_a_run_is_resumed(name, tmp_path):
    call = saved(name, tmp_path / "model")
    source = {"pretrained_model_name_or_path": str(tmp_path / "model"), "call": call}
    reward = {"path": f"{__name__}:brightness", "name": "brightness", "modality": "image"}
    model = {
        "backbone": {"class_path": "lidar_lightning.AnyPipeline.from_pretrained", "init_args": source},
        "reward": {"class_path": "lidar_lightning.rewards.CallableReward", "init_args": reward},
        "lookahead": {"class_path": "lidar_lightning.Lookahead", "init_args": {"steps": 2, "n": 3}},
        "steps": 3, "temperature": 0.5, "restart": 0.95, "out": str(tmp_path / "run"),
    }  # fmt: skip
    data = {"prompts": ["a cat"], "samples": 2, "batch_size": 1}
    config = {
        "model": {"class_path": "lidar_lightning.LiDARModule", "init_args": model},
        "data": {"class_path": "datamodules.PromptDataModule", "init_args": data},
        "trainer": {"accelerator": "cpu", "logger": False, "enable_progress_bar": False},
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    assert cli.main(["predict", "-c", str(tmp_path / "config.yaml")]) == 0
    images = tmp_path / "run" / "images"
    before = {path.name: path.read_bytes() for path in images.iterdir()}
    scores = pd.read_csv(tmp_path / "run" / "samples.csv")["brightness"]
    assert len(before) == 2 and (tmp_path / "run" / "report.html").is_file()
    next(images.iterdir()).unlink()
    assert cli.main(["predict", "-c", str(tmp_path / "config.yaml")]) == 0
    assert {path.name: path.read_bytes() for path in images.iterdir()} == before
    again = pd.read_csv(tmp_path / "run" / "samples.csv")["brightness"]
    torch.testing.assert_close(torch.tensor(again), torch.tensor(scores), rtol=1e-4, atol=1e-3)
    with Image.open(next(images.iterdir())) as picture:
        assert getattr(picture, "is_animated", False) == (name == "Wan")
