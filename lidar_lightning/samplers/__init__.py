"""Samplers: ways to draw samples of high reward, on one loop over backbone, guidance and solver."""

from lidar_lightning.samplers.base import Sampler
from lidar_lightning.samplers.beam import BeamSearch
from lidar_lightning.samplers.best_lookaheads import BestLookaheads
from lidar_lightning.samplers.best_of_n import BestOfN
from lidar_lightning.samplers.das import DAS
from lidar_lightning.samplers.date import DATE
from lidar_lightning.samplers.dcbg import DCBG
from lidar_lightning.samplers.dps import DPS
from lidar_lightning.samplers.draft import DraftThenFinish
from lidar_lightning.samplers.lidar import LiDAR
from lidar_lightning.samplers.lidar_smc import LiDARSMC
from lidar_lightning.samplers.meter import BudgetSpentError, Meter
from lidar_lightning.samplers.planner import Planned
from lidar_lightning.samplers.rbf import RBF
from lidar_lightning.samplers.rollout import BackwardRollout
from lidar_lightning.samplers.smc import SMC, ParticleSampler
from lidar_lightning.samplers.svdd import SVDD
from lidar_lightning.samplers.task import Task
from lidar_lightning.samplers.threshold import VerifierThreshold
from lidar_lightning.samplers.universal import UniversalGuidance

__all__ = [
    "BackwardRollout",
    "BeamSearch",
    "BestLookaheads",
    "BestOfN",
    "BudgetSpentError",
    "DAS",
    "DATE",
    "DCBG",
    "DPS",
    "DraftThenFinish",
    "LiDAR",
    "LiDARSMC",
    "Meter",
    "ParticleSampler",
    "Planned",
    "RBF",
    "SMC",
    "SVDD",
    "Sampler",
    "Task",
    "UniversalGuidance",
    "VerifierThreshold",
]
