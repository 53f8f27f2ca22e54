"""What every sampler must do: draw samples of high reward, within a budget."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from copy import copy
from typing import Any, Literal, Self, get_args

import torch
from torch import Tensor

from lidar_lightning.backbones.base import Backbone
from lidar_lightning.backbones.whole import WholeRuns, refuse
from lidar_lightning.lookahead import Lookahead
from lidar_lightning.rewards.base import Reward
from lidar_lightning.samplers.budget import Grid, equal_times
from lidar_lightning.samplers.task import Task, with_steps

Keep = Literal["draw", "best"]
"""What a method aims at: draws of the target p(x0) exp(lambda r(x0)), or samples of the highest reward."""


class Sampler(ABC):
    """A way to draw samples of high reward.

    A subclass is one file: it says what it does in `draw`, and in `sized` how a budget sets its free numbers.

    Args:
        steps: solver steps of its own, in place of the task's: a method may be at its best with fewer or more.

    Raises:
        ValueError: if there is no step.
    """

    gradients: bool = False
    """Whether it differentiates the reward and the network."""
    keep: Keep = "draw"
    """What it aims at; rows of tables are labelled with it."""
    random: bool = True
    """Whether it needs a solver whose steps are draws from a known law."""
    several: bool = False
    """Whether one draw may hold several prompts."""
    whole: bool = False
    """Whether it draws all samples of a prompt together, because they share a pool or rounds."""
    stepwise: bool = True
    """Whether it asks a model for single steps, beyond runs from pure noise or from noised samples."""
    lookahead: Lookahead | None = None
    """How it draws the bank that it rests on, if it does."""
    steps: int | None = None
    """Solver steps of its own, given or set by a budget; None takes the task's."""

    def __init__(self, steps: int | None = None):
        if steps is not None and steps < 1:
            raise ValueError(
                f"{type(self).__name__} takes at least 1 solver step, got steps={steps}; None is the task's"
            )
        self.steps = steps

    @abstractmethod
    def draw(self, task: Task, count: int) -> Tensor:
        """Clean samples (count, *S)."""

    def within(self, calls: int, steps: int, count: int, times: Grid = equal_times) -> Self:
        """This method with `calls` network calls per sample, of which it spends at least `SPENT` and none beyond.

        Args:
            calls: the budget.
            steps: of the task's solver, unless the method has its own; it may take more of them where that spends what
                is left.
            count: samples that it will draw.
            times: of the model's own random solver.

        Raises:
            ValueError: if that is too few for it, or it cannot spend them.
        """
        return self.sized(calls, self.steps or steps, count, times)

    @abstractmethod
    def sized(self, calls: int, steps: int, count: int, times: Grid = equal_times) -> Self:
        """`within`, with the solver steps that it will take at least."""

    def changed(self, **attributes: Any) -> Self:
        """A copy with other attributes."""
        other = copy(self)
        vars(other).update(attributes)
        return other

    def adapted(self, task: Task) -> Task:
        """The task with the solver that this method steps with."""
        return task if self.steps is None else with_steps(task, self.steps)

    def check_backbone(self, backbone: Backbone) -> None:
        """Raises ValueError if the model only runs as a whole and this method asks for single steps."""
        if self.stepwise and isinstance(backbone, WholeRuns):
            refuse(backbone, type(self).__name__)

    def check_reward(self, reward: Reward) -> None:
        """Raises ValueError if the reward cannot be differentiated and must be."""
        if self.gradients and not reward.differentiable:
            raise ValueError(
                f"{type(self).__name__} differentiates the reward, and {reward.name!r} is not differentiable: "
                "use a sampler without gradients, such as BestOfN, SMC, SVDD or LiDAR"
            )

    def __call__(self, task: Task, count: int) -> Tensor:
        """`draw`, checked and measured.

        Raises:
            ValueError: if there is nothing to draw, or the reward cannot be differentiated and must be.
        """
        check_count(count)
        self.check_reward(task.reward)
        with task.meter.running(), torch.no_grad():
            return self.draw(self.adapted(task), count).detach()


def check_count(count: int) -> None:
    """Raises ValueError if there is no sample to draw."""
    if count < 1:
        raise ValueError(f"draw at least 1 sample, got {count}")


def check_samplers(what: str, samplers: Mapping[str, Any]) -> None:
    """Raises ValueError naming the first that is no Sampler."""
    if wrong := [name for name, sampler in samplers.items() if not isinstance(sampler, Sampler)]:
        raise ValueError(f"{what} must be Samplers, {wrong[0]!r} is a {type(samplers[wrong[0]]).__name__}")


def check_keep(keep: str) -> None:
    """Raises ValueError unless a method is told to keep draws or the best."""
    if keep not in get_args(Keep):
        raise ValueError(f"keep is 'draw', for the target, or 'best', for the highest reward, got {keep!r}")


def check_particles(name: str, particles: float) -> None:
    """Raises ValueError unless there is at least one particle."""
    if particles < 1:
        raise ValueError(f"{name} needs at least 1 particle, got {particles}; with 1 it samples the plain model")


def check_random(name: str, task: Task, x: Tensor) -> None:
    """Raises ValueError unless steps of the task's solver are draws, so that children of one sample differ.

    Args:
        x: at the first time (B, *S).
    """
    transition, continuous = getattr(task.solver, "transition", None), x.is_floating_point()
    # Predictions of continuous data are like x itself, and the noise of a step does not depend on them.
    fixed = continuous and len(task.steps) > 1 and transition and transition(x, x, *task.steps[0]).std == 0
    if transition is None or fixed:
        use = "GaussianAncestral with eta > 0, or FlowSDE with scale > 0" if continuous else "Ancestral"
        raise ValueError(
            f"{name} needs random steps of a known law, and those of {task.solver.name} are deterministic: use the "
            f"solver {use}"
        )
