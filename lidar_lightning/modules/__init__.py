"""LightningModules: pre-training, fine-tuning by pairs or a reward, and LiDAR sampling, all around one `backbone`."""

from lidar_lightning.modules.dpo import DPOModule
from lidar_lightning.modules.lidar import LiDARModule
from lidar_lightning.modules.pretrain import PretrainModule
from lidar_lightning.modules.reward_tuning import RewardTuningModule

__all__ = ["DPOModule", "LiDARModule", "PretrainModule", "RewardTuningModule"]
