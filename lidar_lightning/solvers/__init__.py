"""Solvers: one step from t to s, given a prediction of the clean data."""

from lidar_lightning.solvers.ancestral import Ancestral
from lidar_lightning.solvers.base import RandomSolver, Solver
from lidar_lightning.solvers.flow_sde import FlowSDE
from lidar_lightning.solvers.gaussian import GaussianAncestral, times_of_schedule
from lidar_lightning.solvers.scheduler import SchedulerSolver
from lidar_lightning.solvers.tokens import TokenSolver
from lidar_lightning.solvers.transition import Categorical, Normal, Transition
from lidar_lightning.solvers.unmasking import Unmasking

__all__ = [
    "Ancestral",
    "Categorical",
    "FlowSDE",
    "GaussianAncestral",
    "Normal",
    "RandomSolver",
    "SchedulerSolver",
    "Solver",
    "TokenSolver",
    "Transition",
    "Unmasking",
    "times_of_schedule",
]
