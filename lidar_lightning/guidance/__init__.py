"""Guidance: a denoiser in, a denoiser out."""

from lidar_lightning.guidance.lidar import LiDARGuidance

__all__ = ["LiDARGuidance"]
