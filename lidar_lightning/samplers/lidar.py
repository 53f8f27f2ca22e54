"""LiDAR as a sampler: a bank, then guided samples from noise or from its members; in rounds, which join the bank."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor

from lidar_lightning.guidance.kernels import kernel_of
from lidar_lightning.guidance.lidar import LiDARGuidance
from lidar_lightning.guidance.settings import LiDARSettings
from lidar_lightning.lookahead import Lookahead
from lidar_lightning.samplers.base import Sampler, Task
from lidar_lightning.samplers.budget import Grid, check_budget, equal_times, spending
from lidar_lightning.samplers.restart import members, place_of
from lidar_lightning.samplers.select import Selection


class Members(NamedTuple):
    """A bank of clean samples (n, *S), their lambda r (n,), and the log of what each counts for (n,)."""

    samples: Tensor
    values: Tensor
    log_weights: Tensor


def lookahead_members(task: Task, lookahead: Lookahead) -> Members:
    """Draws and scores the bank of a task; its n * delta network calls and n rewards are counted."""
    task.meter.spend(lookahead.n * lookahead.steps, lookahead.source(task.backbone).evaluations)
    task.meter.decodes += lookahead.n
    task.meter.rewards += lookahead.n
    bank = lookahead.bank(task.backbone, task.prompt, task.seed, task.reward.parts)
    if task.reference is None:
        task.reference = bank.rewards
    else:
        task.freeze()
    values = task.temperature * task.reward.from_scores(bank.rewards).double()
    return Members(bank.samples, values, torch.zeros_like(values))


class LiDAR(Sampler):
    """Samples guided by the closed form of a bank of lookahead samples (arXiv 2602.03211), in one round or several.

    With `restart` its members begin the run too (see `restart`); with more candidates than samples it selects.

    After each round but the last its guided samples join the bank. They come from p(x0) exp(lambda r(x0)) / Z rather
    than from p, so that with n lookaheads and m of them a member counts for 1 / (n + m exp(lambda r) / Z), the balance
    heuristic (Veach, Guibas 1995), with Z the lookaheads' mean of exp(lambda r), and lambda that of the round. The bank
    stays one of p, with more members where the reward is high.

    Args:
        lookahead: how the bank is drawn.
        rounds: at least 1.
        joining: guided samples of each round that join the bank.
        pooled: choose the best candidates among all of a prompt; otherwise among each sample's own.
        settings: see `LiDARSettings`; without temperature and ess, lambda is the task's own.

    Raises:
        ValueError: if a setting is out of range.
    """

    def __init__(self, lookahead: Lookahead, rounds: int = 1, joining: int = 8, pooled: bool = True, **settings: Any):
        if rounds < 1 or joining < 1:
            raise ValueError(f"rounds and joining must be at least 1, got {rounds} and {joining}")
        self.lookahead, self.rounds, self.joining = lookahead, rounds, joining
        self.settings = LiDARSettings(**settings)
        self.selection = Selection(self.settings.candidates, "best", pooled)
        self.keep = "draw" if self.settings.candidates == 1 else "best"

    @property
    def start(self) -> float:
        """The time from which the solver runs."""
        return 1.0 if self.settings.restart is None else self.settings.restart

    def cost(self, steps: int, count: int, times: Grid = equal_times) -> int:
        run = steps - place_of(times(steps), self.start)
        passes = run * self.selection.drawn(count) + steps * (self.rounds - 1) * self.joining
        return self.lookahead.n * self.lookahead.steps + passes

    def within(self, calls: int, steps: int, count: int, times: Grid = equal_times) -> Self:
        """All calls beyond the guided passes draw lookaheads: n = (calls - steps) * count / delta at most."""
        fewest = self.changed(lookahead=self.lookahead.of_size(1)).cost(steps, count, times)
        check_budget("LiDAR", calls, -(-fewest // count), "the guided passes and one lookahead")
        most = 1 + (calls * count - fewest) // self.lookahead.steps
        sizes = (self.changed(lookahead=self.lookahead.of_size(n)) for n in range(most, 0, -1))
        return spending(sizes, calls, steps, count, times)

    def guidance(self, task: Task, members: Members) -> LiDARGuidance:
        """The guidance of a bank."""
        return LiDARGuidance(
            members.samples,
            members.values,
            task.backbone.schedule,
            self.settings.of_task(1.0),
            kernel_of(task.backbone.vocab_size),
            members.log_weights,
        )

    def draw(self, task: Task, count: int) -> Tensor:
        bank = lookahead_members(task, self.lookahead)
        guidance, tilts = self.guidance(task, bank), []
        for number in range(1, self.rounds):
            tilts.append(guidance.temperature.item())
            samples = task.solve(task.generators(self.joining, f"round {number}"), guidance)
            values = torch.cat((bank.values, task.value(samples)))
            bank = Members(
                torch.cat((bank.samples, samples.to(bank.samples))),
                values,
                balanced(values, self.lookahead.n, self.joining, tilts),
            )
            guidance = self.guidance(task, bank)
        drawn = self.selection.drawn(count)
        generators = task.generators(drawn)
        if self.start == 1:
            x = task.solve(generators, guidance)
        else:
            tilt = guidance.temperature * bank.values + bank.log_weights
            rows = members(tilt, torch.arange(drawn, device=tilt.device), task.generators(1, "restart"))
            x = task.solve_from(bank.samples[rows], self.start, generators, guidance)
        return self.selection(task, x, count)


def balanced(values: Tensor, n: int, joining: int, tilts: Sequence[float]) -> Tensor:
    """Log of what members count for, by the balance heuristic: -log(n + sum_j m exp(lambda_j v) / Z_j), (k,).

    Args:
        values: v (k,), of the n lookaheads first; Z_j is the mean of exp(lambda_j v) over these.
        joining: m, members from each round.
        tilts: lambda_j of the rounds.
    """
    parts = [torch.full_like(values, math.log(n))]
    for tilt in tilts:
        log_z = (tilt * values[:n]).logsumexp(0) - math.log(n)
        parts.append(math.log(joining) + tilt * values - log_z)
    return -torch.stack(parts).logsumexp(0)
