"""Which samples to draw: prompts, and sample indices of each."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
import pandas as pd
from torch.utils.data import DataLoader, Dataset


def read_prompts(path: str | Path, column: str = "prompt") -> list[str]:
    """Prompts of a file: a line each (.txt), or the field or column `prompt` (.jsonl, .csv).

    Raises:
        ValueError: if the file is missing or of another kind, has no such column, or a prompt is empty.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"no prompt file at {path}")
    try:
        if path.suffix == ".txt":
            prompts = path.read_text(encoding="utf-8").splitlines()
        elif path.suffix == ".jsonl":
            prompts = [str(json.loads(line)[column]) for line in path.read_text(encoding="utf-8").splitlines() if line]
        elif path.suffix == ".csv":
            prompts = pd.read_csv(path, keep_default_na=False)[column].astype(str).tolist()
        else:
            raise ValueError("it is none of .txt, .jsonl, .csv")
    except (KeyError, ValueError) as error:
        raise ValueError(f"cannot read prompts from {path}: {error}") from error
    return prompts


class PromptBatches(Dataset):
    """Batches of sample indices, prompts first.

    Item: {"prompts": list of P strings, "indices": list of the B indices drawn of each}, P * B <= batch_size.
    """

    def __init__(self, prompts: Sequence[str], samples: int, batch_size: int):
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

    Raises:
        ValueError: if a prompt is empty or stands twice, there is none, or a number is below 1.
    """

    def __init__(self, prompts: list[str] | str = "molecule", samples: int = 1024, batch_size: int = 256):
        super().__init__()
        if isinstance(prompts, str):
            prompts = read_prompts(prompts) if Path(prompts).suffix in {".txt", ".jsonl", ".csv"} else [prompts]
        if not prompts or any(not prompt.strip() for prompt in prompts):
            raise ValueError(f"prompts must not be empty: prompt {[p.strip() for p in [*prompts, '']].index('')} is")
        if len(set(prompts)) < len(prompts):
            raise ValueError(f"{len(prompts) - len(set(prompts))} prompts stand twice: raise samples instead")
        if samples < 1 or batch_size < 1:
            raise ValueError(f"samples and batch_size must be at least 1, got {samples} and {batch_size}")
        self.prompts, self.dataset = list(prompts), PromptBatches(prompts, samples, batch_size)
        self.each, self.batch_size = [prompt for prompt in prompts for _ in range(samples)], batch_size

    def predict_dataloader(self) -> DataLoader:
        return DataLoader(self.dataset, batch_size=1, collate_fn=lambda items: items[0])

    def train_dataloader(self) -> DataLoader:
        return DataLoader(
            self.each,  # type: ignore[arg-type]
            self.batch_size,
            shuffle=True,
            collate_fn=lambda prompts: {"prompt": prompts},
        )
