"""Rewards: what guidance maximises and reports tabulate."""

from lidar_lightning.rewards.aesthetic import Aesthetic
from lidar_lightning.rewards.base import Reward, score, scored_rewards, utility
from lidar_lightning.rewards.callables import CallableReward, load_reward
from lidar_lightning.rewards.clip import CLIPReward, CLIPScore, PickScore
from lidar_lightning.rewards.combine import Combined, minimum, pareto_rank, weighted_sum, z_normalise
from lidar_lightning.rewards.hps import HPSv21
from lidar_lightning.rewards.http import HTTPReward, HTTPScorer
from lidar_lightning.rewards.image_reward import ImageReward
from lidar_lightning.rewards.jpeg import JPEGCompressibility, JPEGIncompressibility
from lidar_lightning.rewards.judge import VisionJudge
from lidar_lightning.rewards.molecules import (
    QED,
    ElementCount,
    HeavyAtoms,
    LogP,
    MoleculeReward,
    RingCount,
    SyntheticAccessibility,
    Validity,
)
from lidar_lightning.rewards.network import NetworkReward
from lidar_lightning.rewards.ocr import OCRMatch
from lidar_lightning.rewards.shapes import ShapesReward, ShapesVerdict

__all__ = [
    "QED",
    "Aesthetic",
    "CLIPReward",
    "CLIPScore",
    "CallableReward",
    "Combined",
    "ElementCount",
    "HPSv21",
    "HTTPReward",
    "HTTPScorer",
    "HeavyAtoms",
    "ImageReward",
    "JPEGCompressibility",
    "JPEGIncompressibility",
    "LogP",
    "MoleculeReward",
    "NetworkReward",
    "OCRMatch",
    "PickScore",
    "Reward",
    "RingCount",
    "ShapesReward",
    "ShapesVerdict",
    "SyntheticAccessibility",
    "Validity",
    "VisionJudge",
    "load_reward",
    "minimum",
    "pareto_rank",
    "score",
    "scored_rewards",
    "utility",
    "weighted_sum",
    "z_normalise",
]
