"""The one loop from noise to data: a denoiser, whose predictions guidance may edit, and a solver."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol, cast

import torch
from torch import Tensor

from lidar_lightning.backbones.base import Backbone
from lidar_lightning.backbones.whole import WholeRuns, WholeSteps, refuse
from lidar_lightning.solvers import Solver
from lidar_lightning.utils.seeding import Generators

Denoiser = Callable[[Tensor, float], Tensor]
"""A function of x_t (B, *S) and t that returns the clean prediction x0_hat."""


def denoiser(backbone: Backbone, condition: Any) -> Denoiser:
    """A backbone as a `Denoiser`; `condition` has one row per sample, or is None."""
    return lambda x, t: backbone.predict(x, torch.full((len(x),), t, dtype=torch.float64, device=x.device), condition)


class Guidance(Protocol):
    """Turns the prediction of a denoiser into another one; solvers do not know it is there."""

    def __call__(self, x_t: Tensor, t: float, s: float, x0_hat: Tensor) -> Tensor:
        """The edited prediction, like x0_hat, for a step from time t to s."""
        ...


class Step(NamedTuple):
    """A step that was made, from time t to time s."""

    t: float
    s: float
    x0_hat: Tensor
    """The prediction at t, guided if there is guidance."""
    x: Tensor
    """x_s (B, *S)."""


def trajectory(
    predict: Denoiser,
    solver: Solver,
    x: Tensor,
    generators: Generators,
    guidance: Guidance | None = None,
    place: int = 0,
) -> Iterator[Step]:
    """Makes the steps of a solver one after the other, from x (B, *S), which `solver.start` returned.

    Args:
        guidance: edits each prediction; None samples the model itself.
        place: the place of x among the solver's times; the steps before it are not made.
    """
    times = solver.times.tolist()[place:]
    for t, s in zip(times, times[1:], strict=False):
        x0_hat = predict(x, t)
        if guidance is not None:
            x0_hat = guidance(x, t, s, x0_hat)
        x = solver.step(x0_hat, x, t, s, generators)
        yield Step(t, s, x0_hat, x)


def last(x: Tensor, steps: Iterator[Step]) -> Tensor:
    """Makes all steps of a trajectory from x and returns the sample (B, *S) at which it ends."""
    for step in steps:
        x = step.x
    return x


def run_whole(
    backbone: WholeRuns,
    solver: Solver,
    generators: Generators,
    prompts: Any,
    guidance: Guidance | None = None,
    x0: Tensor | None = None,
    place: int = 0,
) -> Tensor:
    """Clean samples (B, *S) of a model that only runs as a whole, from pure noise, or from x0 if it is given.

    Args:
        x0: clean samples (B, *S), which are noised to the solver's time number `place`.

    Raises:
        ValueError: if the guidance does more than change the clean prediction.
    """
    change = getattr(guidance, "change", None)
    if guidance is not None and change is None:
        refuse(backbone, type(guidance).__name__)
    return backbone.run(cast(WholeSteps, solver), generators, prompts, change, x0, place)


class Sampled(NamedTuple):
    """What `sample` drew, and what it cost."""

    samples: Tensor
    """Clean samples (B, *S)."""
    nfe: int
    """Network calls per sample."""


@torch.no_grad()
def sample(
    backbone: Backbone,
    solver: Solver,
    generators: Generators,
    condition: Any,
    guidance: Guidance | None = None,
    on_step: Callable[[int], None] | None = None,
) -> Sampled:
    """Draws one sample per generator from pure noise.

    Args:
        condition: what `backbone.encode` gave, one row per sample, or None.
        guidance: edits each prediction; None samples the model itself.
        on_step: called with the number of each finished step.
    """
    if isinstance(backbone, WholeRuns):
        steps, x = cast(WholeSteps, solver).steps, run_whole(backbone, solver, generators, condition, guidance)
        if on_step is not None:
            for number in range(1, steps + 1):
                on_step(number)
        return Sampled(x, steps)
    steps = len(solver.times) - 1
    x = solver.start(backbone.prior(generators))
    with backbone.active():
        for number, step in enumerate(trajectory(denoiser(backbone, condition), solver, x, generators, guidance), 1):
            x = step.x
            if on_step is not None:
                on_step(number)
    return Sampled(x, steps)
