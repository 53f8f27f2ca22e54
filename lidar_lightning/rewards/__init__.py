"""Rewards: what guidance maximises and reports tabulate."""

from lidar_lightning.rewards.base import CallableReward, Reward, load_reward, score, utility
from lidar_lightning.rewards.combine import Combined, minimum, pareto_rank, weighted_sum, z_normalise
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
from lidar_lightning.rewards.shapes import ShapesReward, ShapesVerdict

__all__ = [
    "QED",
    "CallableReward",
    "Combined",
    "ElementCount",
    "HeavyAtoms",
    "LogP",
    "MoleculeReward",
    "Reward",
    "RingCount",
    "ShapesReward",
    "ShapesVerdict",
    "SyntheticAccessibility",
    "Validity",
    "load_reward",
    "minimum",
    "pareto_rank",
    "score",
    "utility",
    "weighted_sum",
    "z_normalise",
]
