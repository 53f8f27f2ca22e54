"""LiDAR as a sampler: a bank, then guided samples; in rounds, whose guided samples join the bank."""

import math
from copy import copy
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor

from lidar_lightning.guidance.lidar import LiDARGuidance
from lidar_lightning.lookahead import Lookahead
from lidar_lightning.samplers.base import Sampler, Task, check_budget
from lidar_lightning.samplers.loop import Guidance
from lidar_lightning.seeding import Generators


class Members(NamedTuple):
    """A bank of clean samples (n, *S), their lambda r (n,), and the log of what each counts for (n,)."""

    samples: Tensor
    values: Tensor
    log_weights: Tensor


def lookahead_members(task: Task, lookahead: Lookahead) -> Members:
    """Draws and scores the bank of a task; its n * delta network calls and n rewards are counted."""
    task.meter.spend(lookahead.n * lookahead.steps)
    task.meter.decodes += lookahead.n
    task.meter.rewards += lookahead.n
    bank = lookahead.bank(task.backbone, task.prompt, task.seed, task.reward.parts)
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
    heuristic (Veach, Guibas 1995), with Z the lookaheads' mean of exp(lambda r). The bank stays one of p, with more
    members where the reward is high.

    Args:
        lookahead: how the bank is drawn.
        scale, ess, start, stop: see `LiDARGuidance`; without ess the temperature is the task's own.
        rounds: at least 1.
        joining: guided samples of each round that join the bank.

    Raises:
        ValueError: if a setting is out of range.
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
    ):
        if rounds < 1 or joining < 1:
            raise ValueError(f"rounds and joining must be at least 1, got {rounds} and {joining}")
        self.lookahead, self.rounds, self.joining = lookahead, rounds, joining
        self.settings: dict[str, Any] = {"scale": scale, "ess": ess, "start": start, "stop": stop}

    def within(self, calls: int, steps: int, count: int) -> Self:
        """All calls beyond the guided passes draw lookaheads: n = (calls - steps) * count / delta at most."""
        passes = steps * (count + (self.rounds - 1) * self.joining)
        least = math.ceil((passes + self.lookahead.steps) / count)
        check_budget("LiDAR", calls, least, "the guided passes and one lookahead")
        other = copy(self)
        other.lookahead = self.lookahead.of_size((calls * count - passes) // self.lookahead.steps)
        return other

    def guidance(self, task: Task, members: Members) -> LiDARGuidance:
        """The guidance of a bank."""
        vocab_size = getattr(task.backbone, "vocab_size", None)
        return LiDARGuidance(
            members.samples, members.values, task.backbone.schedule, vocab_size=vocab_size,
            log_weights=members.log_weights, temperature=1.0 if self.settings["ess"] is None else None, **self.settings,
        )  # fmt: skip

    def draw(self, task: Task, count: int) -> Tensor:
        members = lookahead_members(task, self.lookahead)
        log_z = members.values.logsumexp(0) - math.log(self.lookahead.n)
        for number in range(1, self.rounds):
            samples = guided(task, self.guidance(task, members), task.generators(self.joining, f"round {number}"))
            values = torch.cat((members.values, task.value(samples)))
            joined = torch.tensor(float(number * self.joining)).log()
            log_n = torch.tensor(float(self.lookahead.n), dtype=torch.float64).log()
            members = Members(
                torch.cat((members.samples, samples.to(members.samples))),
                values,
                -torch.logaddexp(log_n.expand_as(values), joined + values - log_z),
            )
        return guided(task, self.guidance(task, members), task.generators(count))
