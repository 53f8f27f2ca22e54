"""Backbones: adapters that make a published model a denoiser."""

from lidar_lightning.backbones.base import Backbone
from lidar_lightning.backbones.udlm import UDLM

__all__ = ["UDLM", "Backbone"]
