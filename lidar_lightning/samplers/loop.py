"""The one loop: a denoiser, perhaps guided, and a solver, from pure noise to data."""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from lidar_lightning.backbones.base import Backbone
from lidar_lightning.seeding import Generators
from lidar_lightning.solvers import Solver


class Guidance(Protocol):
    """Turns the prediction of a denoiser into another one; solvers do not know it is there."""

    def __call__(self, x_t: Tensor, t: float, s: float, x0_hat: Tensor) -> Tensor:
        """The edited prediction, like x0_hat, for a step from time t to s."""
        ...


class Sampled(NamedTuple):
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
    """Draws one sample per generator.

    Args:
        condition: of `backbone.encode`, one row per sample, or None.
        guidance: edits each prediction; None samples the model itself.
        on_step: called with the number of each finished step.
    """
    x = solver.begin(backbone.prior(generators))
    times = solver.times.tolist()
    with backbone.active():
        for i, (t, s) in enumerate(zip(times, times[1:], strict=False)):
            x0_hat = backbone.predict(x, torch.full((len(x),), t, dtype=torch.float64, device=x.device), condition)
            if guidance is not None:
                x0_hat = guidance(x, t, s, x0_hat)
            x = solver.step(x0_hat, x, t, s, generators)
            if on_step is not None:
                on_step(i + 1)
    return Sampled(x, len(times) - 1)
