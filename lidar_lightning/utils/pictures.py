"""Pictures that come in or go out, as files or as other libraries hold them; everywhere else pixels are tensors."""

import io
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from lidar_lightning.utils.files import write_atomically

TOLERANCE = 1e-3
"""By how much values may leave [0, 1] through rounding in half precision."""

FRAMES = 16
"""Of a video, in a second."""


def check_pixels(what: str, pixels: Any) -> Tensor:
    """Returns the pixels if they are images. Their values are read, which waits for the device.

    Args:
        what: the beginning of the message, such as "reward 'x' scores".

    Raises:
        ValueError: unless they are a float tensor (n, 3, H, W), n >= 1, with values in [0, 1].
    """
    if not isinstance(pixels, Tensor) or not pixels.is_floating_point():
        received = f"a tensor of {pixels.dtype}" if isinstance(pixels, Tensor) else type(pixels).__name__
        raise ValueError(
            f"{what} images, a float tensor (n, 3, H, W) in [0, 1], got {received}: "
            f"decode the samples first, and divide bytes by 255"
        )
    if pixels.ndim != 4 or pixels.shape[1] != 3 or not pixels.numel():
        raise ValueError(f"{what} images (n, 3, H, W) with n >= 1, got shape {tuple(pixels.shape)}")
    low, high = (value.item() for value in pixels.detach().aminmax())
    if not (low >= -TOLERANCE and high <= 1 + TOLERANCE):
        raise ValueError(
            f"{what} images in [0, 1], got values from {low:.4g} to {high:.4g}: "
            f"pixels x in [-1, 1] become (x / 2 + 0.5).clamp(0, 1)"
        )
    return pixels


def as_pixels(images: Any) -> Tensor:
    """Converts pictures in any of the usual forms to a float32 tensor (n, 3, H, W) in [0, 1].

    Args:
        images: one of these or a list of them, all of one size: a PIL image, an array (H, W, 3) or tensor (3, H, W) in
            bytes or in [0, 1]; or a batch (n, H, W, 3) or (n, 3, H, W).

    Raises:
        ValueError: if they are not pictures in one of these forms, or are of several sizes.
    """
    if isinstance(images, Image.Image):
        images = [images]
    if isinstance(images, list | tuple):
        if not images:
            raise ValueError("give at least one picture, got an empty list")
        pictures = [one_picture(image) for image in images]
        if len(sizes := {tuple(picture.shape[1:]) for picture in pictures}) > 1:
            raise ValueError(f"pictures must be of one size, got (height, width) in {sorted(sizes)}: resize them first")
        return check_pixels("these are not", torch.stack(pictures))
    if isinstance(images, np.ndarray | Tensor):
        return as_pixels([images] if images.ndim == 3 else list(images))
    raise ValueError(f"pictures are PIL images, arrays or tensors, or a list of these, got {type(images).__name__}")


def one_picture(image: Any) -> Tensor:
    """Converts one picture in any of the forms that `as_pixels` takes: (3, H, W)."""
    if isinstance(image, Image.Image):
        image = np.asarray(image.convert("RGB"))
    if isinstance(image, np.ndarray) and image.ndim == 3:
        image = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
    if not isinstance(image, Tensor) or image.ndim != 3 or image.shape[0] != 3:
        shape = f" of shape {tuple(image.shape)}" if hasattr(image, "shape") else ""
        raise ValueError(
            "a picture is a PIL image, an array (H, W, 3) or a tensor (3, H, W), got "
            f"{'an array or tensor' if shape else type(image).__name__}{shape}"
        )
    return image.float() / 255 if image.dtype == torch.uint8 else image.float()


def slug(text: str) -> str:
    """A prompt in a form that can be part of a file name."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:40] or "prompt"


def to_png(pixels: Tensor, texts: Mapping[str, str] | None = None) -> bytes:
    """The bytes of a PNG file of a picture (3, H, W) in [0, 1], or, animated, of a video (F, 3, H, W), with texts in
    its metadata."""
    info = PngInfo()
    for key, value in (texts or {}).items():
        info.add_itxt(key, value)
    frames = pixels[None] if pixels.ndim == 3 else pixels
    arrays = (frames.detach().float().cpu().clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).numpy()
    first, *others = map(Image.fromarray, arrays)
    moving = {"save_all": True, "append_images": others, "duration": 1000 / FRAMES, "loop": 0} if others else {}
    buffer = io.BytesIO()
    first.save(buffer, "png", pnginfo=info, **moving)
    return buffer.getvalue()


def save_png(path: Path, pixels: Tensor, texts: Mapping[str, str] | None = None) -> None:
    """Writes `to_png` whole or not at all. Raises OSError naming the path if that fails."""
    write_atomically(path, to_png(pixels, texts))


def read_picture(source: Path | bytes, name: str = "") -> Tensor:
    """The pixels (3, H, W) float32 in [0, 1] of an image file or its bytes; of a video its first frame.

    Raises:
        ValueError: if it cannot be read; the message gives its name.
    """
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
            array = np.asarray(image.convert("RGB"))
    except (OSError, UnidentifiedImageError, ValueError) as error:
        shown = name or ("in these bytes" if isinstance(source, bytes) else str(source))
        raise ValueError(f"the picture {shown} cannot be read: {error}") from error
    return torch.from_numpy(array.copy()).permute(2, 0, 1).float() / 255


def fit(pixels: Tensor, height: int, width: int) -> Tensor:
    """Scales a picture (3, H, W) without distortion until it covers (height, width), and cuts it around its centre."""
    scale = max(height / pixels.shape[1], width / pixels.shape[2])
    size = [math.ceil(pixels.shape[1] * scale - 1e-6), math.ceil(pixels.shape[2] * scale - 1e-6)]
    if size != list(pixels.shape[1:]):
        pixels = torch.nn.functional.interpolate(pixels[None], size, mode="bicubic", antialias=True)[0].clamp(0, 1)
    top, left = (pixels.shape[1] - height) // 2, (pixels.shape[2] - width) // 2
    return pixels[:, top : top + height, left : left + width]


def grid(pictures: Tensor, columns: int | None = None) -> Tensor:
    """Sets pictures (n, 3, H, W) two white pixels apart in one picture (3, R (H + 2) - 2, C (W + 2) - 2)."""
    count, _, height, width = pictures.shape
    columns = columns or math.ceil(math.sqrt(count))
    rows = -(-count // columns)
    sheet = torch.ones(3, rows * (height + 2) - 2, columns * (width + 2) - 2)
    for place, picture in enumerate(pictures.cpu()):
        top, left = place // columns * (height + 2), place % columns * (width + 2)
        sheet[:, top : top + height, left : left + width] = picture
    return sheet
