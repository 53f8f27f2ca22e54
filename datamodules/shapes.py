"""Coloured shapes and their captions, drawn as they are needed."""

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import lightning as L
import torch
from torch.utils.data import DataLoader, Dataset

from datamodules.order import EpochLoader
from datamodules.prompts import PromptBatches
from lidar_lightning.shapes.grammar import CATEGORIES, SHAPES, Prompt, draw_prompt, held_out_prompts, parse, pick, twin
from lidar_lightning.shapes.render import SIZES, Scene, compose, render
from lidar_lightning.shapes.verdict import shows
from lidar_lightning.utils.seeding import stream_seed


class Scenes(Dataset):
    """Item i is drawn from (seed, split, i) alone, so that it is the same for every worker, order and restart.

    A batch is {"image": (B, 3, 64, 64) float32 in [0, 1], "prompt": list of B captions}.

    Args:
        count: number of items.
        seed: of all of them.
        split: "train" draws training captions; "validation" goes through the held-out ones again and again.
        twins: follow every item by its twin, a scene whose caption differs in one respect and whose layout is drawn
            from the same numbers; a batch of B items then has 2 B rows.

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
        """The scene of an item, and its twin if asked for."""
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


class Claims(Dataset):
    """Scenes beside what is said of them, true or not; item i is drawn from (seed, i) alone.

    Each item has two pictures: of a training caption, and of its twin or, one time in three, of one object too few or
    too many. Of either picture four captions are said: the caption, two twins of it, and another. Captions of position
    and colour attribution, the hardest, come twice as often as others.

    A batch of B items is {"image": (2 B, 3, 64, 64) float32 in [0, 1], "claims": 2 B lists of 4 captions, "true":
    (2 B, 4) float32, 1 where the caption is true}.

    Args:
        count: number of items.
        seed: of all of them.

    Raises:
        ValueError: if the count is below 1.
    """

    def __init__(self, count: int, seed: int = 0):
        if count < 1:
            raise ValueError(f"count must be at least 1, got {count}")
        self.count, self.seed = count, seed

    def __len__(self) -> int:
        return self.count

    def scenes_and_claims(self, index: int) -> tuple[list[Scene], list[Prompt]]:
        """The two scenes of an item, and the four captions."""
        rng = random.Random(stream_seed(self.seed, "claims", index))
        prompt = draw_prompt(rng, pick(rng, (*CATEGORIES, "position", "color_attr")))
        near = [twin(prompt, rng), twin(prompt, rng)]
        layout = stream_seed(self.seed, "layout", index)
        shown = prompt_with_error(prompt, rng) if rng.random() < 1 / 3 else near[0]
        scenes = [compose(one, random.Random(layout)) for one in (prompt, shown)]
        return scenes, [prompt, *near, draw_prompt(rng)]

    def __getitems__(self, indices: Sequence[int]) -> dict[str, Any]:
        items = [self.scenes_and_claims(index) for index in indices]
        pairs = [(scene, claims) for scenes, claims in items for scene in scenes]
        true = [[float(shows(scene.items, claim)) for claim in claims] for scene, claims in pairs]
        return {
            "image": render([scene for scene, _ in pairs]),
            "claims": [[claim.text for claim in claims] for _, claims in pairs],
            "true": torch.tensor(true),
        }

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.__getitems__([index])


def prompt_with_error(prompt: Prompt, rng: random.Random) -> Prompt:
    """What a picture shows that has one object too few or too many for the prompt."""
    wanted = list(prompt.wanted)
    if len(wanted) == 1 or (len(wanted) < max(SIZES) and rng.random() < 0.5):
        return replace(prompt, wanted=(*wanted, (pick(rng, SHAPES), None)))
    del wanted[int(rng.random() * len(wanted))]
    return replace(prompt, wanted=tuple(wanted), relation=None)


def whole(batch: Any) -> Any:
    """The collate function of data sets that return whole batches."""
    return batch


class ShapesDataModule(L.LightningDataModule):
    """Scenes of coloured shapes with their captions (see `Scenes`), and the held-out captions to predict.

    Args:
        count: training scenes per epoch.
        validation: scenes of held-out captions to validate on.
        samples: pictures per held-out caption that `trainer.predict` draws.
        batch_size: scenes per batch and device.
        claims: train on `Claims` and follow every scene that is validated on by its twin, for the learned reward.
        seed: of the scenes and of the order of training.
        num_workers: of the training loader.

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
