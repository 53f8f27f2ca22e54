"""The interface that samplers call."""

from typing import Protocol

from torch import Tensor

from lidar_lightning.solvers.transition import Transition
from lidar_lightning.utils.seeding import Generators


class Solver(Protocol):
    """Steps a batch from noise to data along `times`."""

    name: str
    """Names the method and all that determines its steps except their number; reports and banks quote it."""

    @property
    def times(self) -> Tensor:
        """Decreasing times (steps + 1,) in [0, 1]; the network is called at all of them except the last."""
        ...

    def start(self, x: Tensor, place: int = 0) -> Tensor:
        """Begins at `times[place]` with x (B, *S), pure noise at the first of them, and forgets all earlier steps."""
        ...

    def step(self, x0_hat: Tensor, x_t: Tensor, t: float, s: float, generators: Generators) -> Tensor:
        """x_s (B, *S) from x_t (B, *S) and the prediction x0_hat at t > s."""
        ...


class RandomSolver(Solver, Protocol):
    """A solver whose steps are draws from a law that can be evaluated, as particle methods need."""

    def transition(self, x0_hat: Tensor, x_t: Tensor, t: float, s: float) -> Transition:
        """The law of x_s."""
        ...

    def estimate(self, x0_hat: Tensor, x_t: Tensor, t: float) -> Tensor:
        """The clean sample (B, *S) that a reward can score in the middle of a run."""
        ...
