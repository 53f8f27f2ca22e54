"""The program that judges pictures of the shapes task: right of what is drawn, wrong of everything else."""

import math
import random
from collections import deque

import pytest
import torch
from torch.nn import functional as F

from lidar_lightning.shapes import COLOURS, compose, held_out_prompts, read, render, verdicts
from lidar_lightning.shapes.grammar import twin
from lidar_lightning.shapes.render import RGB
from lidar_lightning.shapes.verdict import components
from tests.shapes.scenes import drawn, picture, share, texts


def blurred(images: torch.Tensor, deviation: float) -> torch.Tensor:
    kernel = torch.exp(-torch.arange(-3, 4).square() / (2 * deviation**2))
    kernel = (kernel[:, None] * kernel / kernel.sum() ** 2).expand(3, 1, 7, 7)
    return F.conv2d(F.pad(images, (3, 3, 3, 3), mode="replicate"), kernel, groups=3)


def test_every_rendered_scene_is_read_right():
    for held_out in (False, True):
        scenes = drawn(3000, seed=5, held_out=held_out)
        images = torch.cat([render(scenes[i : i + 500]) for i in range(0, len(scenes), 500)])
        found = verdicts(images, texts(scenes))
        assert all(verdict.correct and not verdict.reason for verdict in found)
        for verdict, scene in zip(found, scenes, strict=True):
            for item in scene.items:
                seen = min(verdict.seen, key=lambda seen: math.dist((seen.x, seen.y), item[2:4]))  # noqa: B023
                assert (seen.shape, seen.colour) == (item.shape, item.colour)
                assert math.dist((seen.x, seen.y), item[2:4]) < 0.2


@pytest.mark.parametrize(
    ("deviation", "noise", "least"), [(0.01, 0.05, 0.995), (0.7, 0.0, 0.995), (0.6, 0.03, 0.995), (1.0, 0.0, 0.97)]
)
def test_reading_withstands_blur_and_noise(deviation, noise, least):
    torch.manual_seed(0)
    scenes = drawn(600, seed=6)
    images = blurred(render(scenes), deviation)
    assert share(images + noise * torch.randn_like(images), texts(scenes)) >= least


def test_twins_differ_in_one_respect_and_are_judged_wrong():
    rng = random.Random(2)
    for held_out in (False, True):
        scenes = drawn(600, seed=7, held_out=held_out)
        twins = [twin(scene.prompt, rng) for scene in scenes]
        assert held_out or not any(prompt.held_out for prompt in twins)
        assert all(one.prompt != other for one, other in zip(scenes, twins, strict=True))
        assert all(one.prompt.category == other.category for one, other in zip(scenes, twins, strict=True))
        images = render([compose(prompt, rng) for prompt in twins])
        assert share(images, [prompt.text for prompt in twins]) == 1
        assert share(images, texts(scenes)) == 0


def test_wrong_pictures_and_why():
    red, blue = ("circle", "red", 16, 20, 9), ("square", "blue", 46, 44, 9)
    cases = [
        ("a blue circle", picture(red), "no blue circle"),
        ("a square", picture(red), "no square"),
        ("two circles", picture(red), "1 objects instead of 2"),
        ("a circle", picture(red, blue), "2 objects instead of 1"),
        ("a blue circle and a red square", picture(red, blue), "no blue circle"),
        ("a circle right of a square", picture(("circle", "red", 14, 32, 8), ("square", "red", 48, 34, 8)), "right of"),
        ("a circle above a square", picture(("circle", "red", 14, 32, 8), ("square", "red", 48, 34, 8)), "above"),
        ("a circle", torch.full((1, 3, 64, 64), 0.95), "0 objects"),
        ("a circle", torch.zeros(1, 3, 64, 64), "no circle"),
        ("two circles", picture(red, blue), "no circle"),
    ]
    for text, image, reason in cases:
        (verdict,) = verdicts(image, [text])
        assert not verdict.correct and reason in verdict.reason, (text, verdict)
    assert share(torch.cat([picture(red, blue)] * 2), ["a circle and a square", "a red circle and a blue square"]) == 1


