"""What trainings from scratch share: the optimizer, and a learning rate that rises and falls."""

from abc import ABC, abstractmethod

from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import nn

from lidar_lightning.modules.training import TrainingModule, positive
from lidar_lightning.pretraining.optim import MuonAdamW, check_fractions, rise_and_fall


class MuonModule(TrainingModule, ABC):
    """A module whose hidden matrices are trained with Muon and all other weights with AdamW, see `MuonAdamW`.

    Args:
        lr: peak learning rate of both optimizers.
        warmup_fraction, decay: fractions of all steps over which the rate rises and falls, see `rise_and_fall`.

    Raises:
        ValueError: if the rate is not above 0, or if the fractions are not at least 0 with a sum of at most 1.
    """

    def __init__(self, lr: float, warmup_fraction: float, decay: float):
        super().__init__()
        positive(self, lr=lr)
        check_fractions(warmup_fraction, decay)
        self.lr, self.warmup_fraction, self.decay = lr, warmup_fraction, decay

    @abstractmethod
    def matrices(self) -> list[nn.Parameter]:
        """The hidden matrices and kernels, of two or more dimensions."""

    def configure_optimizers(self) -> OptimizerLRScheduler:
        matrices = self.matrices()
        chosen = {id(p) for p in matrices}
        others = [p for p in self.parameters() if p.requires_grad and id(p) not in chosen]
        optimizer = MuonAdamW(matrices, others, self.lr)
        total = int(self.trainer.estimated_stepping_batches)
        schedule = rise_and_fall(optimizer, total, self.warmup_fraction, self.decay)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
