"""Preference pairs, from a file or straight from scored banks."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from datamodules.order import EpochLoader
from datamodules.picture_pairs import TABLE, PicturePairs, cache_pairs, collate, download_pairs
from lidar_lightning.lookahead.bank import LookaheadBank, check_space
from lidar_lightning.rewards import Reward
from lidar_lightning.utils.files import expand
from lidar_lightning.utils.tables import read_csv


class Pairs(Dataset):
    """Items {"prompt": str, "chosen": sample, "rejected": sample}, samples as strings or as clean tensors."""

    def __init__(self, items: list[dict[str, Any]]):
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, item: int) -> dict[str, Any]:
        return self.items[item]


def read_pairs(path: str | Path) -> list[dict[str, Any]]:
    """The pairs of a .csv, .jsonl or .parquet file with the columns chosen and rejected, and optionally prompt.

    Raises:
        ValueError: if the file is missing or of another kind, if a column is missing, or if a row is incomplete or
            prefers a sample to itself.
    """
    path = expand(path)
    readers: dict[str, Callable[[Path], pd.DataFrame]] = {
        ".csv": lambda p: read_csv(p).replace("", float("nan")),
        ".parquet": pd.read_parquet,
        ".jsonl": lambda p: pd.read_json(p, lines=True),
    }
    if not path.is_file() or path.suffix not in readers:
        raise ValueError(f"no preference file at {path}: give a .csv, .jsonl or .parquet file")
    try:
        table = readers[path.suffix](path)
    except (OSError, ValueError) as error:
        raise ValueError(f"cannot read preferences from {path}: {error}") from error
    missing = {"chosen", "rejected"} - set(table)
    if missing:
        raise ValueError(f"{path} lacks the columns {', '.join(sorted(missing))}: it has {', '.join(table)}")
    if "prompt" not in table:
        table["prompt"] = "molecule"
    table = table[["prompt", "chosen", "rejected"]]
    bad = table.isna().any(axis=1) | (table["chosen"] == table["rejected"])
    if bad.any():
        raise ValueError(
            f"row {bad.idxmax()} of {path} is incomplete or prefers a sample to itself ({bad.sum()} such rows)"
        )
    return table.to_dict("records")


def bank_pairs(
    bank: LookaheadBank, reward: Reward, pairs: int, fraction: float, generator: torch.Generator
) -> list[dict[str, Any]]:
    """Draws preference pairs from a bank: a random one of the best `fraction` over a random one of the worst.

    There are at most `pairs` of them, since two samples of the same reward make none.

    Raises:
        ValueError: if the bank was not scored with the reward, or if no two of these samples differ in it.
    """
    scores = reward.from_scores(bank.rewards)
    order = scores.argsort(descending=True, stable=True)
    count = max(1, int(len(order) * fraction))
    picks = (torch.rand(2, pairs, generator=generator) * count).long()
    chosen, rejected = order[:count][picks[0]], order[-count:][picks[1]]
    differ = scores[chosen] > scores[rejected]
    if not differ.any():
        raise ValueError(
            f"no preferences: the best and the worst {count} of {len(order)} samples score the same in {reward.name!r}"
        )
    return [
        {"prompt": bank.provenance.prompt, "chosen": bank.samples[w], "rejected": bank.samples[loser]}
        for w, loser in zip(chosen[differ], rejected[differ], strict=True)
    ]


class PreferenceDataModule(L.LightningDataModule):
    """Batches {"prompt": list, "chosen": samples, "rejected": samples} of preference pairs.

    Pairs of pictures are files whose paths, relative to the table's folder, stand in its columns. Their latents and the
    conditions of their prompts are encoded once, by the backbone that is trained, and kept beside the table.

    Args:
        path: a file of pairs (see `read_pairs`), a bank file, a folder of bank files, or a folder with pairs.csv.
        reward: the reward by which pairs of banks are made; the banks must hold its scores.
        pairs: number of pairs drawn from each bank.
        fraction: size of the best and of the worst group of a bank, as a fraction of the bank in (0, 0.5].
        validation: fraction of the pairs held out, in [0, 1).
        batch_size: pairs per batch and device.
        seed: determines the pairs, which of them are held out, and the order of training.
        hub: a hub data set with Pick-a-Pic's columns; its first `pairs` pairs are written into the folder `path`.

    Raises:
        ValueError: if the pairs cannot be read or drawn, if they are of another space than the model's, or if a
            setting is out of range.
    """

    def __init__(
        self,
        path: str,
        reward: Reward | None = None,
        pairs: int = 2048,
        fraction: float = 0.25,
        validation: float = 0.05,
        batch_size: int = 64,
        seed: int = 0,
        hub: str | None = None,
    ):
        super().__init__()
        if not 0 < fraction <= 0.5 or not 0 <= validation < 1 or pairs < 1 or batch_size < 1:
            raise ValueError(
                f"fraction must be in (0, 0.5], validation in [0, 1), pairs and batch_size at least 1, "
                f"got {fraction}, {validation}, {pairs} and {batch_size}"
            )
        self.path, self.reward, self.pairs, self.fraction = expand(path), reward, pairs, fraction
        self.validation, self.batch_size, self.seed, self.hub = validation, batch_size, seed, hub

    def prepare_data(self) -> None:
        if self.hub:
            download_pairs(self.hub, self.path, self.pairs)

    def setup(self, stage: str | None = None) -> None:
        """Reads or draws the pairs and splits them."""
        generator = torch.Generator().manual_seed(self.seed)
        files = sorted(self.path.glob("*.safetensors")) if self.path.is_dir() else [self.path]
        if files and all(file.suffix == ".safetensors" for file in files):
            if self.reward is None:
                raise ValueError(f"pairs from the banks of {self.path} need a reward")
            banks = [LookaheadBank.load(file) for file in files]
            module: Any = self.trainer and self.trainer.lightning_module
            for bank in banks if module else ():
                check_space(bank.provenance, module.backbone.space, repr(module.backbone.name))
            items = [
                item for bank in banks for item in bank_pairs(bank, self.reward, self.pairs, self.fraction, generator)
            ]
        else:
            table = self.path / TABLE if self.path.is_dir() else self.path
            items = read_pairs(table)
        order = torch.randperm(len(items), generator=generator).tolist()
        held_out = int(len(items) * self.validation)
        parts = [items[i] for i in order[:held_out]], [items[i] for i in order[held_out:]]
        self.held_out, self.training = (self._dataset(part) for part in parts)

    def _dataset(self, items: list[dict[str, Any]]) -> Dataset:
        module: Any = self.trainer and self.trainer.lightning_module
        if not items or isinstance(items[0]["chosen"], Tensor) or module is None or module.backbone.modality != "image":
            return Pairs(items)
        strategy: Any = self.trainer.strategy  # type: ignore[union-attr]
        home = self.path if self.path.is_dir() else self.path.parent
        items = [{**row, **{side: str(home / row[side]) for side in ("chosen", "rejected")}} for row in items]
        module.backbone.to(strategy.root_device)
        cache = cache_pairs(items, module.backbone, home, strategy.global_rank, strategy.world_size)
        strategy.barrier()
        return PicturePairs(items, cache)

    def train_dataloader(self) -> DataLoader:
        size = min(self.batch_size, len(self.training))  # type: ignore[arg-type]
        return EpochLoader(self.training, size, self.seed, self.trainer, drop_last=True, collate_fn=collate)

    def val_dataloader(self) -> DataLoader | list:
        return DataLoader(self.held_out, self.batch_size, collate_fn=collate) if len(self.held_out) else []  # type: ignore[arg-type]
