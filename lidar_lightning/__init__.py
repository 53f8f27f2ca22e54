"""LiDAR-Lightning: DPO fine-tuning of diffusion models and guidance by lookahead sample rewards, in one workflow."""

from lidar_lightning.backbones import UDLM, Backbone
from lidar_lightning.bank import BankStore, LookaheadBank
from lidar_lightning.guidance import LiDARGuidance
from lidar_lightning.lookahead import Lookahead
from lidar_lightning.modules import DPOModule, LiDARModule, PretrainModule
from lidar_lightning.rewards import Reward

__version__ = "0.1.0"
__all__ = [
    "UDLM",
    "Backbone",
    "BankStore",
    "DPOModule",
    "LiDARGuidance",
    "LiDARModule",
    "Lookahead",
    "LookaheadBank",
    "PretrainModule",
    "Reward",
]
