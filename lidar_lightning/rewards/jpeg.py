"""The size of an image as a JPEG file, small or large, as a reward that needs no network. Prompts are not looked at."""

import io
from abc import abstractmethod
from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor

from lidar_lightning.rewards.base import Reward
from lidar_lightning.rewards.images import check_images


def jpeg_kilobytes(images: Tensor, quality: int = 95) -> Tensor:
    """Size (n,) float32 of images (n, 3, H, W) in [0, 1] as JPEG files, in units of 1000 bytes.

    Pixels are rounded to bytes, and encoded on the CPU with Pillow's defaults otherwise (4:2:0 chroma).
    """
    pixels = (images.detach().float() * 255).round().clamp(0, 255).to("cpu", torch.uint8)
    sizes = []
    for image in pixels.permute(0, 2, 3, 1).contiguous().numpy():
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, format="JPEG", quality=quality)
        sizes.append(buffer.tell() / 1000)
    return torch.tensor(sizes)


class JPEGReward(Reward):
    """The base of rewards that are a function of an image's size in kB as a JPEG file; not differentiable.

    Source: Black et al., "Training Diffusion Models with Reinforcement Learning" (DDPO), arXiv:2305.13301.

    Args:
        quality: the encoder's quality from 1 to 95, which is part of the version; DDPO uses 95.

    Raises:
        ValueError: if the quality is not from 1 to 95.
    """

    modality = "image"

    def __init__(self, quality: int = 95):
        if not 1 <= quality <= 95:
            raise ValueError(f"the quality of a JPEG is from 1 to 95, got {quality}")
        self.quality = quality
        self.version = f"1, quality={quality}"

    @abstractmethod
    def value(self, kilobytes: Tensor) -> Tensor:
        """Scores (n,) from sizes (n,)."""

    def __call__(self, samples: Tensor, prompts: Sequence[str]) -> Tensor:
        """Scores (n,) float32, on the device of the samples, which are images (n, 3, H, W) in [0, 1].

        Raises:
            ValueError: if the samples are no such images.
        """
        images = check_images(self.name, samples)
        return self.value(jpeg_kilobytes(images, self.quality)).to(images.device)


class JPEGCompressibility(JPEGReward):
    """Minus the size in kB: simple images score high."""

    name = "jpeg_compressibility"

    def value(self, kilobytes: Tensor) -> Tensor:
        return -kilobytes


class JPEGIncompressibility(JPEGReward):
    """The size in kB: detailed images score high."""

    name = "jpeg_incompressibility"

    def value(self, kilobytes: Tensor) -> Tensor:
        return kilobytes
