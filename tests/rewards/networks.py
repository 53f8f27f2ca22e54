"""Tiny random networks of image rewards, and pictures for them."""

from pathlib import Path

import torch
from torch.nn import functional

from lidar_lightning.rewards import ImageReward

GOLDEN = Path(__file__).parents[1] / "golden" / "image_reward.safetensors"
PROMPTS = ["a red cat", "two dogs", "a red cat"]
NETWORKS = ["clip_score", "pick_score", "hpsv2.1", "aesthetic", "image_reward"]


class TinyImageReward(ImageReward):
    """Of the golden file's network, whose heads are 8 wide in both towers."""

    head_width = 8


def weights(golden):
    """The state of the package's network in the golden file, in float32."""
    stored = {key.removeprefix("weights."): value for key, value in golden.items() if key.startswith("weights.")}
    return {key: value.float() if value.dtype == torch.float8_e4m3fn else value for key, value in stored.items()}


def images(n=3, height=40, width=48, seed=0, dtype=torch.float32):
    """Smooth enough that resizing stays inside (0, 1), where gradients are smooth."""
    generator = torch.Generator().manual_seed(seed)
    coarse = 0.2 + 0.6 * torch.rand(n, 3, 5, 6, generator=generator, dtype=dtype)
    return functional.interpolate(coarse, (height, width), mode="bilinear")
