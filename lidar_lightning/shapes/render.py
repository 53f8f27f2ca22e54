"""Scenes of the shapes task: objects placed for a prompt, and their anti-aliased pictures."""

import math
import random
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lidar_lightning.shapes.grammar import COLOURS, SHAPES, Prompt, pick

SIZE = 64
RGB = torch.tensor([
    [0.85, 0.15, 0.15], [0.95, 0.50, 0.05], [0.95, 0.85, 0.10], [0.15, 0.65, 0.25],
    [0.15, 0.30, 0.85], [0.50, 0.20, 0.70], [1.00, 0.50, 0.80], [0.10, 0.10, 0.10],
])  # fmt: skip
"""The colours (8, 3), in the order of `COLOURS`."""
RADIUS = 1.25
"""No point of a shape lies further from its centre than this many sizes."""
SIZES = {1: (8.0, 14.0), 2: (7.5, 11.5), 3: (6.5, 9.0), 4: (6.5, 7.8)}
"""Least and largest size of an object in pixels, by the number of objects."""
GAP = 2.0
STEEPNESS = 1.3
NOTCH = 0.62
"""How far the inner corners of a star lie from its centre."""


class Item(NamedTuple):
    """An object: its centre (x to the right, y down) and size in pixels."""

    shape: str
    colour: str
    x: float
    y: float
    size: float


class Scene(NamedTuple):
    """What stands in a picture, the prompt it was made for, and the grey in [0.9, 1] behind it."""

    items: tuple[Item, ...]
    prompt: Prompt
    background: float


def stands(relation: str, one: Sequence[float], other: Sequence[float], steepness: float = 1.0) -> bool:
    """Whether one point (x, y) stands in this relation to the other, and further off in that direction than across."""
    dx, dy = one[0] - other[0], one[1] - other[1]
    along, across = (dx, dy) if relation in ("left of", "right of") else (dy, dx)
    return (along if relation in ("right of", "below") else -along) > steepness * abs(across)


def compose(prompt: Prompt, rng: random.Random) -> Scene:
    """A random scene that shows just what the prompt asks for. Colours that the prompt leaves open are drawn at random.

    Objects are at least `GAP` pixels apart. One that stands left of, right of, above or below another is at least
    `STEEPNESS` times as far from it in that direction as in the other.
    """
    count = len(prompt.wanted)
    background = 0.9 + 0.1 * rng.random()
    colours = [pick(rng, COLOURS) if colour is None else colour for _, colour in prompt.wanted]
    low, high = SIZES[count]
    while True:
        sizes = [low + (high - low) * rng.random() for _ in range(count)]
        edges = [RADIUS * size + 1 for size in sizes]
        places = [(e + (SIZE - 2 * e) * rng.random(), e + (SIZE - 2 * e) * rng.random()) for e in edges]
        pairs = [(i, j) for i in range(count) for j in range(i)]
        if any(math.dist(places[i], places[j]) < RADIUS * (sizes[i] + sizes[j]) + GAP for i, j in pairs):
            continue
        if prompt.relation and not stands(prompt.relation, places[0], places[1], STEEPNESS):
            continue
        objects = zip(prompt.wanted, colours, places, sizes, strict=True)
        return Scene(tuple(Item(shape, c, x, y, s) for (shape, _), c, (x, y), s in objects), prompt, background)


def distance(shape: str, x: Tensor, y: Tensor) -> Tensor:
    """Signed distance to the outline of a shape of size 1 around the origin: negative inside, exact along its edges.

    Raises:
        ValueError: if there is no such shape.
    """
    x, up = x.abs(), -y
    if shape == "circle":
        return (x.square() + up.square()).sqrt() - 1
    if shape == "ring":
        return ((x.square() + up.square()).sqrt() - 0.85).abs() - 0.25
    if shape == "square":
        return torch.maximum(x, up.abs()) - 0.85
    if shape == "cross":
        up = up.abs()
        return torch.minimum(torch.maximum(x - 0.36, up - 1.1), torch.maximum(x - 1.1, up - 0.36))
    if shape == "triangle":
        return torch.maximum(-up, 0.5 * up + math.sqrt(0.75) * x) - 0.62
    if shape == "star":
        # Two mirrors fold its five points onto the upper one, whose right edge runs from the tip to a notch.
        cosine, sine = math.cos(math.pi / 5), math.sin(math.pi / 5)
        for side in (1, -1):
            beyond = 2 * (side * cosine * x - sine * up).clamp(min=0)
            x, up = x - side * cosine * beyond, up + sine * beyond
        dx, dy = NOTCH * sine, RADIUS - NOTCH * cosine
        return (dy * x.abs() + dx * (up - RADIUS)) / math.hypot(dx, dy)
    raise ValueError(f"there is no shape {shape!r}: choose one of {', '.join(SHAPES)}")


def coverage(shape: str, x: Tensor, y: Tensor, size: Tensor, width: int = SIZE) -> Tensor:
    """The fraction of each pixel that a shape covers: (m, width, width), for centres and sizes (m,) in pixels."""
    pixels = torch.arange(width, dtype=x.dtype) + 0.5
    across = (pixels - x[:, None]) / size[:, None]
    down = (pixels - y[:, None]) / size[:, None]
    return (0.5 - size[:, None, None] * distance(shape, across[:, None, :], down[:, :, None])).clamp_(0, 1)


def render(scenes: Sequence[Scene]) -> Tensor:
    """The pictures of scenes: (n, 3, 64, 64) float32 in [0, 1]."""
    backgrounds = torch.tensor([scene.background for scene in scenes])
    layers = torch.zeros(len(scenes), max(SIZES), SIZE**2)
    paint = torch.zeros(len(scenes), 3, max(SIZES))
    for shape in SHAPES:
        found = [
            (row, layer, COLOURS.index(item.colour), item)
            for row, scene in enumerate(scenes)
            for layer, item in enumerate(scene.items)
            if item.shape == shape
        ]
        if found:
            row, layer, colour = torch.tensor([where for *where, _ in found]).T
            x, y, size = torch.tensor([item[2:] for *_, item in found]).T
            layers[row, layer] = coverage(shape, x, y, size).flatten(1)
            paint[row, :, layer] = RGB[colour] - backgrounds[row, None]
    return (backgrounds[:, None, None] + paint @ layers).unflatten(2, (SIZE, SIZE))
