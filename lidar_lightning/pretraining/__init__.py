"""Pre-training: how the shipped checkpoints were trained from scratch."""

from lidar_lightning.pretraining.molecules import PretrainModule

__all__ = ["PretrainModule"]
