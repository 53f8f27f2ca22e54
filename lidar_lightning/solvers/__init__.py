"""Solvers: one step from t to s, given a prediction of the clean data."""

from lidar_lightning.solvers.ancestral import Ancestral
from lidar_lightning.solvers.base import Solver
from lidar_lightning.solvers.scheduler import SchedulerSolver

__all__ = ["Ancestral", "SchedulerSolver", "Solver"]
