"""Samplers: ways to draw samples of high reward, on one loop over backbone, guidance and solver."""

from typing import TYPE_CHECKING

from lidar_lightning.lazy import lazy_attributes

HOMES = {
    "BestOfN": "best_of_n",
    "BudgetSpentError": "meter",
    "LiDAR": "lidar",
    "LiDARSMC": "lidar_smc",
    "Meter": "meter",
    "ParticleSampler": "smc",
    "SMC": "smc",
    "Sampled": "loop",
    "Sampler": "base",
    "Task": "base",
    "sample": "loop",
}
"""Name to file. A sampler is one file and one entry here."""

if TYPE_CHECKING:
    from lidar_lightning.samplers.base import Sampler, Task
    from lidar_lightning.samplers.best_of_n import BestOfN
    from lidar_lightning.samplers.lidar import LiDAR
    from lidar_lightning.samplers.lidar_smc import LiDARSMC
    from lidar_lightning.samplers.loop import Sampled, sample
    from lidar_lightning.samplers.meter import BudgetSpentError, Meter
    from lidar_lightning.samplers.smc import SMC, ParticleSampler
else:
    # The banks draw with the loop, and samplers use banks: nothing may be imported before it is asked for.
    __getattr__ = lazy_attributes(__name__, {name: f"{__name__}.{home}" for name, home in HOMES.items()})

__all__ = [
    "SMC",
    "BestOfN",
    "BudgetSpentError",
    "LiDAR",
    "LiDARSMC",
    "Meter",
    "ParticleSampler",
    "Sampled",
    "Sampler",
    "Task",
    "sample",
]
