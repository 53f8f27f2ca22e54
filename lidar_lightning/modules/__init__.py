"""LightningModules: sampling with LiDAR and other samplers, fine-tuning, and the learned value of SVDD."""

from lidar_lightning.modules.dpo import DPOModule
from lidar_lightning.modules.lidar import LiDARModule
from lidar_lightning.modules.reward_tuning import RewardTuningModule
from lidar_lightning.modules.sampling import SamplingModule
from lidar_lightning.modules.value import ValueModule

__all__ = ["DPOModule", "LiDARModule", "RewardTuningModule", "SamplingModule", "ValueModule"]
