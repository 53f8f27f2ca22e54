"""Coloured shapes and their captions, drawn as they are needed."""

import math
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import lightning as L
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from datamodules.order import EpochLoader
from datamodules.prompts import PromptBatches
from lidar_lightning.shapes.grammar import (
    CATEGORIES,
    COLOURS,
    SHAPES,
    Prompt,
    draw_prompt,
    held_out_prompts,
    parse,
    pick,
    twin,
)
from lidar_lightning.shapes.render import SIZE, SIZES, Scene, compose, render
from lidar_lightning.shapes.verdict import shows
from lidar_lightning.utils.seeding import stream_seed

HARDEST = ("counting", "position", "color_attr")


class Scenes(Dataset):
    """Pictures of coloured shapes with their captions.

    Item i is drawn from (seed, split, i) alone, so that it is the same for every worker, order and restart.

    A batch is {"image": (B, 3, 64, 64) float32 in [0, 1], "prompt": list of B captions}.

    Args:
        count: number of items.
        seed: determines all items.
        split: "train" draws training captions; "validation" goes through the held-out ones again and again.
        twins: whether every item is followed by its twin, a scene whose caption differs in one respect and whose layout
            is drawn from the same random numbers; a batch of B items then has 2 B rows.

    Raises:
        ValueError: if there is no such split, or the count is below 1.
    """

    def __init__(self, count: int, seed: int = 0, split: str = "train", twins: bool = False):
        if split not in ("train", "validation") or count < 1:
            raise ValueError(f"split is 'train' or 'validation' and count at least 1, got {split!r} and {count}")
        self.count, self.seed, self.split, self.twins = count, seed, split, twins
        self.held_out = [parse(text) for text in held_out_prompts()] if split == "validation" else []

    def __len__(self) -> int:
        return self.count

    def prompt(self, index: int) -> Prompt:
        """The prompt of an item."""
        if self.held_out:
            return self.held_out[index % len(self.held_out)]
        return draw_prompt(random.Random(stream_seed(self.seed, "prompt", index)))

    def scenes(self, index: int) -> list[Scene]:
        """The scene of an item, followed by its twin if `twins` is set."""
        prompts = [self.prompt(index)]
        if self.twins:
            prompts.append(twin(prompts[0], random.Random(stream_seed(self.seed, "twin", index))))
        layout = stream_seed(self.seed, self.split, index)
        return [compose(prompt, random.Random(layout)) for prompt in prompts]

    def __getitems__(self, indices: Sequence[int]) -> dict[str, Any]:
        scenes = [scene for index in indices for scene in self.scenes(index)]
        return {"image": render(scenes), "prompt": [scene.prompt.text for scene in scenes]}

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.__getitems__([index])


class Shown(NamedTuple):
    """A scene and what is said of it."""

    scene: Scene
    claims: list[Prompt]
    repainted: Scene | None = None
    """The same scene with one object in another colour, which shows beyond a line: then nothing said is true."""
    line: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """A point of the line, and its direction in radians."""


class Claims(Dataset):
    """Pictures and what is said of each, true or false; item i is drawn from (seed, i) alone.

    Each item has two pictures. One shows a training caption. The other shows a twin of that caption (half of the time),
    one object too few or too many, or an object in two colours (a quarter each). Each picture comes with four captions:
    the training caption, two twins of it, and an unrelated one. Captions of counting, position and colour attribution,
    which are the hardest, come twice as often as others.

    A batch of B items is {"image": (2 B, 3, 64, 64) float32 in [0, 1], "claims": 2 B lists of 4 captions, "true":
    (2 B, 4) float32, 1 where the caption is true}.

    Args:
        count: number of items.
        seed: determines all items.

    Raises:
        ValueError: if the count is below 1.
    """

    def __init__(self, count: int, seed: int = 0):
        if count < 1:
            raise ValueError(f"count must be at least 1, got {count}")
        self.count, self.seed = count, seed

    def __len__(self) -> int:
        return self.count

    def shown(self, index: int) -> list[Shown]:
        """The two scenes of an item, each with what is said of it."""
        rng = random.Random(stream_seed(self.seed, "claims", index))
        prompt = draw_prompt(rng, pick(rng, (*CATEGORIES, *HARDEST)))
        near, chance = [twin(prompt, rng), twin(prompt, rng)], rng.random()
        claims = [prompt, *near, draw_prompt(rng)]
        layout = stream_seed(self.seed, "layout", index)
        scene = compose(prompt, random.Random(layout))
        if chance < 0.25:
            return [Shown(scene, claims), two_coloured(scene, claims, rng)]
        other = prompt_with_error(prompt, rng) if chance < 0.5 else near[0]
        return [Shown(scene, claims), Shown(compose(other, random.Random(layout)), claims)]

    def __getitems__(self, indices: Sequence[int]) -> dict[str, Any]:
        shown = [one for index in indices for one in self.shown(index)]
        images = render([one.scene for one in shown])
        others = render([one.repainted or one.scene for one in shown])
        beyond = torch.stack([side(one.line) for one in shown])[:, None]
        true = [
            [float(one.repainted is None and shows(one.scene.items, claim)) for claim in one.claims] for one in shown
        ]
        return {
            "image": torch.where(beyond, others, images),
            "claims": [[claim.text for claim in one.claims] for one in shown],
            "true": torch.tensor(true),
        }

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.__getitems__([index])


