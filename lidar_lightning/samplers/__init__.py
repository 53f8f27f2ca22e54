"""Samplers: ways to draw samples of high reward, on one loop over backbone, guidance and solver."""

from typing import TYPE_CHECKING

from lidar_lightning.lazy import lazy_attributes

HOMES = {
    "BackwardRollout": "rollout",
    "BeamSearch": "beam",
    "BestLookaheads": "best_lookaheads",
    "BestOfN": "best_of_n",
    "BudgetSpentError": "meter",
    "DAS": "das",
    "DATE": "date",
    "DCBG": "dcbg",
    "DPS": "dps",
    "DraftThenFinish": "draft",
    "LiDAR": "lidar",
    "LiDARSMC": "lidar_smc",
    "Meter": "meter",
    "ParticleSampler": "smc",
    "PlannedLiDAR": "planner",
    "RBF": "rbf",
    "SMC": "smc",
    "SVDD": "svdd",
    "Sampler": "base",
    "Task": "task",
    "UniversalGuidance": "universal",
    "VerifierThreshold": "threshold",
}
"""Name to file. A sampler is one file and one entry here."""

if TYPE_CHECKING:
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
    from lidar_lightning.samplers.planner import PlannedLiDAR
    from lidar_lightning.samplers.rbf import RBF
    from lidar_lightning.samplers.rollout import BackwardRollout
    from lidar_lightning.samplers.smc import SMC, ParticleSampler
    from lidar_lightning.samplers.svdd import SVDD
    from lidar_lightning.samplers.task import Task
    from lidar_lightning.samplers.threshold import VerifierThreshold
    from lidar_lightning.samplers.universal import UniversalGuidance
else:
    # The banks draw with the loop, and samplers use banks: nothing may be imported before it is asked for.
    __getattr__ = lazy_attributes(__name__, {name: f"{__name__}.{home}" for name, home in HOMES.items()})

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
    "PlannedLiDAR",
    "RBF",
    "SMC",
    "SVDD",
    "Sampler",
    "Task",
    "UniversalGuidance",
    "VerifierThreshold",
]
