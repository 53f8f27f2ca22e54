"""LightningModules: pre-training, DPO fine-tuning and LiDAR sampling, all around one `backbone`."""

from lidar_lightning.modules.dpo import DPOModule
from lidar_lightning.modules.lidar import LiDARModule
from lidar_lightning.modules.pretrain import PretrainModule

__all__ = ["DPOModule", "LiDARModule", "PretrainModule"]
