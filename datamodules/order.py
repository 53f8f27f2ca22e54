"""The order of training data: a function of the seed and the epoch, gone on with where a checkpoint left it."""

import warnings
from collections.abc import Iterator
from itertools import islice
from typing import Any, cast

import lightning as L
from torch.utils.data import DataLoader, Dataset, DistributedSampler


class EpochSampler(DistributedSampler):
    """A permutation of (seed, epoch), shared by the processes of a run, from where the run is within the epoch.

    Args:
        count: number of items.
        batch_size: items per batch and process.
        seed: of all permutations.
        trainer: of the run; None is a single process at the start of its first epoch.
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
        dataset: with a length.
        batch_size: items per batch and process.
        seed: of the order.
        trainer: of the run, see `EpochSampler`.
        options: of DataLoader.
    """

    def __init__(
        self, dataset: Any, batch_size: int, seed: int, trainer: L.Trainer | None = None, **options: Any
    ) -> None:
        super().__init__(dataset, batch_size, sampler=EpochSampler(len(dataset), batch_size, seed, trainer), **options)
        self.told = {"items": len(dataset), "batch_size": batch_size, "seed": seed}

    def __iter__(self) -> Any:
        """The rest of the epoch; only when its first batch is asked for does lightning know where a run goes on."""
        yield from super().__iter__()

    def state_dict(self) -> dict[str, int]:
        """What the order depends on, for lightning's checkpoints. The place in it is that of the trainer."""
        return self.told

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Warns if a run goes on with data of another order."""
        if state != self.told:
            warnings.warn(
                f"the checkpoint was made with {state}, but the training data are now {self.told}: the epoch goes on "
                "with other batches than it would have",
                stacklevel=2,
            )
