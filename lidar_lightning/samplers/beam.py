"""Beam search: of all children of several states the best go on, judged by where a few steps from them end."""

from typing import Self

import torch
from torch import Tensor

from lidar_lightning.samplers.ahead import ahead
from lidar_lightning.samplers.base import check_random
from lidar_lightning.samplers.budget import Grid, check_budget, equal_times, spending
from lidar_lightning.samplers.resampling import highest
from lidar_lightning.samplers.select import PoolingSampler
from lidar_lightning.samplers.task import Task
from lidar_lightning.utils.seeding import Generators


class BeamSearch(PoolingSampler):
    """Each sample has B states. At every step K children of each are drawn, and the best B of the B K children go on.

    A child is worth the reward of the clean sample to which a few steps lead from it (see `ahead`). The first
    prediction of these steps serves the next step as well. After the last step a child is worth its own reward, and the
    best child is the sample. With B = 1 and one step ahead this is SVDD with keep="best". With K = 1 it is best-of-B,
    without scores on the way. Source: Oshima et al., "Inference-Time Text-to-Video Alignment with Diffusion Latent Beam
    Search", arXiv 2501.19252.

    Args:
        beams: B, the number of states of each sample, at least 1; a budget sets it.
        children: K, the number of children of each state, at least 1.
        ahead_steps: number of steps that `ahead` takes from a child, at least 1; published 6.
        steps: see `Sampler`. Since each step costs B K ahead_steps network calls, few steps may be best.
        pooled: whether the samples are the best different ones among the last children of all samples of a prompt;
            otherwise each is the best among its own.

    Raises:
        ValueError: if a number is below 1, or, when samples are drawn, if the solver is deterministic.
    """

    keep = "best"

    def __init__(
        self,
        beams: int = 4,
        children: int = 2,
        ahead_steps: int = 6,
        steps: int | None = None,
        pooled: bool = True,
    ):
        super().__init__(steps)
        if min(beams, children, ahead_steps) < 1:
            raise ValueError(
                f"beams, children and ahead_steps must be at least 1, got {beams}, {children} and {ahead_steps}"
            )
        self.beams, self.children, self.ahead_steps, self.pooled = beams, children, ahead_steps, pooled

    def cost(self, steps: int, count: int, times: Grid = equal_times) -> int:
        if self.children == 1:
            return count * self.beams * steps
        return count * self.beams * (1 + self.children * sum(min(self.ahead_steps, left) for left in range(1, steps)))

    def sized(self, calls: int, steps: int, count: int, times: Grid = equal_times) -> Self:
        """Takes as many beams as the budget pays for, at least one."""
        one = self.changed(beams=1).cost(steps, 1)
        check_budget("BeamSearch", calls, one, f"one beam of {self.children} children, {self.ahead_steps} steps ahead")
        return spending((self.changed(beams=size) for size in range(calls // one, 0, -1)), calls, steps, count, times)

    def draw(self, task: Task, count: int) -> Tensor:
        slots = count * self.beams * self.children
        streams, others = task.generators(slots), task.generators(slots, "ahead")
        x = task.start(streams.take(range(0, slots, self.children)))
        check_random("BeamSearch", task, x)
        x0_hat = task.predict(x, task.steps[0][0])
        for place, (t, s) in enumerate(task.steps[:-1], 1):
            x = self.offspring(task, x0_hat, x, t, s, streams)
            x0_hat = task.predict(x, s)
            if self.children > 1:
                ends = ahead(task, x, x0_hat, place, self.ahead_steps, others)
                rows = best(task.utility(ends), count, self.beams)
                x, x0_hat = x[rows], x0_hat[rows]
        x = self.offspring(task, x0_hat, x, *task.steps[-1], streams)
        return x if slots == count else x[self.best(task, x, count, task.utility(x))]

    def offspring(self, task: Task, x0_hat: Tensor, x: Tensor, t: float, s: float, streams: Generators) -> Tensor:
        """Draws the children x_s (count * B * K, *S) of all states x_t (count * B, *S)."""
        x0_hat, x = (tensor.repeat_interleave(self.children, 0) for tensor in (x0_hat, x))
        return task.solver.transition(x0_hat, x, t, s).sample(streams)


def best(values: Tensor, count: int, kept: int) -> Tensor:
    """Places (count * kept,) of the `kept` highest values in each of `count` groups of equal size."""
    groups = values.view(count, -1)
    first = torch.arange(count, device=values.device) * groups.shape[1]
    return (highest(groups, kept) + first[:, None]).flatten()
