"""Guidance: a denoiser in, a denoiser out."""

from lidar_lightning.guidance.lidar import LiDARGuidance
from lidar_lightning.guidance.settings import LiDARSettings

__all__ = ["LiDARGuidance", "LiDARSettings"]
