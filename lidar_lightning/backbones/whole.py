"""Models whose own library makes the whole run, so that no step of it can be asked for."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, NoReturn

import torch
from torch import Tensor

from lidar_lightning.backbones.base import Backbone
from lidar_lightning.schedules import Schedule
from lidar_lightning.solvers import GaussianAncestral, Transition
from lidar_lightning.solvers.stock import Change
from lidar_lightning.utils.seeding import Generators
from lidar_lightning.utils.sizes import ROW


def refuse(model: Any, what: str) -> NoReturn:
    """Raises ValueError: `what` needs more of a model than whole runs."""
    raise ValueError(
        f"{what} asks for single steps, and {type(model).__name__} only runs its pipeline as a whole: use BestOfN or "
        "LiDAR, or the backbone of the model's own class"
    )


class WholeSteps:
    """So many steps of a pipeline's own scheduler, which it makes itself.

    Args:
        name: all that determines them but their number.
        steps: network calls.
        times: finds their times, then 0 (steps + 1,) float64.

    Raises:
        ValueError: if there is no step.
    """

    def __init__(self, name: str, steps: int, times: Callable[[int], Tensor]):
        if steps < 1:
            raise ValueError(f"a run needs at least 1 step, got {steps}")
        self.name, self.steps, self._times = name, steps, times

    @cached_property
    def times(self) -> Tensor:
        """Asked for only when they are needed: the pipeline has to be called for them."""
        return self._times(self.steps)

    def start(self, x: Tensor, place: int = 0) -> Tensor:
        refuse(self, "a step")

    def step(self, x0_hat: Tensor, x_t: Tensor, t: float, s: float, generators: Generators) -> Tensor:
        refuse(self, "a step")


class RandomWholeSteps(WholeSteps):
    """Steps at the same times that are draws from a known law: `GaussianAncestral`.

    Args:
        schedule: noise schedule of the model.
        more: as of `WholeSteps`.
    """

    def __init__(self, schedule: Schedule, *more: Any):
        super().__init__(*more)
        self.schedule = schedule

    @cached_property
    def law(self) -> GaussianAncestral:
        return GaussianAncestral(self.schedule, len(self.times) - 1, times=self.times)

    def transition(self, x0_hat: Tensor, x_t: Tensor, t: float, s: float) -> Transition:
        """The law of x_s (B, *S) for t > s."""
        return self.law.transition(x0_hat, x_t, t, s)

    def estimate(self, x0_hat: Tensor, x_t: Tensor, t: float) -> Tensor:
        """The prediction itself."""
        return x0_hat


class WholeRuns(Backbone):
    """A backbone that draws clean samples from pure noise or from noised ones, plain or guided, and nothing else."""

    @abstractmethod
    def run(
        self,
        solver: WholeSteps,
        generators: Generators,
        prompts: Sequence[str],
        change: Change | None = None,
        x0: Tensor | None = None,
        place: int = 0,
    ) -> Tensor:
        """Clean samples (B, *S) float32.

        Args:
            solver: what `solver` or `random_solver` gave.
            generators: one stream per sample, B in all.
            prompts: P of them, of B / P samples each, in their order.
            change: moves the clean prediction of each step.
            x0: clean samples (B, *S), noised to the solver's time number `place`, begin the run; None is pure noise.
        """

    def encode(self, prompts: Sequence[str]) -> list[str]:
        """The prompts themselves."""
        return list(prompts)

    def sample_bytes(self) -> int:
        """What a sample takes beside itself: its shape is known once one was drawn."""
        return ROW

    def predict(self, x_t: Tensor, t: Tensor, condition: Any) -> Tensor:
        refuse(self, "a prediction")

    def corrupt(self, x0: Tensor, t: Tensor, generator: torch.Generator | None = None) -> Tensor:
        refuse(self, "noise")

    def error(self, x0: Tensor, x_t: Tensor, t: Tensor, condition: Any) -> Tensor:
        refuse(self, "training")