def test_noise_and_blobs_are_never_right():
    torch.manual_seed(0)
    prompts = held_out_prompts()
    assert share(torch.rand(216, 3, 64, 64), prompts) == 0
    smooth = F.interpolate(torch.rand(216, 3, 6, 6), (64, 64), mode="bilinear")
    assert share(smooth, prompts) <= 0.01
    # Half a star is no star, and neither is one with a piece of another colour.
    star = picture(("star", "green", 30, 30, 12))
    star[..., 32:] = 0.95
    assert not read(star)[0] or read(star)[0][0].shape != "star"
    whole = picture(("square", "green", 30, 30, 12))
    whole[:, :, 30:, :] = torch.where(whole[:, :, 30:] < 0.8, RGB[0].view(1, 3, 1, 1), whole[:, :, 30:])
    assert share(whole, ["a square"]) == 0


@pytest.mark.parametrize(("side", "seen"), [(4, 1), (5, 2)])
def test_spots_below_20_pixels_are_dirt(side, seen):
    image = picture(("circle", "red", 20, 20, 9))
    image[0, :, 50 : 50 + side, 50 : 50 + side] = RGB[COLOURS.index("blue")].view(3, 1, 1)
    assert len(read(image)[0]) == seen
    assert verdicts(image, ["a circle"])[0].correct == (seen == 1)


@pytest.mark.parametrize(("height", "shape"), [(12, "square"), (20, None)])
def test_what_fits_no_shape_has_none(height, shape):
    """A rectangle a x b covers 1 / (2 sqrt(b / a) - 1) of its union with the square: 0.84 and 0.55."""
    image = torch.full((1, 3, 64, 64), 0.95)
    image[0, :, 22 : 22 + height, 30:40] = RGB[COLOURS.index("green")].view(3, 1, 1)
    ((seen,),) = read(image)
    assert seen.shape == shape and seen.colour == "green" and seen.area == pytest.approx(10 * height, rel=0.02)
    assert seen.fit >= 1 / (2 * (height / 10) ** 0.5 - 1) - 0.03


def test_bad_pictures_are_named():
    with pytest.raises(ValueError, match=r"are \(n, 3, 64, 64\), got \(1, 3, 32, 32\)"):
        read(torch.zeros(1, 3, 32, 32))
    with pytest.raises(ValueError, match="NaN"):
        read(torch.full((1, 3, 64, 64), torch.nan))
    with pytest.raises(ValueError, match="2 pictures and 1 prompts"):
        verdicts(torch.zeros(2, 3, 64, 64), ["a circle"])


def test_components_agree_with_flood_fill():
    torch.manual_seed(0)
    for colours in (2, 3):
        classes = torch.randint(-1, colours, (6, 14, 17))
        number = components(classes)
        for one, labels in zip(classes.tolist(), number.tolist(), strict=True):
            regions = flood(one)
            assert {frozenset(cells) for cells in regions} == {
                frozenset(c for row in cell_rows(labels, name) for c in row)
                for name in {v for row in labels for v in row if v >= 0}
            }
    spiral = torch.full((1, 9, 9), -1)
    for k in range(0, 9, 2):
        spiral[0, k] = 0
        spiral[0, max(k - 1, 0), 8 if k % 4 == 2 else 0] = 0
    assert len(components(spiral)[spiral >= 0].unique()) == len(flood(spiral[0].tolist()))


def cell_rows(labels: list[list[int]], name: int) -> list[list[tuple[int, int]]]:
    return [[(y, x) for x, value in enumerate(row) if value == name] for y, row in enumerate(labels)]


def flood(classes: list[list[int]]) -> list[set[tuple[int, int]]]:
    regions, left = [], {(y, x) for y, row in enumerate(classes) for x, v in enumerate(row) if v >= 0}
    while left:
        queue, region = deque([left.pop()]), set()
        while queue:
            y, x = queue.popleft()
            region.add((y, x))
            for near in ((y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)):
                if near in left and classes[near[0]][near[1]] == classes[y][x]:
                    left.remove(near)
                    queue.append(near)
        regions.append(region)
    return regions
