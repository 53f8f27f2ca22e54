"""Models whose own library makes the whole run, so that samplers cannot ask for single steps."""

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
    """Raises ValueError, which says that `what` needs single steps and the model makes only whole runs."""
    raise ValueError(
        f"{what} asks for single steps, but {type(model).__name__} only runs its pipeline as a whole: use BestOfN or "
        "LiDAR, or the backbone of the model's own class"
    )


class WholeSteps:
    """A number of steps of a pipeline's own scheduler, which the pipeline makes itself.

    Args:
        name: names all that determines the steps except their number.
        steps: number of network calls.
        times: a function that returns the times of a number of steps, then 0: (steps + 1,) float64.

    Raises:
        ValueError: if there is no step.
    """

    def __init__(self, name: str, steps: int, times: Callable[[int], Tensor]):
        if steps < 1:
            raise ValueError(f"a run needs at least 1 step, got {steps}")
        self.name, self.steps, self._times = name, steps, times

    @cached_property
    def times(self) -> Tensor:
        """The times (steps + 1,) float64; they are found only when they are needed, by a call of the pipeline."""
        return self._times(self.steps)

    def start(self, x: Tensor, place: int = 0) -> Tensor:
        refuse(self, "a step")

    def step(self, x0_hat: Tensor, x_t: Tensor, t: float, s: float, generators: Generators) -> Tensor:
        refuse(self, "a step")


class RandomWholeSteps(WholeSteps):
    """Steps at the same times as `WholeSteps`, which are draws from the law of `GaussianAncestral`.

    Args:
        schedule: noise schedule of the model.
        more: the arguments of `WholeSteps`.
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
    """A backbone that only draws clean samples, from pure noise or from noised samples, with guidance or without."""

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
            solver: what the method `solver` or `random_solver` returned.
            generators: one random stream per sample, B in all.
            prompts: P prompts with B / P samples each, in their order.
            change: a function that moves the clean prediction of each step.
            x0: clean samples (B, *S) that begin the run, noised to the solver's time number `place`; None begins with
                pure noise.
            place: see x0.
        """

    def encode(self, prompts: Sequence[str]) -> list[str]:
        """The prompts themselves, as a list."""
        return list(prompts)

    def sample_bytes(self) -> int:
        """The bytes that a sample takes beside its own, since its shape is not known before one was drawn."""
        return ROW

    def predict(self, x_t: Tensor, t: Tensor, condition: Any) -> Tensor:
        refuse(self, "a prediction")

    def corrupt(self, x0: Tensor, t: Tensor, generator: torch.Generator | None = None) -> Tensor:
        refuse(self, "noise")

    def error(self, x0: Tensor, x_t: Tensor, t: Tensor, condition: Any) -> Tensor:
        refuse(self, "training")
