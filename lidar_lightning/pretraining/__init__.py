"""Pre-training: what only the shipped checkpoints needed."""

from lidar_lightning.pretraining.udlm import PretrainModule

__all__ = ["PretrainModule"]
