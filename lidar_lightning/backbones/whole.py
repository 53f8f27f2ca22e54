"""Models whose own library makes the whole run, so that no step of it can be asked for."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, NoReturn

import torch
from torch import Tensor

from lidar_lightning.backbones.base import Backbone
from lidar_lightning.solvers import RandomSolver
from lidar_lightning.solvers.stock import Change
from lidar_lightning.utils.seeding import Generators
from lidar_lightning.utils.sizes import ROW


def refuse(model: Any, what: str) -> NoReturn:
    """Raises ValueError: `what` needs more of a model than whole runs."""
    raise ValueError(
        f"{what} asks for single steps, and {type(model).__name__} only runs its pipeline as a whole: use BestOfN, or "
        "LiDAR from pure noise (no restart, no moves), or the backbone of the model's own class"
    )


class WholeSteps:
    """So many steps of a pipeline's own scheduler, which it makes itself.

    Args:
        name: all that determines them but their number.
        steps: network calls.

    Raises:
        ValueError: if there is no step.
    """

    def __init__(self, name: str, steps: int):
        if steps < 1:
            raise ValueError(f"a run needs at least 1 step, got {steps}")
        self.name, self.steps = name, steps
        self.times = torch.linspace(1, 0, steps + 1, dtype=torch.float64)
        """Where they would be if they were equally spaced."""

    def start(self, x: Tensor, place: int = 0) -> Tensor:
        refuse(self, "a run from a given sample")

    def step(self, x0_hat: Tensor, x_t: Tensor, t: float, s: float, generators: Generators) -> Tensor:
        refuse(self, "a step from a given sample")


class WholeRuns(Backbone):
    """A backbone that draws clean samples from pure noise, plain or guided, and nothing else."""

    @abstractmethod
    def run(
        self, solver: WholeSteps, generators: Generators, prompts: Sequence[str], change: Change | None = None
    ) -> Tensor:
        """Clean samples (B, *S) float32 from pure noise.

        Args:
            solver: what `solver` gave.
            generators: one stream per sample, B in all.
            prompts: P of them, of B / P samples each, in their order.
            change: moves the clean prediction of each step.
        """

    def encode(self, prompts: Sequence[str]) -> list[str]:
        """The prompts themselves."""
        return list(prompts)

    def sample_bytes(self) -> int:
        """What a sample takes beside itself: its shape is known once one was drawn."""
        return ROW

    def predict(self, x_t: Tensor, t: Tensor, condition: Any) -> Tensor:
        refuse(self, "a prediction")

    def random_solver(self, steps: int) -> RandomSolver:
        refuse(self, "a solver with random steps of a known law")

    def corrupt(self, x0: Tensor, t: Tensor, generator: torch.Generator | None = None) -> Tensor:
        refuse(self, "a restart")

    def error(self, x0: Tensor, x_t: Tensor, t: Tensor, condition: Any) -> Tensor:
        refuse(self, "training")
