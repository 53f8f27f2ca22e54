"""QM9 as tokens: from the strings that ship, from a local file, or from the hub."""

import logging

import lightning as L
import torch
from torch.utils.data import DataLoader, TensorDataset

from datamodules.order import EpochLoader
from lidar_lightning.backbones import smiles
from lidar_lightning.utils.smiles_io import read_hub, read_smiles

logger = logging.getLogger(__name__)


class QM9DataModule(L.LightningDataModule):
    """Clean tokens (B, L) int64 of SMILES strings, split into training and validation rows.

    Rows that cannot be encoded are left out, counted, and named in a warning and in `unreadable`.

    Args:
        path: a local file (see `read_smiles`); None takes the QM9 strings that ship with the package.
        dataset: a hub data set to load instead of a file, such as "yairschiff/qm9".
        column: the name of the column of SMILES strings, if the data are a table.
        length: tokens per row, including <bos> and <eos>; it must be that of the model.
        batch_size: rows per device.
        validation: number of rows held out, the same ones for the same seed.
        seed: determines which strings are split off, and the order of training.
        num_workers: number of worker processes that load data.
    """

    def __init__(
        self,
        path: str | None = None,
        dataset: str | None = None,
        column: str | None = None,
        length: int = 24,
        batch_size: int = 256,
        validation: int = 2048,
        seed: int = 0,
        num_workers: int = 0,
    ):
        super().__init__()
        if path and dataset:
            raise ValueError(f"give a path or a dataset, not both: got {path} and {dataset}")
        if min(length, batch_size, validation) < 1 or num_workers < 0:
            raise ValueError(
                f"length, batch_size and validation must be at least 1 and num_workers at least 0, got {length}, "
                f"{batch_size}, {validation} and {num_workers}"
            )
        self.path, self.dataset, self.column = path, dataset, column
        self.length, self.batch_size, self.num_workers = length, batch_size, num_workers
        self.validation, self.seed = validation, seed
        self.unreadable: dict[str, str] = {}

    def setup(self, stage: str | None = None) -> None:
        """Reads and encodes the rows. Raises ValueError if too few can be read to hold some out."""
        strings = read_hub(self.dataset, self.column) if self.dataset else read_smiles(self.path, self.column)
        reasons = [smiles.unreadable(text, self.length) for text in strings]
        self.unreadable = {
            f"row {row}: {strings[row]!r}": reason for row, reason in enumerate(reasons, start=0) if reason
        }
        if self.unreadable:
            named = "; ".join(f"{row} ({reason})" for row, reason in list(self.unreadable.items())[:5])
            logger.warning("left out %d of %d rows: %s ...", len(self.unreadable), len(strings), named)
        tokens = smiles.tokens_of([s for s, reason in zip(strings, reasons, strict=True) if not reason], self.length)
        if not 0 < self.validation < len(tokens):
            raise ValueError(f"cannot hold out validation={self.validation} of {len(tokens)} readable rows")
        order = torch.randperm(len(tokens), generator=torch.Generator().manual_seed(self.seed))
        self.held_out, self.training = tokens[order[: self.validation]], tokens[order[self.validation :]]

    def train_dataloader(self) -> DataLoader:
        rows = TensorDataset(self.training)
        return EpochLoader(rows, self.batch_size, self.seed, self.trainer, num_workers=self.num_workers, drop_last=True)

    def val_dataloader(self) -> DataLoader:
        return DataLoader(TensorDataset(self.held_out), self.batch_size, num_workers=self.num_workers)
