"""Settings are checked before anything is drawn or claimed."""

import pytest
import torch
import yaml

from datamodules import PromptDataModule
from lidar_lightning import LiDARModule
from lidar_lightning.backbones import StableDiffusion, StableDiffusionXL
from lidar_lightning.rewards import QED, CallableReward, RingCount, ShapesVerdict
from lidar_lightning.runs.comparison import Comparison
from lidar_lightning.samplers import BestOfN
from tests.conftest import carbons, tiny
from tests.modules.test_lidar_module import configuration, predict
from tests.pipelines import build
from tests.test_cli import failing


@pytest.fixture(scope="module")
def pipelines(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pipelines")
    for name in ("StableDiffusion", "StableDiffusionXL"):
        build(name).save_pretrained(folder / name)
    return folder


def test_training_data_is_looked_for_before_anything_is_drawn(capsys, tmp_path):
    config = configuration(tmp_path, "run", samples=4)
    line = failing(capsys, "predict", "-c", str(config), "--model.init_args.training_data=nope.smi")
    assert line.startswith("lidar: error: model: no SMILES file at nope.smi") and not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"reward": carbons}, "a reward must be a Reward, got a function carbons: wrap a function as CallableReward"),
        ({"reward": RingCount}, r"a reward must be a Reward, got the class RingCount: make one, RingCount\(\)"),
        ({"metrics": [carbons]}, "a reward must be a Reward, got a function"),
        (
            {"metrics": [ShapesVerdict()]},
            "reward 'shapes_verdict' scores samples of modality 'image', but the backbone",
        ),
        ({"lookahead": 8}, "lookahead must be a Lookahead, or None for the plain model, got 8"),
        ({"backbone": torch.nn.Linear(1, 1)}, "the backbone must be a Backbone such as UDLM .*, got a Linear"),
    ],
)
def test_parts_of_a_run_are_what_they_should_be(parts, message):
    with pytest.raises(ValueError, match=message):
        LiDARModule(**{"backbone": tiny(), "reward": CallableReward(carbons), **parts})


def test_a_caption_that_a_metric_cannot_score_is_found_before_the_first_bank(tmp_path, monkeypatch):
    backbone = StableDiffusion(build("StableDiffusion"))
    monkeypatch.setattr(StableDiffusion, "predict", lambda *_: pytest.fail("the network was called"))
    bright = CallableReward(lambda pixels, prompts: pixels.mean((1, 2, 3)), "bright")
    module = LiDARModule(backbone, bright, steps=2, ess=0.1, metrics=[ShapesVerdict()], out=str(tmp_path / "run"))
    with pytest.raises(ValueError, match="'a dog' is no caption of the shapes task"):
        predict(module, 1, 1, ["a circle", "a dog"])
    with pytest.raises(ValueError, match="'a dog' is no caption of the shapes task"):
        Comparison(
            backbone, bright, {"best": BestOfN()}, ["a circle", "a dog"], str(tmp_path), metrics=[ShapesVerdict()]
        )
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("cls", "folder"), [(StableDiffusionXL, "StableDiffusion"), (StableDiffusion, "StableDiffusionXL")]
)
def test_a_pipeline_of_another_class_is_refused(pipelines, cls, folder):
    with pytest.raises(ValueError, match=f"the folder holds a {folder}Pipeline, whose .*'text_encoder_2'.* differ"):
        cls.from_pretrained(pipelines / folder)


def test_an_sdxl_class_on_an_sd_folder_claims_nothing(capsys, tmp_path, pipelines):
    backbone = {"pretrained_model_name_or_path": str(pipelines / "StableDiffusion")}
    model = {
        "backbone": {
            "class_path": "lidar_lightning.backbones.StableDiffusionXL.from_pretrained",
            "init_args": backbone,
        },
        "reward": "lidar_lightning.rewards.JPEGCompressibility",
        "out": str(tmp_path / "run"),
    }
    config = {
        "model": {"class_path": "lidar_lightning.LiDARModule", "init_args": model},
        "data": {"class_path": "datamodules.PromptDataModule", "init_args": {"prompts": "a cat", "samples": 1}},
        "trainer": {"logger": False, "accelerator": "cpu"},
    }
    (tmp_path / "sdxl.yaml").write_text(yaml.safe_dump(config))
    line = failing(capsys, "predict", "-c", str(tmp_path / "sdxl.yaml"))
    assert "model.backbone: no StableDiffusionXLPipeline at" in line and not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"batch_size": -1}, "batch_size must be at least 1, got -1"),
        ({"samples": 0}, "samples must be at least 1, got 0"),
        ({"seeds": [0, 0]}, "seeds must differ from each other"),
        ({"budgets": [8, 8]}, "budgets must differ from each other"),
        ({"samplers": {"best": 3}}, "samplers must be Samplers, but 'best' is of type int"),
        ({"training_data": "nope.smi"}, "no SMILES file at nope.smi"),
        ({"metrics": [QED]}, "a reward must be a Reward, got the class QED"),
    ],
)
def test_settings_of_a_comparison(tmp_path, settings, message):
    plain = {
        "samplers": {"best": BestOfN()},
        "prompts": "molecule",
        "out": str(tmp_path / "run"),
        "steps": 4,
        "budgets": [8],
    }
    with pytest.raises(ValueError, match=message):
        Comparison(tiny(), CallableReward(carbons), **{**plain, **settings})
    assert not (tmp_path / "run").exists()


def test_data_for_prediction_are_prompts():
    with pytest.raises(ValueError, match="prompts must not be empty: give a list with at least one"):
        PromptDataModule([])
