"""Preparation of images for reward networks, on tensors, so that gradients reach the pixels.

Images are (n, 3, H, W) in [0, 1]. Resizing is bicubic with antialiasing and the coefficient -0.5, as in PIL.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from lidar_lightning.utils.pictures import check_pixels

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


def check_images(name: str, samples: Any) -> Tensor:
    """Returns the samples if they are images, and raises ValueError as `check_pixels`, naming the reward, otherwise."""
    return check_pixels(f"reward {name!r} scores", samples)


def resize(images: Tensor, height: int, width: int) -> Tensor:
    """Antialiased bicubic resize to (n, 3, height, width); it may overshoot [0, 1] at edges."""
    if images.shape[-2:] == (height, width):
        return images
    return functional.interpolate(images, (height, width), mode="bicubic", antialias=True)


def resize_crop(images: Tensor, size: int) -> Tensor:
    """Resizes the shorter edge to `size`, clips to [0, 1] as bytes would be, and crops the centre: (n, 3, size, size).

    It agrees with transformers' `CLIPImageProcessor` up to its rounding to bytes. torchvision's crop, which the
    original ImageReward uses, lies one pixel further for some odd margins; square images have no margins.
    """
    height, width = images.shape[-2:]
    shorter = min(height, width)
    images = resize(images, int(size * height / shorter), int(size * width / shorter)).clamp(0, 1)
    top, left = (images.shape[-2] - size) // 2, (images.shape[-1] - size) // 2
    return images[..., top : top + size, left : left + size]


def resize_pad(images: Tensor, size: int) -> Tensor:
    """Resizes the longer edge to `size`, without clipping, and centres the image on black: (n, 3, size, size).

    Source: the preprocessing of the `hpsv2` package (open_clip's `ResizeMaxSize`).
    """
    scale = size / max(images.shape[-2:])
    height, width = (max(round(edge * scale), 1) for edge in images.shape[-2:])
    top, left = (size - height) // 2, (size - width) // 2
    return functional.pad(resize(images, height, width), (left, size - width - left, top, size - height - top))


def normalise(images: Tensor) -> Tensor:
    """Computes (x - mean) / std for each channel, with the statistics of CLIP, which are also BLIP's."""
    mean, std = (images.new_tensor(values).view(3, 1, 1) for values in (CLIP_MEAN, CLIP_STD))
    return (images - mean) / std


def working_copy(images: Tensor, device: torch.device) -> Tensor:
    """The images on the device, in float32 unless they are float64, since half precision is too coarse to resize in."""
    return images.to(device, torch.float64 if images.dtype == torch.float64 else torch.float32)
