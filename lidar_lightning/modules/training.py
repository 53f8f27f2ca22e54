"""What every training shares: random numbers that belong to each step, and whole checkpoints."""

from typing import Any, cast

import lightning as L
import torch
from torch import Tensor

from lidar_lightning.modules.checkpoints import check_checkpoint
from lidar_lightning.utils.progress import advance
from lidar_lightning.utils.seeding import stream_seed


class TrainingModule(L.LightningModule):
    """A LightningModule whose run ends at the same weights whether or not it was killed and resumed in between.

    All random numbers of a training step, dropout's too, are a function of the seed, the step, the batch and the
    process. The seed is that of torch when the run began; it stays with the checkpoints. The progress line of a
    `working` block around the run counts its optimizer steps.

    Raises:
        ValueError: during a run, if a loss is not finite, or the checkpoint that it goes on from is damaged.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seed: int | None = None
        self._shown = 0

    def step_seed(self, batch_idx: int) -> int:
        """The seed of a training step."""
        return stream_seed(self.seed or 0, f"step {self.global_step} of process {self.global_rank}", batch_idx)

    def on_fit_start(self) -> None:
        if self.seed is None:
            self.seed = int(self.trainer.strategy.broadcast(torch.initial_seed()))
        self._shown = 0

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        torch.manual_seed(self.step_seed(batch_idx))
        self.count_epochs()

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        advance(self.global_step - self._shown)
        self._shown = self.global_step

    def count_epochs(self) -> None:
        """Within an epoch, sets the number of epochs that have begun to one more than have ended.

        Lightning does not in a run that goes on from the last batch of an epoch, so that it would lose one later.
        """
        progress = self.trainer.fit_loop.epoch_progress
        for counts in (cast(Any, progress.current), cast(Any, progress.total)):
            counts.ready = counts.started = counts.processed + 1
            counts.completed = counts.processed

    def on_before_backward(self, loss: Tensor) -> None:
        if not loss.isfinite():
            raise ValueError(
                f"the loss of step {self.global_step} is NaN or infinite: the run has diverged; lower its learning rate"
            )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["seed"] = self.seed

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        check_checkpoint(self, checkpoint)
        self.seed = checkpoint.get("seed")


def positive(owner: object, **values: float) -> None:
    """Raises ValueError, naming the class and the argument, unless all values are above 0 and finite."""
    for name, value in values.items():
        if not 0 < value < float("inf"):
            raise ValueError(f"{type(owner).__name__} needs {name} > 0 and finite, got {value}")
