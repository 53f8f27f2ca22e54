"""Moves: Metropolis steps whose proposal is the model itself, noised and denoised.

Noised to t0 and denoised by the model's random solver, a sample x0 becomes a draw x0' of

    K(x0, x0') = integral of q(x_t | x0) p(x0' | x_t) dx_t ,   with   p(x0) K(x0, x0') = p(x0') K(x0', x0) ,

since p(x0' | x_t) = p(x0') q(x_t | x0') / p_t(x_t). So for the target p(x0) exp(lambda r(x0)) only the tilts are left
in the ratio of Metropolis and Hastings: a move is accepted with probability min(1, exp(lambda r' - lambda r)), without
any density or gradient. For every t0 moves leave the target as it is, as exactly as the solver draws the model's
posterior.
"""

import logging

import torch
from torch import Tensor

from lidar_lightning.samplers.base import check_random
from lidar_lightning.samplers.task import Task

logger = logging.getLogger(__name__)


def metropolis(task: Task, x: Tensor, utilities: Tensor, tilts: Tensor, t0: float, moves: int) -> Tensor:
    """Samples (B, *S) after `moves` moves through time t0; each costs the solver's steps below t0 and one reward call.

    Args:
        x: clean samples (B, *S).
        utilities: the utility r of each sample, (B,) float64.
        tilts: the lambda of each sample, (B,) float64.

    Raises:
        ValueError: if steps of the task's solver are not draws from a known law.
    """
    if moves:
        check_random("Moves", task, x)
    generators = task.generators(len(x), "moves")
    for number in range(moves):
        proposed = task.solve_from(x, t0, generators)
        found = task.utility(proposed)
        accepted = generators.rand(1)[:, 0].to(found).log() < tilts * (found - utilities)
        logger.debug("move %d: %.0f%% accepted", number + 1, 100 * accepted.double().mean().item())
        x = torch.where(accepted.view(-1, *[1] * (x.ndim - 1)), proposed, x)
        utilities = torch.where(accepted, found, utilities)
    return x
