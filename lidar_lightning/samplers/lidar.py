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
from lidar_lightning.lookahead.bank import check_together
from lidar_lightning.samplers.base import Sampler
from lidar_lightning.samplers.budget import Grid, check_budget, equal_times, spending
from lidar_lightning.samplers.restart import members, place_of
from lidar_lightning.samplers.select import Selection
from lidar_lightning.samplers.task import Task
from lidar_lightning.utils.seeding import Generators, stream_seed


class Members(NamedTuple):
    """Banks of clean samples (P, n, *S), their utilities r (P, n), and the log of what each counts for (P, n)."""

    samples: Tensor
    values: Tensor
    log_weights: Tensor


def lookahead_members(task: Task, lookahead: Lookahead) -> Members:
    """The scored banks of a task's prompts; the n * delta network calls and n rewards of each are counted."""
    count = lookahead.n * len(task.prompts)
    task.meter.spend_on_banks(count * lookahead.steps, lookahead.source(task.backbone).evaluations)
    task.meter.decodes += count
    task.meter.rewards += count
    draw = task.banks or (lambda one, prompt: one.bank(task.backbone, prompt, task.seed, task.reward.parts))
    banks = [draw(lookahead, prompt) for prompt in task.prompts]
    check_together(banks)
    if task.reference is None and len(banks) == 1:
        task.reference = banks[0].rewards
    elif task.reference is not None:
        task.freeze()
    samples = torch.stack([bank.samples for bank in banks]).to(task.backbone.device)
    utilities = torch.stack([task.reward.from_scores(bank.rewards).double() for bank in banks]).to(samples.device)
    return Members(samples, utilities, torch.zeros_like(utilities))


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
        steps: see `Sampler`.
        settings: see `LiDARSettings`; without temperature and ess, lambda is the task's own.

    Raises:
        ValueError: if a setting is out of range.
    """

    random = False

    def __init__(
        self,
        lookahead: Lookahead,
        rounds: int = 1,
        joining: int = 8,
        pooled: bool = True,
        steps: int | None = None,
        **settings: Any,
    ):
        super().__init__(steps)
        if rounds < 1 or joining < 1:
            raise ValueError(f"rounds and joining must be at least 1, got {rounds} and {joining}")
        self.lookahead: Lookahead = lookahead
        self.rounds, self.joining = rounds, joining
        self.settings = LiDARSettings(**settings)
        self.selection = Selection(self.settings.candidates, "best", pooled)
        self.keep = "draw" if self.settings.candidates == 1 else "best"

    @property
    def whole(self) -> bool:  # type: ignore[override]
        return self.rounds > 1 or self.selection.whole

    @property
    def several(self) -> bool:  # type: ignore[override]
        return not self.whole

    @property
    def start(self) -> float:
        """The time from which the solver runs."""
        return 1.0 if self.settings.restart is None else self.settings.restart

    def cost(self, steps: int, count: int, times: Grid = equal_times) -> int:
        run = steps - place_of(times(steps), self.start)
        passes = run * self.selection.drawn(count) + steps * (self.rounds - 1) * self.joining
        return self.lookahead.n * self.lookahead.steps + passes

    def sized(self, calls: int, steps: int, count: int, times: Grid = equal_times) -> Self:
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
            self.settings.of_task(task.temperature),
            kernel_of(task.backbone.vocab_size),
            members.log_weights,
        )

    def draw(self, task: Task, count: int) -> Tensor:
        bank = lookahead_members(task, self.lookahead)
        guidance, tilts = self.guidance(task, bank), []
        for number in range(1, self.rounds):
            tilts.append(guidance.temperature.item())
            samples = task.solve(task.generators(self.joining, f"round {number}"), guidance)
            values = torch.cat((bank.values[0], task.utility(samples)))
            bank = Members(
                torch.cat((bank.samples[0], samples.to(bank.samples)))[None],
                values[None],
                balanced(values, self.lookahead.n, self.joining, tilts)[None],
            )
            guidance = self.guidance(task, bank)
        drawn = self.selection.drawn(count)
        generators = task.generators(drawn)
        if self.start == 1:
            x = task.solve(generators, guidance)
        else:
            x = task.solve_from(self.beginnings(task, bank, guidance, drawn), self.start, generators, guidance)
        task.diagnostics += guidance.take_diagnostics()
        return self.selection(task, x, count)

    def beginnings(self, task: Task, bank: Members, guidance: LiDARGuidance, drawn: int) -> Tensor:
        """The members from which `drawn` runs begin (drawn, *S), prompts first."""
        tilts = guidance.temperature[:, None] * bank.values + bank.log_weights
        numbers = torch.tensor(task.numbers(drawn), device=tilts.device)
        streams = [Generators([stream_seed(task.seed, f"restart\0{prompt}", 0)]) for prompt in task.prompts]
        rows = [members(tilt, numbers, stream) for tilt, stream in zip(tilts, streams, strict=True)]
        return torch.cat([samples[chosen] for samples, chosen in zip(bank.samples, rows, strict=True)])


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
