"""Coloured shapes and their captions, drawn as they are needed."""

import random
from collections.abc import Sequence
from typing import Any

import lightning as L
from torch.utils.data import DataLoader, Dataset

from datamodules.order import EpochLoader
from datamodules.prompts import PromptBatches
from lidar_lightning.shapes.grammar import Prompt, draw_prompt, held_out_prompts, parse, twin
from lidar_lightning.shapes.render import Scene, compose, render
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
        twins: follow every scene by its twin.
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
        twins: bool = False,
        seed: int = 0,
        num_workers: int = 0,
    ):
        super().__init__()
        if min(samples, batch_size) < 1:
            raise ValueError(f"samples and batch_size must be at least 1, got {samples} and {batch_size}")
        if num_workers < 0:
            raise ValueError(f"num_workers must be at least 0, got {num_workers}")
        self.training = Scenes(count, seed, "train", twins)
        self.held_out = Scenes(validation, seed, "validation", twins)
        self.samples, self.batch_size, self.num_workers, self.seed = samples, batch_size, num_workers, seed

    def train_dataloader(self) -> DataLoader:
        options: dict[str, Any] = {"drop_last": True, "collate_fn": whole, "num_workers": self.num_workers}
        return EpochLoader(self.training, self.batch_size, self.seed, self.trainer, **options)

    def val_dataloader(self) -> DataLoader:
        return DataLoader(self.held_out, self.batch_size, collate_fn=whole)

    def predict_dataloader(self) -> DataLoader:
        batches = PromptBatches(held_out_prompts(), self.samples, self.batch_size)
        return DataLoader(batches, batch_size=1, collate_fn=lambda items: items[0])
