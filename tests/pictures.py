"""A small Stable Diffusion and rewards of its pictures, for methods that differentiate a reward or must not."""

import torch

from lidar_lightning import StableDiffusion
from lidar_lightning.rewards import CallableReward
from lidar_lightning.samplers.task import Task
from lidar_lightning.solvers import GaussianAncestral
from tests.pipelines import build

BRIGHTNESS = CallableReward(
    lambda samples, prompts: samples.mean((1, 2, 3)), name="brightness", modality="image", differentiable=True
)
BLUNT = CallableReward(lambda samples, prompts: samples.detach().mean(1).tolist(), name="blunt")


def backbone(**settings):
    return StableDiffusion(build("StableDiffusion"), **{"guidance_scale": 3.0, "name": "tiny", **settings})


def pictures(model=None, reward=BRIGHTNESS, steps=4, **settings):
    model = model or backbone()
    return Task(model, GaussianAncestral(model.schedule, steps), reward, "a cat", **settings)


def brightness(given, x):
    with torch.no_grad():
        return given.backbone.decode(x).mean().item()