def two_coloured(scene: Scene, claims: list[Prompt], rng: random.Random) -> Shown:
    """The scene with one of its objects cut by a line into two colours."""
    items = list(scene.items)
    place = int(rng.random() * len(items))
    item = items[place]
    items[place] = item._replace(colour=pick(rng, [colour for colour in COLOURS if colour != item.colour]))
    x, y = (middle + item.size * (rng.random() - 0.5) for middle in (item.x, item.y))
    return Shown(scene, claims, scene._replace(items=tuple(items)), (x, y, math.tau * rng.random()))


def side(line: tuple[float, float, float]) -> Tensor:
    """Which pixels lie on one side of a line: (64, 64) bool."""
    x, y, angle = line
    pixels = torch.arange(SIZE) + 0.5
    return math.cos(angle) * (pixels - x) + math.sin(angle) * (pixels[:, None] - y) > 0


def prompt_with_error(prompt: Prompt, rng: random.Random) -> Prompt:
    """A prompt that asks for one object fewer or more than the given one."""
    wanted = list(prompt.wanted)
    if len(wanted) == 1 or (len(wanted) < max(SIZES) and rng.random() < 0.5):
        return replace(prompt, wanted=(*wanted, (pick(rng, SHAPES), None)))
    del wanted[int(rng.random() * len(wanted))]
    return replace(prompt, wanted=tuple(wanted), relation=None)


def whole(batch: Any) -> Any:
    """The collate function of data sets that return whole batches."""
    return batch


class ShapesDataModule(L.LightningDataModule):
    """Scenes of coloured shapes with their captions for training (see `Scenes`), and the held-out captions to sample.

    Args:
        count: number of training scenes per epoch.
        validation: number of scenes of held-out captions to validate on.
        samples: number of pictures that `trainer.predict` draws for each held-out caption.
        batch_size: scenes per batch and device.
        claims: for the learned reward: train on `Claims`, and follow every validation scene by its twin.
        seed: determines the scenes and the order of training.
        num_workers: number of worker processes that load training data.

    Raises:
        ValueError: if a number is below 1.
    """

    def __init__(
        self,
        count: int = 100_000,
        validation: int = 432,
        samples: int = 4,
        batch_size: int = 128,
        claims: bool = False,
        seed: int = 0,
        num_workers: int = 0,
    ):
        super().__init__()
        if min(samples, batch_size) < 1:
            raise ValueError(f"samples and batch_size must be at least 1, got {samples} and {batch_size}")
        if num_workers < 0:
            raise ValueError(f"num_workers must be at least 0, got {num_workers}")
        self.training: Scenes | Claims = Claims(count, seed) if claims else Scenes(count, seed, "train")
        self.held_out = Scenes(validation, seed, "validation", claims)
        self.samples, self.batch_size, self.num_workers, self.seed = samples, batch_size, num_workers, seed

    def train_dataloader(self) -> DataLoader:
        options: dict[str, Any] = {"drop_last": True, "collate_fn": whole, "num_workers": self.num_workers}
        return EpochLoader(self.training, self.batch_size, self.seed, self.trainer, **options)

    def val_dataloader(self) -> DataLoader:
        return DataLoader(self.held_out, self.batch_size, collate_fn=whole)

    def predict_dataloader(self) -> DataLoader:
        batches = PromptBatches(held_out_prompts(), self.samples, self.batch_size)
        return DataLoader(batches, batch_size=1, collate_fn=lambda items: items[0])
