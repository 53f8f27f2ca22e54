"""Which samples to draw: the prompts, and the indices of the samples of each prompt."""

from collections.abc import Sequence
from typing import Any

import lightning as L
from torch.utils.data import DataLoader, Dataset

from datamodules.order import EpochLoader
from lidar_lightning.utils.prompts import prompts_of
from lidar_lightning.utils.sizes import check_memory


class PromptBatches(Dataset):
    """Batches of samples that are to be drawn, several prompts at once where they fit.

    An item is {"prompts": list of P strings, "indices": list of the B indices that are drawn for each of them}, with
    P * B <= batch_size.
    """

    def __init__(self, prompts: Sequence[str], samples: int, batch_size: int):
        check_memory(f"samples={samples} of {len(prompts)} prompts", samples * len(prompts))
        together = max(1, batch_size // samples)
        groups = [list(prompts[i : i + together]) for i in range(0, len(prompts), together)]
        chunks = [list(range(i, min(i + batch_size, samples))) for i in range(0, samples, batch_size)]
        self.items = [{"prompts": group, "indices": chunk} for group in groups for chunk in chunks]

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, item: int) -> dict[str, Any]:
        return self.items[item]


class PromptDataModule(L.LightningDataModule):
    """Samples to be drawn by `trainer.predict`, or prompts to be learnt from by `trainer.fit`.

    In `predict` the size of batches does not change what is drawn, only how much is drawn at a time. An epoch of `fit`
    presents each prompt `samples` times, in random order, in batches {"prompt": list}.

    Args:
        prompts: the prompts, or the path of a file of them (see `prompts_of`). A model without prompts takes any label.
        samples: number of samples per prompt.
        batch_size: samples per batch and device.
        seed: determines the order of training.

    Raises:
        ValueError: if there is no prompt, if one is empty or stands there twice, or if a number is below 1.
    """

    def __init__(
        self, prompts: list[str] | str = "molecule", samples: int = 1024, batch_size: int = 256, seed: int = 0
    ):
        super().__init__()
        prompts = prompts_of(prompts)
        if samples < 1 or batch_size < 1:
            raise ValueError(f"samples and batch_size must be at least 1, got {samples} and {batch_size}")
        self.prompts, self.dataset = prompts, PromptBatches(prompts, samples, batch_size)
        self.each = [prompt for prompt in prompts for _ in range(samples)]
        self.batch_size, self.seed = batch_size, seed

    def predict_dataloader(self) -> DataLoader:
        return DataLoader(self.dataset, batch_size=1, collate_fn=lambda items: items[0])

    def train_dataloader(self) -> DataLoader:
        return EpochLoader(
            self.each, self.batch_size, self.seed, self.trainer, collate_fn=lambda prompts: {"prompt": prompts}
        )
