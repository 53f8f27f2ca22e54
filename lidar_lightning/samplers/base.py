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
"""What a method aims at: draws from the target p(x0) exp(lambda r(x0)), or samples of the highest reward."""


class Sampler(ABC):
    """A way to draw samples of high reward.

    A subclass is one file. Its `draw` draws the samples, and its `sized` fits its settings to a budget.

    Args:
        steps: number of solver steps that this sampler takes; None takes those of the task.

    Raises:
        ValueError: if steps is below 1.
    """

    gradients: bool = False
    """Whether this sampler differentiates the reward and the network."""
    keep: Keep = "draw"
    """What the sampler aims at; rows of tables are labelled with it."""
    random: bool = True
    """Whether the sampler needs a solver whose steps are draws from a known law."""
    several: bool = False
    """Whether one draw may hold several prompts."""
    whole: bool = False
    """Whether all samples of a prompt are drawn together, because they share a pool or rounds."""
    stepwise: bool = True
    """Whether the sampler asks a model for single steps, and not only for runs from pure noise or noised samples."""
    lookahead: Lookahead | None = None
    """How the bank of the sampler is drawn; None if it uses none."""
    steps: int | None = None
    """Number of solver steps, given or set by a budget; None takes those of the task."""

    def __init__(self, steps: int | None = None):
        if steps is not None and steps < 1:
            raise ValueError(
                f"{type(self).__name__} takes at least 1 solver step, got steps={steps}; None takes those of the task"
            )
        self.steps = steps

    @abstractmethod
    def draw(self, task: Task, count: int) -> Tensor:
        """Draws clean samples (count, *S)."""

    def within(self, calls: int, steps: int, count: int, times: Grid = equal_times) -> Self:
        """A copy of this sampler that fits a budget: it spends at least the share `SPENT` of it, and no more than it.

        Args:
            calls: the budget in network calls per sample.
            steps: number of steps of the task's solver, which the sampler takes unless it has its own; it may take more
                of them to spend what is left.
            count: number of samples that it will draw.
            times: the times of the model's own random solver, for any number of steps.

        Raises:
            ValueError: if the sampler needs more than this budget, or cannot spend it.
        """
        return self.sized(calls, self.steps or steps, count, times)

    @abstractmethod
    def sized(self, calls: int, steps: int, count: int, times: Grid = equal_times) -> Self:
        """Does the work of `within`; `steps` is the least number of solver steps that the copy will take."""

    def changed(self, **attributes: Any) -> Self:
        """A copy of this sampler with other attributes."""
        other = copy(self)
        vars(other).update(attributes)
        return other

    def adapted(self, task: Task) -> Task:
        """The task with the solver that this sampler uses."""
        return task if self.steps is None else with_steps(task, self.steps)

    def check_backbone(self, backbone: Backbone) -> None:
        """Raises ValueError if the model only runs as a whole and this sampler asks for single steps."""
        if self.stepwise and isinstance(backbone, WholeRuns):
            refuse(backbone, type(self).__name__)

    def check_reward(self, reward: Reward) -> None:
        """Raises ValueError if this sampler differentiates the reward and the reward cannot be differentiated."""
        if self.gradients and not reward.differentiable:
            raise ValueError(
                f"{type(self).__name__} differentiates the reward, and {reward.name!r} is not differentiable: "
                "use a sampler without gradients, such as BestOfN, SMC, SVDD or LiDAR"
            )

    def __call__(self, task: Task, count: int) -> Tensor:
        """Checks the arguments, then draws `count` samples (count, *S) while the task's meter measures.

        Raises:
            ValueError: if count is below 1, or the sampler differentiates a reward that cannot be differentiated.
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
    """Raises ValueError, naming the first one that is no Sampler."""
    if wrong := [name for name, sampler in samplers.items() if not isinstance(sampler, Sampler)]:
        raise ValueError(f"{what} must be Samplers, but {wrong[0]!r} is of type {type(samplers[wrong[0]]).__name__}")


def check_keep(keep: str) -> None:
    """Raises ValueError unless `keep` is "draw" or "best"."""
    if keep not in get_args(Keep):
        raise ValueError(f"keep must be 'draw' (samples the target) or 'best' (keeps the highest reward), got {keep!r}")


def check_particles(name: str, particles: float) -> None:
    """Raises ValueError unless there is at least one particle."""
    if particles < 1:
        raise ValueError(f"{name} needs at least 1 particle, got {particles}; with 1 it samples the plain model")


def check_random(name: str, task: Task, x: Tensor) -> None:
    """Raises ValueError unless steps of the task's solver are draws, so that children of one sample differ.

    Args:
        x: samples (B, *S) at the first time of the solver.
    """
    transition, continuous = getattr(task.solver, "transition", None), x.is_floating_point()
    # Predictions of continuous data are like x itself, and the noise of a step does not depend on them.
    fixed = continuous and len(task.steps) > 1 and transition and transition(x, x, *task.steps[0]).std == 0
    if transition is None or fixed:
        use = "GaussianAncestral with eta > 0, or FlowSDE with scale > 0" if continuous else "Ancestral"
        raise ValueError(
            f"{name} needs random steps of a known law, but those of {task.solver.name} are deterministic: use the "
            f"solver {use}"
        )
