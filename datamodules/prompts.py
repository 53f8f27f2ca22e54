"""Which samples to draw: prompts, and sample indices of each."""

import json
import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
from torch.utils.data import DataLoader, Dataset

from datamodules.order import EpochLoader
from lidar_lightning.files import expand
from lidar_lightning.sizes import check_memory
from lidar_lightning.tables import read_csv

logger = logging.getLogger(__name__)
READ = (".txt", ".jsonl", ".csv")
OTHER_FILES = (".json", ".yaml", ".yml", ".tsv", ".parquet", ".xlsx", ".gz", ".zip", ".md")
"""What nobody means as a prompt."""


def read_prompts(path: str | Path, column: str = "prompt") -> list[str]:
    """Prompts of a file: a line each (.txt), or the field or column `prompt` (.jsonl, .csv).

    Blank lines are left out, with a warning that counts them.

    Raises:
        ValueError: if the file is missing or of another kind, has no such column, or a prompt is empty or no text.
    """
    path = expand(path)
    if not path.is_file():
        raise ValueError(f"no prompt file at {path}: give a {', '.join(READ)} file, or the prompts themselves")
    if path.suffix not in READ:
        raise ValueError(f"cannot read prompts from {path}: it is none of {', '.join(READ)}")
    try:
        if path.suffix == ".csv":
            table = read_csv(path, dtype=str)
            if column not in table:
                raise ValueError(f"it has no column {column!r}, but {', '.join(table)}")
            lines = list(enumerate(table.to_dict("records"), 2))
        else:
            texts = list(enumerate(path.read_text(encoding="utf-8-sig").splitlines(), 1))
            lines = [(number, text) for number, text in texts if text.strip()]
            if blank := len(texts) - len(lines):
                logger.warning("left out %d blank lines of %s", blank, path)
            if path.suffix == ".txt":
                return [text for _, text in lines]
            lines = [(number, json.loads(text)) for number, text in lines]
    except (OSError, ValueError) as error:
        raise ValueError(f"cannot read prompts from {path}: {error}") from error
    for number, row in lines:
        prompt = row.get(column) if isinstance(row, dict) else None
        if not isinstance(prompt, str) or not prompt.strip():
            raise ValueError(
                f"cannot read prompts from {path}: line {number} has no text under {column!r}, got {row!r}"
            )
    return [row[column] for _, row in lines]


def check_prompts(prompts: Sequence[str]) -> list[str]:
    """The prompts as a list.

    Raises:
        ValueError: if there is none, or one is no string, empty, or there twice, which would draw the same samples.
    """
    if not isinstance(prompts, Sequence) or isinstance(prompts, str) or not len(prompts):
        raise ValueError(f"prompts must not be empty: give a list with at least one, got {prompts!r}")
    for place, prompt in enumerate(prompts):
        if not isinstance(prompt, str) or not prompt.strip():
            raise ValueError(f"prompts must not be empty: prompt {place} is {prompt!r}")
    if again := [prompt for prompt, count in Counter(prompts).items() if count > 1]:
        raise ValueError(f"{len(again)} prompts stand twice, e.g. {again[0]!r}: raise samples instead")
    return list(prompts)


class PromptBatches(Dataset):
    """Batches of sample indices, prompts first.

    Item: {"prompts": list of P strings, "indices": list of the B indices drawn of each}, P * B <= batch_size.
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

    Batches of `predict` do not change what is drawn, only how many at a time. An epoch of `fit` gives each prompt
    `samples` times, in random order, in batches {"prompt": list}.

    Args:
        prompts: prompts, or the path of a file of them (see `read_prompts`). An unconditional model takes any label.
        samples: number of samples per prompt.
        batch_size: samples per batch and device.
        seed: of the order of training.

    Raises:
        ValueError: if a prompt is empty or stands twice, there is none, or a number is below 1.
    """

    def __init__(
        self, prompts: list[str] | str = "molecule", samples: int = 1024, batch_size: int = 256, seed: int = 0
    ):
        super().__init__()
        if isinstance(prompts, str):
            prompts = read_prompts(prompts) if prompts.endswith((*READ, *OTHER_FILES)) else [prompts]
        prompts = check_prompts(prompts)
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
