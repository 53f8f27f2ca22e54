"""What a stranger gets who sets nothing: one set of values in signature, configurations and recipes."""

import inspect
from pathlib import Path

import pytest
import yaml

from lidar_lightning import LiDARModule, Lookahead, StableDiffusion
from lidar_lightning.guidance.settings import RECOMMENDED, LiDARSettings
from lidar_lightning.rewards import CallableReward
from recipes import qm9_lidar, shapes
from tests.conftest import tiny
from tests.pipelines import build

ROOT = Path(__file__).parents[2]
LIGHT = CallableReward(lambda pixels, prompts: pixels.mean((1, 2, 3)), "light", modality="image")


def settings(modality):
    return LiDARSettings(**{key: value for key, value in RECOMMENDED[modality].items() if key != "steps"})


@pytest.mark.parametrize("given", [{}, {"scale": 1.0, "rounds": 1}])
def test_without_settings_those_of_the_modality_are_taken(carbon_reward, given):
    molecules = LiDARModule(tiny(), carbon_reward, Lookahead(3, 30), **given)
    assert molecules.steps == 8 and molecules.sampler.settings == settings("molecule") and molecules.sampler.whole
    pictures = LiDARModule(StableDiffusion(build("StableDiffusion")), LIGHT, Lookahead(2), **given)
    assert pictures.steps == 8 and pictures.sampler.settings == settings("image") and not pictures.sampler.whole


def test_a_setting_that_is_given_makes_the_others_what_they_say(carbon_reward):
    published = LiDARModule(tiny(), carbon_reward, Lookahead(3, 30), ess=0.1)
    assert published.steps == 32 and published.sampler.settings == LiDARSettings(ess=0.1)
    assert LiDARModule(tiny(), carbon_reward, Lookahead(3, 30), 6).steps == 6
    assert LiDARModule(tiny(), carbon_reward, None).steps == 32
    with pytest.raises(ValueError, match="at least 1 step, got 0"):
        LiDARModule(tiny(), carbon_reward, Lookahead(3, 30), 0)


@pytest.mark.parametrize(("name", "modality"), [("qm9", "molecule"), ("shapes", "image"), ("shapes-flux", "image")])
def test_configurations_and_recipes_say_the_same(name, modality):
    given = yaml.safe_load((ROOT / "configs" / name / "lidar.yaml").read_text())["model"]["init_args"]
    assert {key: given[key] for key in RECOMMENDED[modality]} == RECOMMENDED[modality]
    recipe, steps = (qm9_lidar.main, "restart_steps") if modality == "molecule" else (shapes.lidar, "guided_steps")
    parameters = inspect.signature(recipe).parameters
    said = {key: parameters[steps if key == "steps" else key].default for key in RECOMMENDED[modality]}
    assert said == RECOMMENDED[modality]
