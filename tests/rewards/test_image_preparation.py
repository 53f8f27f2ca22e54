"""Preparation of images on tensors: against PIL and transformers, by hand, and gradients against finite differences."""

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPImageProcessorPil

from lidar_lightning.rewards.images import check_images, normalise, resize, resize_crop, resize_pad, working_copy

SIZES = [(64, 64), (70, 101), (101, 70), (50, 70), (33, 200), (20, 30), (32, 32)]


def pictures(height, width, n=2, seed=0):
    """Bytes (n, 3, H, W): waves, an edge, and noise, so that ringing and antialiasing both show.

    The noise stays off the ends of the range, for PIL also clips between the passes along rows and columns.
    """
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = 127 + 120 * np.sin(x / 3 + y / 5)[None, None] * np.ones((n, 3, 1, 1))
    waves[:, 0] = 255 * (x > width / 2)
    waves[:, 1, : height // 2] = generator.integers(64, 192, size=(n, height // 2, width))
    return torch.from_numpy(waves.clip(0, 255).astype(np.uint8))


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_resize_crop_agrees_with_the_processor_of_clip(height, width):
    """It rounds to bytes after each pass of the resize, so two roundings apart."""
    bytes_ = pictures(height, width)
    processor = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    pil = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in bytes_]
    expected = processor(pil, return_tensors="pt")["pixel_values"]
    ours = normalise(resize_crop(bytes_ / 255, 32))
    assert ours.shape == expected.shape == (2, 3, 32, 32)
    torch.testing.assert_close(ours, expected, atol=1.5 / 255 / 0.26, rtol=0)
    assert (ours - expected).abs().mean() < 0.4 / 255 / 0.26


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_resize_pad_agrees_with_pil(height, width):
    scale = 32 / max(height, width)
    inner = round(height * scale), round(width * scale)
    bytes_ = pictures(height, width, n=1)
    fitted = Image.fromarray(bytes_[0].permute(1, 2, 0).numpy()).resize(inner[::-1], Image.Resampling.BICUBIC)
    expected = Image.new("RGB", (32, 32))
    expected.paste(fitted, ((32 - inner[1]) // 2, (32 - inner[0]) // 2))
    ours = resize_pad(bytes_ / 255, 32)[0].clamp(0, 1) * 255
    torch.testing.assert_close(ours, torch.from_numpy(np.array(expected)).permute(2, 0, 1).float(), atol=1.5, rtol=0)


def test_resize_pad_is_not_clipped_and_its_border_is_black():
    step = torch.zeros(1, 3, 40, 80)
    step[..., 40:] = 1
    padded = resize_pad(step, 33)
    assert padded.shape == (1, 3, 33, 33) and padded.max() > 1.01 and resize_crop(step, 33).max() == 1
    assert padded[..., :8, :].abs().max() == padded[..., 24:, :].abs().max() == 0 and padded[..., 8:24, :].min() < -0.01


def test_images_of_the_right_size_pass_unchanged():
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(resize_crop(images, 32), images) and torch.equal(resize_pad(images, 32), images)


def test_constant_images_stay_constant():
    grey = torch.full((1, 3, 50, 70), 0.3)
    torch.testing.assert_close(resize(grey, 21, 17), torch.full((1, 3, 21, 17), 0.3))


def test_normalise_by_hand():
    pixel = normalise(torch.tensor([0.5, 0.5, 0.5]).view(1, 3, 1, 1)).flatten()
    expected = [(0.5 - 0.48145466) / 0.26862954, (0.5 - 0.4578275) / 0.26130258, (0.5 - 0.40821073) / 0.27577711]
    torch.testing.assert_close(pixel, torch.tensor(expected))


@pytest.mark.parametrize("prepare", [resize_crop, resize_pad])
def test_gradients_reach_the_pixels(prepare):
    """Inside (0, 1) both are linear, so the gradient of a weighted sum is exact."""
    torch.manual_seed(0)
    images = (0.3 + 0.4 * torch.rand(1, 3, 13, 18, dtype=torch.float64)).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: normalise(prepare(x, 8)), images)


def test_half_precision_is_prepared_in_single():
    device = torch.device("cpu")
    kinds = {torch.float16: torch.float32, torch.bfloat16: torch.float32, torch.float64: torch.float64}
    for given, worked in kinds.items():
        assert working_copy(torch.zeros(1, 3, 4, 4, dtype=given), device).dtype == worked


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (["CCO"], r"'mine' scores images, a float tensor \(n, 3, H, W\) in \[0, 1\], got list"),
        (torch.zeros(2, 3, 4, 4, dtype=torch.uint8), "got a tensor of torch.uint8: .* divide bytes by 255"),
        (torch.zeros(3, 4, 4), r"n >= 1, got shape \(3, 4, 4\)"),
        (torch.zeros(2, 4, 4, 3), r"got shape \(2, 4, 4, 3\)"),
        (torch.zeros(0, 3, 4, 4), r"got shape \(0, 3, 4, 4\)"),
        (torch.tensor([-1.0, 0.5, 1.0]).view(1, 3, 1, 1), r"from -1 to 1: pixels x in \[-1, 1\] become"),
        (torch.tensor([0.0, 0.5, 255.0]).view(1, 3, 1, 1), "from 0 to 255"),
        (torch.tensor([0.0, 0.5, torch.nan]).view(1, 3, 1, 1), "from nan to nan"),
    ],
)
def test_other_samples_are_refused(samples, message):
    with pytest.raises(ValueError, match=message):
        check_images("mine", samples)


def test_rounding_beyond_the_range_is_accepted():
    images = torch.tensor([-0.0005, 0.5, 1.0005]).view(1, 3, 1, 1)
    assert check_images("mine", images) is images
