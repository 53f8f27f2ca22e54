"""Reads pictures of the shapes task back: what stands where in which colour, and whether that is what was asked for."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from lidar_lightning.shapes.grammar import COLOURS, SHAPES, Prompt, parse
from lidar_lightning.shapes.render import RGB, SIZE, Item, coverage, stands

LEAST_AREA = 20
"""Pixels. Smaller spots are dirt and not seen; the smallest object covers 70."""
LEAST_FIT = 0.7
"""Intersection over union with the best of the shapes, below which an object has none."""
WINDOW = 40
"""Pixels. The largest object is 35 wide."""
CHUNK = 128


class Seen(NamedTuple):
    """An object in a picture: its shape (None if it resembles none), colour, centre, area in pixels, and the fit."""

    shape: str | None
    colour: str
    x: float
    y: float
    area: float
    fit: float


@dataclass(frozen=True)
class Verdict:
    """Whether a picture shows what its prompt asks for, why not ("" if it does), and what it shows."""

    prompt: Prompt
    correct: bool
    reason: str
    seen: tuple[Seen, ...]


def unmix(images: Tensor) -> tuple[Tensor, Tensor]:
    """Each pixel as a mixture of the background with one of the colours.

    The background is the median of the picture. The colour is the one whose line to the background passes nearest, so
    that the faded edge of a red object is red and not pink.

    Args:
        images: (n, 3, H, W) in [0, 1].

    Returns:
        the index of the colour (n, H, W) int64, and how much of it there is (n, H, W), in [0, 1].
    """
    pixels = images.flatten(2).float()
    background = pixels.median(dim=2, keepdim=True).values.clamp(0.8, 1.0)
    ray = RGB.T.to(pixels)[None] - background
    length = ray.square().sum(1)
    offset = pixels - background
    along = ray.mT @ offset
    amount = (along / length[:, :, None]).clamp(0, 1)
    error = offset.square().sum(1, keepdim=True) + amount * (amount * length[:, :, None] - 2 * along)
    colour = error.argmin(1)
    amount = amount.gather(1, colour[:, None])[:, 0]
    return colour.unflatten(1, images.shape[2:]), amount.unflatten(1, images.shape[2:])


def components(classes: Tensor) -> Tensor:
    """Numbers the connected regions of equal class: pixels share a number if a path of edge neighbours joins them.

    Every pixel takes the largest number among itself and its neighbours until nothing changes. It also jumps to the
    number of the pixel that its number names, which halves the rest of the way each time.

    Args:
        classes: the class of each pixel (n, H, W) int64; negative ones belong to no region.

    Returns:
        (n, H, W) int64, -1 where there is no region, else an index into the flattened input.
    """
    number = torch.arange(classes.numel(), device=classes.device).view_as(classes)
    number = torch.where(classes < 0, -1, number)
    right = (classes[:, :, 1:] == classes[:, :, :-1]) & (classes[:, :, 1:] >= 0)
    below = (classes[:, 1:] == classes[:, :-1]) & (classes[:, 1:] >= 0)
    while True:
        before = number.clone()
        for joined, one, other in (
            (right, number[:, :, :-1], number[:, :, 1:]),
            (below, number[:, :-1], number[:, 1:]),
        ):
            # One after the other, since the two views overlap.
            one.copy_(torch.where(joined, torch.maximum(one, other), one))
            other.copy_(torch.where(joined, torch.maximum(one, other), other))
        flat = number.flatten()
        number = torch.where(number < 0, -1, flat[number.clamp(min=0)])
        if torch.equal(number, before):
            return number


def fits(masks: Tensor, x: Tensor, y: Tensor, area: Tensor) -> Tensor:
    """Intersection over union (m, 6) of masks (m, W, W) with every shape of the same centre and area (m,)."""
    scores = []
    for shape in SHAPES:
        unit = coverage(shape, torch.tensor([20.0]), torch.tensor([20.0]), torch.tensor([15.0]), 40).sum() / 15**2
        template = coverage(shape, x, y, (area / unit).sqrt(), masks.shape[-1])
        both = torch.minimum(masks, template).sum((1, 2))
        scores.append(both / torch.maximum(masks, template).sum((1, 2)))
    return torch.stack(scores, 1)


def read(images: Tensor) -> list[tuple[Seen, ...]]:
    """What stands in each picture, from left to right.

    Args:
        images: (n, 3, 64, 64) float, in [0, 1].

    Raises:
        ValueError: if they have another shape, or values that are not finite.
    """
    if images.ndim != 4 or images.shape[1:] != (3, SIZE, SIZE):
        raise ValueError(f"pictures of the shapes task are (n, 3, {SIZE}, {SIZE}), got {tuple(images.shape)}")
    if not images.isfinite().all():
        raise ValueError("the pictures have values that are NaN or infinite")
    found = []
    for chunk in images.detach().cpu().float().clamp(0, 1).split(CHUNK):
        found += read_chunk(chunk)
    return found


def read_chunk(images: Tensor) -> list[tuple[Seen, ...]]:
    """The objects that are seen in each of some pictures (n, 3, H, W)."""
    colour, amount = unmix(images)
    number = components(torch.where(amount > 0.5, colour, -1))
    names, counts = number[number >= 0].unique(return_counts=True)
    names = names[counts >= LEAST_AREA]
    picture = names // SIZE**2
    # An object is its region and the faded pixels around it.
    masks = (number[picture] == names[:, None, None]).float()
    masks = F.max_pool2d(masks[:, None], 3, stride=1, padding=1)[:, 0] * amount[picture]
    area = masks.sum((1, 2))
    centres = torch.arange(SIZE) + 0.5
    x = (masks.sum(1) @ centres) / area
    y = (masks.sum(2) @ centres) / area
    left = (x - WINDOW / 2).round().clamp(0, SIZE - WINDOW)
    top = (y - WINDOW / 2).round().clamp(0, SIZE - WINDOW)
    span = torch.arange(WINDOW)
    rows, columns = (top.long()[:, None] + span)[:, :, None], (left.long()[:, None] + span)[:, None]
    windows = masks[torch.arange(len(names))[:, None, None], rows, columns]
    fit, shape = fits(windows, x - left, y - top, area).max(1)
    # What does not fit into the window is no shape: the part outside counts against it.
    fit = fit * windows.sum((1, 2)) / area
    hue = colour.flatten()[names]
    found: list[list[Seen]] = [[] for _ in images]
    for i in x.argsort().tolist():
        kind = SHAPES[shape[i]] if fit[i] >= LEAST_FIT else None
        place = [round(v[i].item(), 2) for v in (x, y, area)]
        found[picture[i]].append(Seen(kind, COLOURS[hue[i]], place[0], place[1], place[2], fit[i].item()))
    return [tuple(objects) for objects in found]


def judge(prompt: Prompt, seen: Sequence[Seen]) -> Verdict:
    """Whether these objects are just those that the prompt asks for."""
    objects = tuple(seen)
    if len(objects) != len(prompt.wanted):
        return Verdict(prompt, False, f"{len(objects)} objects instead of {len(prompt.wanted)}", objects)
    left, matched = list(objects), []
    for shape, colour in prompt.wanted:
        match = next((o for o in left if o.shape == shape and colour in (None, o.colour)), None)
        if match is None:
            return Verdict(prompt, False, f"no {f'{colour} ' if colour else ''}{shape}", objects)
        left.remove(match)
        matched.append(match)
    if prompt.relation:
        one, other = matched
        if not stands(prompt.relation, (one.x, one.y), (other.x, other.y)):
            return Verdict(prompt, False, f"the {one.shape} is not {prompt.relation} the {other.shape}", objects)
    return Verdict(prompt, True, "", objects)


def shows(items: Sequence[Item], prompt: Prompt) -> bool:
    """Whether a scene of these objects shows what a prompt asks for, without a look at its picture."""
    return judge(prompt, [Seen(*item[:4], area=0.0, fit=1.0) for item in items]).correct


def verdicts(images: Tensor, prompts: Sequence[str]) -> list[Verdict]:
    """One verdict per picture.

    Args:
        images: (n, 3, 64, 64) float, in [0, 1].
        prompts: one per picture.

    Raises:
        ValueError: if their numbers differ, if a prompt is not a caption of this task, or if the pictures are not as
            above.
    """
    if len(images) != len(prompts):
        raise ValueError(f"got {len(images)} pictures and {len(prompts)} prompts: give one prompt per picture")
    wanted = [parse(prompt) for prompt in prompts]
    return [judge(prompt, seen) for prompt, seen in zip(wanted, read(images), strict=True)]
