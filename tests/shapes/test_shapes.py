import math
import random
import time
from collections import Counter, deque

import pytest
import torch
from PIL import Image, ImageDraw
from torch.nn import functional as F

from datamodules import ShapesDataModule
from datamodules.shapes import Scenes
from lidar_lightning.shapes import (
    CATEGORIES,
    COLOURS,
    SHAPES,
    Item,
    Prompt,
    Scene,
    compose,
    held_out_prompts,
    parse,
    read,
    render,
    verdicts,
)
from lidar_lightning.shapes.grammar import FRAMES, by_text, contents, draw_prompt, framed, twin
from lidar_lightning.shapes.render import RGB, coverage, stands
from lidar_lightning.shapes.verdict import components

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


def picture(*items: tuple, background: float = 0.95) -> torch.Tensor:
    return render([Scene(tuple(Item(*item) for item in items), Prompt("single_object", ()), background)])


def drawn(count: int, seed: int = 0, held_out: bool = False) -> list[Scene]:
    """Scenes of every category in turn."""
    rng = random.Random(seed)
    prompts = []
    for index in range(count):
        options = framed(CATEGORIES[index % 6], held_out)
        prompts.append(options[int(rng.random() * len(options))])
    return [compose(prompt, rng) for prompt in prompts]


def texts(scenes: list[Scene]) -> list[str]:
    return [scene.prompt.text for scene in scenes]


def share(images: torch.Tensor, prompts: list[str]) -> float:
    return sum(verdict.correct for verdict in verdicts(images, prompts)) / len(prompts)


def blurred(images: torch.Tensor, deviation: float) -> torch.Tensor:
    kernel = torch.exp(-torch.arange(-3, 4).square() / (2 * deviation**2))
    kernel = (kernel[:, None] * kernel / kernel.sum() ** 2).expand(3, 1, 7, 7)
    return F.conv2d(F.pad(images, (3, 3, 3, 3), mode="replicate"), kernel, groups=3)


def test_captions_are_geneval_s_six_categories():
    counts = [len(list(contents(category))) for category in CATEGORIES]
    assert counts == [6, 30, 18, 48, 120, 1680]
    assert len(by_text()) == sum(counts) * len(FRAMES)  # no two prompts share a caption
    for text in (
        "a circle", "a photo of an orange star", "three crosses", "a circle and a square",
        "a red ring and a blue square", "a sketch of a cross below a triangle",
    ):  # fmt: skip
        assert parse(text).text == text
    assert parse("  Four RINGS. ").wanted == (("ring", None),) * 4
    assert parse("a red ring above a cross".replace("red ", "")).relation == "above"


@pytest.mark.parametrize("text", ["", "a dog", "two circle", "a red circle above a square", "five stars"])
def test_other_captions_are_refused(text):
    with pytest.raises(ValueError, match="is no caption of the shapes task"):
        parse(text)
    with pytest.raises(ValueError, match="there is no category"):
        list(contents("colour"))


def test_held_out_captions_are_balanced_and_never_drawn():
    held_out = held_out_prompts()
    assert len(set(held_out)) == len(held_out) == 216
    assert Counter(parse(text).category for text in held_out) == dict.fromkeys(CATEGORIES, 36)
    assert [parse(text).category for text in held_out[:6]] == list(CATEGORIES)
    assert held_out_prompts(2)[:6] == held_out[:6]
    # The shipped models were trained on one and not on the other.
    assert not parse("a circle").held_out and parse("a ring").held_out
    rng = random.Random(0)
    drawn_texts = {draw_prompt(rng).text for _ in range(20_000)}
    assert drawn_texts.isdisjoint(held_out)
    # Not only the captions are new: outside of single objects, so is a pair of words in each of them.
    seen = {word for text in drawn_texts for word in pairs_of(parse(text))}
    for text in held_out:
        prompt = parse(text)
        assert prompt.category == "single_object" or not pairs_of(prompt) <= seen, text
    # Every word is seen in training all the same.
    assert {w for text in drawn_texts for w in text.split()} == {w for text in by_text() for w in text.split()}
    for number in (0, 37):
        with pytest.raises(ValueError, match="per_category"):
            held_out_prompts(number)


def test_training_captions_are_drawn_evenly():
    rng, count = random.Random(0), 12_000
    prompts = [draw_prompt(rng) for _ in range(count)]
    categories = Counter(prompt.category for prompt in prompts)
    singles = Counter(prompt for prompt in prompts if prompt.category == "single_object")
    for found in (categories, singles):
        mean = sum(found.values()) / len(found)
        assert max(abs(number - mean) for number in found.values()) < 4.5 * mean**0.5
    assert len(categories) == 6 and len(singles) == 36
    assert {draw_prompt(rng, "counting").category for _ in range(20)} == {"counting"}


def pairs_of(prompt: Prompt) -> set[frozenset]:
    shapes = [shape for shape, _ in prompt.wanted]
    pairs = {frozenset((shape, colour)) for shape, colour in prompt.wanted if colour}
    pairs |= {frozenset((len(shapes), shapes[0]))} if prompt.category == "counting" else set()
    return pairs | ({frozenset(shapes)} if len(set(shapes)) == 2 else set())


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


def test_examples_depend_on_seed_and_index_alone():
    scenes = Scenes(100, seed=3)
    together = scenes.__getitems__(range(8))
    for index in (7, 0, 3):
        alone = Scenes(100, seed=3)[index]
        assert torch.equal(alone["image"][0], together["image"][index])
        assert alone["prompt"] == [together["prompt"][index]]
    assert Scenes(100, seed=4)[0]["prompt"] != alone["prompt"] or not torch.equal(
        Scenes(100, seed=4)[0]["image"], Scenes(100, seed=3)[0]["image"]
    )
    both = Scenes(100, seed=3, twins=True).__getitems__([5])
    assert torch.equal(both["image"][0], together["image"][5]) and both["prompt"][0] == together["prompt"][5]
    assert both["prompt"][1] == twin_of(scenes, 5)


def twin_of(scenes: Scenes, index: int) -> str:
    return Scenes(scenes.count, scenes.seed, twins=True).scenes(index)[1].prompt.text


def test_data_module_trains_validates_and_predicts():
    data = ShapesDataModule(count=20, validation=12, samples=3, batch_size=8, seed=1)
    batches = list(data.train_dataloader())
    assert len(batches) == 2 and batches[0]["image"].shape == (8, 3, 64, 64) and len(batches[0]["prompt"]) == 8
    assert share(batches[0]["image"], batches[0]["prompt"]) == 1
    assert not any(parse(text).held_out for batch in batches for text in batch["prompt"])
    assert [text for batch in data.val_dataloader() for text in batch["prompt"]] == held_out_prompts()[:12]
    seen = [(p, i) for batch in data.predict_dataloader() for p in batch["prompts"] for i in batch["indices"]]
    assert sorted(seen) == sorted((prompt, index) for prompt in held_out_prompts() for index in range(3))
    with pytest.raises(ValueError, match="samples and batch_size must be at least 1"):
        ShapesDataModule(samples=0)
    with pytest.raises(ValueError, match="split is 'train' or 'validation'"):
        Scenes(3, split="test")
