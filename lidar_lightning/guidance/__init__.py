"""Guidance: it turns the predictions of a denoiser into other predictions."""

from lidar_lightning.guidance.lidar import LiDARGuidance
from lidar_lightning.guidance.settings import LiDARSettings

__all__ = ["LiDARGuidance", "LiDARSettings"]
