"""Pictures of the shapes task, against PIL's rasteriser."""

import math
import time

import pytest
import torch
from PIL import Image, ImageDraw
from torch.nn import functional as F

from lidar_lightning.shapes import COLOURS, SHAPES, render
from lidar_lightning.shapes.render import RGB, coverage, stands
from tests.shapes.scenes import drawn, picture

CIRCLES = {"circle": (1.0, 0.0), "ring": (1.1, 0.6)}


def corners(shape: str) -> list[tuple[float, float]]:
    """Corners of a shape of size 1, x to the right and y down, written down once more."""
    if shape == "square":
        return [(-0.85, -0.85), (0.85, -0.85), (0.85, 0.85), (-0.85, 0.85)]
    if shape == "triangle":
        return [(1.24 * math.sin(a), -1.24 * math.cos(a)) for a in (0, 2 * math.pi / 3, 4 * math.pi / 3)]
    if shape == "cross":
        quarter = [(0.36, -1.1), (0.36, -0.36), (1.1, -0.36)]
        return [p for k in range(4) for p in [turn(q, k) for q in quarter]]
    radii = [(1.25, 0.62)[k % 2] for k in range(10)]
    return [(r * math.sin(k * math.pi / 5), -r * math.cos(k * math.pi / 5)) for k, r in enumerate(radii)]


def turn(point: tuple[float, float], quarters: int) -> tuple[float, float]:
    for _ in range(quarters):
        point = (-point[1], point[0])
    return point


def supersampled(shape: str, x: float, y: float, size: float, times: int = 16) -> torch.Tensor:
    """PIL's rasteriser at 16 times the resolution, averaged."""
    image = Image.new("L", (64 * times, 64 * times))
    draw = ImageDraw.Draw(image)
    if shape in CIRCLES:
        for radius, fill in zip(CIRCLES[shape], (255, 0), strict=True):
            r = radius * size
            draw.ellipse([times * (x - r), times * (y - r), times * (x + r), times * (y + r)], fill=fill if r else 255)
            if not r:
                break
    else:
        draw.polygon([(times * (x + size * a), times * (y + size * b)) for a, b in corners(shape)], fill=255)
    pixels = torch.tensor(list(image.tobytes()), dtype=torch.float32).view(1, 1, 64 * times, 64 * times) / 255
    return F.avg_pool2d(pixels, times)[0, 0]


@pytest.mark.parametrize("shape", SHAPES)
def test_rendering_agrees_with_another_rasteriser(shape):
    for x, y, size in ((20.3, 33.7, 6.5), (32.0, 30.5, 13.9), (41.8, 22.1, 9.2)):
        mine = coverage(shape, torch.tensor([x]), torch.tensor([y]), torch.tensor([size]))[0]
        reference = supersampled(shape, x, y, size)
        assert (mine - reference).abs().max() < 0.3  # at corners the distance is not exact
        assert (mine - reference).abs().sum() < 0.03 * reference.sum()
    with pytest.raises(ValueError, match="there is no shape 'blob'"):
        coverage("blob", torch.tensor([1.0]), torch.tensor([1.0]), torch.tensor([1.0]))


def test_scenes_show_what_was_asked_for():
    for scene in drawn(1200):
        prompt, items = scene.prompt, scene.items
        assert [item.shape for item in items] == [shape for shape, _ in prompt.wanted]
        assert all(colour in (None, item.colour) for item, (_, colour) in zip(items, prompt.wanted, strict=True))
        for item in items:
            assert 1.25 * item.size <= min(item.x, item.y, 64 - item.x, 64 - item.y)
            for other in items:
                assert other is item or math.dist(item[2:4], other[2:4]) > 1.25 * (item.size + other.size)
        if prompt.relation:
            assert stands(prompt.relation, items[0][2:4], items[1][2:4], 1.3)


def test_relations():
    left, right, low = (10.0, 30.0), (40.0, 32.0), (12.0, 60.0)
    assert stands("left of", left, right) and stands("right of", right, left)
    assert stands("above", left, low) and stands("below", low, left)
    assert not stands("right of", left, right) and not stands("above", left, right) and not stands("below", left, low)


def test_pictures_are_clean():
    images = render(drawn(300))
    assert images.shape == (300, 3, 64, 64) and images.dtype == torch.float32
    assert images.min() >= 0 and images.max() <= 1
    middle = picture(("circle", "purple", 30, 30, 9), background=0.93)
    assert torch.allclose(middle[0, :, 30, 30], RGB[COLOURS.index("purple")])
    assert torch.allclose(middle[0, :, 5, 5], torch.full((3,), 0.93))


def test_rendering_is_fast_enough_for_training():
    scenes = drawn(256)
    render(scenes)
    start = time.process_time()
    render(drawn(256, seed=1))
    assert time.process_time() - start < 1.0  # 0.04 s on an idle core
