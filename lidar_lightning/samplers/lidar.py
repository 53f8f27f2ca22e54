"""LiDAR as a sampler: a bank, then guided samples; in rounds, whose guided samples join the bank."""

import math
from collections.abc import Iterator, Sequence
from copy import copy
from typing import NamedTuple, Self

import torch
from torch import Tensor

from lidar_lightning.guidance.kernels import kernel_of
from lidar_lightning.guidance.lidar import LiDARGuidance
from lidar_lightning.guidance.settings import LiDARSettings
from lidar_lightning.lookahead import Lookahead
from lidar_lightning.samplers.base import Keep, Sampler, Task, check_keep
from lidar_lightning.samplers.budget import check_budget, spending
from lidar_lightning.samplers.loop import Guidance
from lidar_lightning.samplers.resampling import highest
from lidar_lightning.seeding import Generators


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


def guided(task: Task, guidance: Guidance, generators: Generators) -> Tensor:
    """One guided sample per generator."""
    x = task.start(generators)
    for t, s in task.steps:
        x = task.solver.step(guidance(x, t, s, task.predict(x, t)), x, t, s, generators)
    return x


class LiDAR(Sampler):
    """Samples guided by the closed form of a bank of lookahead samples (arXiv 2602.03211), in one round or several.

    After each round but the last its guided samples join the bank. They come from p(x0) exp(lambda r(x0)) / Z rather
    than from p, so that with n lookaheads and m of them a member counts for 1 / (n + m exp(lambda r) / Z), the balance
    heuristic (Veach, Guibas 1995), with Z the lookaheads' mean of exp(lambda r), and lambda that of the round. The bank
    stays one of p, with more members where the reward is high.

    Args:
        lookahead: how the bank is drawn.
        scale, ess, start, stop: see `LiDARGuidance`; without ess the temperature is the task's own.
        rounds: at least 1.
        joining: guided samples of each round that join the bank.
        candidates: guided samples for each one asked for.
        keep: "draw" gives the guided samples as they are, draws of the target; "best" the best of all candidates of the
            prompt, of which there are then at least 2 for each.

    Raises:
        ValueError: if a setting is out of range, or candidates and keep do not fit each other.
    """

    def __init__(
        self,
        lookahead: Lookahead,
        scale: float = 1.0,
        ess: float | None = None,
        start: float = 1.0,
        stop: float = 0.0,
        rounds: int = 1,
        joining: int = 8,
        candidates: int = 1,
        keep: Keep = "draw",
    ):
        if rounds < 1 or joining < 1 or candidates < 1:
            raise ValueError(
                f"rounds, joining and candidates must be at least 1, got {rounds}, {joining} and {candidates}"
            )
        check_keep(keep)
        if (keep == "best") != (candidates > 1):
            raise ValueError(
                f"keep='best' chooses among candidates, and without it there is no choice: give at least 2 with "
                f"keep='best' and 1 with keep='draw', got {candidates} with {keep!r}"
            )
        self.lookahead, self.rounds, self.joining = lookahead, rounds, joining
        self.candidates, self.keep = candidates, keep
        self.settings = LiDARSettings(scale, None, ess, start, stop)

    def passes(self, count: int) -> int:
        """Guided passes of the solver for `count` samples."""
        return count * self.candidates + (self.rounds - 1) * self.joining

    def cost(self, steps: int, count: int) -> int:
        return self.lookahead.n * self.lookahead.steps + steps * self.passes(count)

    def within(self, calls: int, steps: int, count: int) -> Self:
        """All calls beyond the guided passes draw lookaheads: n = (calls - steps) * count / delta at most."""
        guided_calls, delta = steps * self.passes(count), self.lookahead.steps
        check_budget("LiDAR", calls, -(-(guided_calls + delta) // count), "the guided passes and one lookahead")
        return spending(self.sizes((calls * count - guided_calls) // delta), calls, steps, count)

    def sizes(self, most: int) -> Iterator[Self]:
        """This method with so many lookaheads, and fewer, down to one."""
        for n in range(most, 0, -1):
            other = copy(self)
            other.lookahead = self.lookahead.of_size(n)
            yield other

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
        members = lookahead_members(task, self.lookahead)
        guidance, tilts = self.guidance(task, members), []
        for number in range(1, self.rounds):
            tilts.append(guidance.temperature.item())
            samples = guided(task, guidance, task.generators(self.joining, f"round {number}"))
            values = torch.cat((members.values, task.value(samples)))
            members = Members(
                torch.cat((members.samples, samples.to(members.samples))),
                values,
                balanced(values, self.lookahead.n, self.joining, tilts),
            )
            guidance = self.guidance(task, members)
        x = guided(task, guidance, task.generators(count * self.candidates))
        return x if self.candidates == 1 else x[highest(task.value(x), count)]


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
