"""The order of training data: a function of the seed and the epoch, continued from where a checkpoint left it."""

import warnings
from collections.abc import Iterator
from itertools import islice
from typing import Any, cast

import lightning as L
from torch.utils.data import DataLoader, Dataset, DistributedSampler


class EpochSampler(DistributedSampler):
    """The permutation of an epoch, which follows from the seed and the epoch's number and is shared by all processes.

    A run that goes on from a checkpoint within an epoch gets the rest of that epoch.

    Args:
        count: number of items.
        batch_size: items per batch and process.
        seed: determines all permutations.
        trainer: the trainer of the run; None stands for a single process at the start of its first epoch.
    """

    def __init__(self, count: int, batch_size: int, seed: int, trainer: L.Trainer | None = None):
        world, rank = (trainer.world_size, trainer.global_rank) if trainer else (1, 0)
        super().__init__(cast(Dataset, range(count)), world, rank, shuffle=True, seed=seed)
        self.batch_size, self.trainer = batch_size, trainer

    def __iter__(self) -> Iterator[int]:
        done = self.trainer.fit_loop.epoch_loop.batch_idx + 1 if self.trainer else 0
        return islice(super().__iter__(), done * self.batch_size, None)


class EpochLoader(DataLoader):
    """Batches for `trainer.fit` in the order of `EpochSampler`: a run that was killed goes on with its next batch.

    Args:
        dataset: a data set that has a length.
        batch_size: items per batch and process.
        seed: determines the order.
        trainer: the trainer of the run, see `EpochSampler`.
        options: further arguments of DataLoader.
    """

    def __init__(
        self, dataset: Any, batch_size: int, seed: int, trainer: L.Trainer | None = None, **options: Any
    ) -> None:
        super().__init__(dataset, batch_size, sampler=EpochSampler(len(dataset), batch_size, seed, trainer), **options)
        self.told = {"items": len(dataset), "batch_size": batch_size, "seed": seed}

    def __iter__(self) -> Any:
        """The rest of the epoch; only when its first batch is asked for does Lightning know where a run goes on."""
        yield from super().__iter__()

    def state_dict(self) -> dict[str, int]:
        """What the order depends on, for Lightning's checkpoints; the place within the epoch is the trainer's."""
        return self.told

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Warns if the run goes on with data in another order than that of the checkpoint."""
        if state != self.told:
            warnings.warn(
                f"the checkpoint was made with {state}, but the training data are now {self.told}: the epoch goes on "
                "with other batches than it would have",
                stacklevel=2,
            )
