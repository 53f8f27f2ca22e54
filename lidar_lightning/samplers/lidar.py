"""LiDAR as a sampler: guided samples that begin from noise or from members of a bank; the best of them are kept."""

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor

from lidar_lightning.guidance.lidar import LiDARGuidance
from lidar_lightning.guidance.mask_kernel import kernel_of
from lidar_lightning.guidance.pipelines import why_not
from lidar_lightning.guidance.settings import LiDARSettings
from lidar_lightning.lookahead import Lookahead
from lidar_lightning.lookahead.bank import check_together
from lidar_lightning.samplers.base import Keep, check_keep
from lidar_lightning.samplers.budget import Grid, check_budget, check_spent, equal_times, spending
from lidar_lightning.samplers.moves import metropolis
from lidar_lightning.samplers.resampling import perturbed
from lidar_lightning.samplers.restart import members, place_of
from lidar_lightning.samplers.select import SelectingSampler, Selection, first_of_each
from lidar_lightning.samplers.task import Task
from lidar_lightning.utils.seeding import Generators, stream_seed


class Members(NamedTuple):
    """Scored clean samples (P, n, *S) of P prompts and their utilities r (P, n) float64."""

    samples: Tensor
    values: Tensor

    def joined(self, samples: Tensor, values: Tensor, identities: Callable[[Tensor], Tensor]) -> "Members":
        """These members and more of one prompt, (m, *S) and (m,), without samples that are there already."""
        samples = torch.cat((self.samples[0], samples.to(self.samples)))
        fresh = first_of_each(identities(samples))
        return Members(samples[fresh][None], torch.cat((self.values[0], values))[fresh][None])


def lookahead_members(task: Task, lookahead: Lookahead) -> Members:
    """Draws and scores a bank for each prompt of a task; the meter counts its n * delta network calls and n rewards."""
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
    return Members(samples, utilities)


class LiDAR(SelectingSampler):
    """Samples guided by the closed form of a bank of lookahead samples (arXiv 2602.03211).

    Three more uses of the bank are not in the paper. With `restart` the runs begin at its members (see the module
    `restart`). With more candidates than samples the best are kept; in several rounds, the candidates of each round
    join the members that the next one restarts from, so that the reward climbs. With `moves` the samples are moved
    towards the target at the end (see the module `moves`).

    Args:
        lookahead: how the bank is drawn.
        pooled: whether samples are chosen among all candidates of a prompt; otherwise each among its own.
        keep: which candidates are kept. "best" keeps the highest rewards. "draw" draws different ones without
            replacement. In one round their weights are exp((lambda - lambda') r), where lambda' is the temperature of
            the settings, which tilts restart and guidance; the choice adds what is left of the task's lambda. In
            several rounds the weights are exp(lambda r), and a candidate that is found again counts once.
        steps: see `Sampler`.
        settings: see `LiDARSettings`; if they give neither temperature nor ess, lambda is that of the task.

    Raises:
        ValueError: if a setting is out of range, or if there are several rounds that are not pooled.
    """

    random = False
    stepwise = False

    def __init__(
        self,
        lookahead: Lookahead,
        pooled: bool = True,
        keep: Keep = "best",
        steps: int | None = None,
        **settings: Any,
    ):
        super().__init__(steps)
        check_keep(keep)
        self.lookahead: Lookahead = lookahead
        self.settings = LiDARSettings(**settings)
        if self.settings.rounds > 1 and not pooled:
            raise ValueError(f"{self.settings.rounds} rounds share their candidates: use pooled=True, or rounds=1")
        self.selection = Selection(self.settings.candidates, "best", pooled)
        self.keep = "draw" if self.settings.candidates == 1 and self.settings.rounds == 1 else keep
        self.random = self.settings.moves > 0

    @property
    def whole(self) -> bool:  # type: ignore[override]
        return self.settings.rounds > 1 or self.selection.whole

    @property
    def start(self) -> float:
        """The time from which the solver runs."""
        return 1.0 if self.settings.restart is None else self.settings.restart

    def run(self, times: Tensor) -> int:
        """How many steps of a solver with these times (steps + 1,) a candidate or a move makes.

        Raises:
            ValueError: if rounds or moves would make no step, so that nothing would change.
        """
        steps = len(times) - 1 - place_of(times, self.start)
        if not steps and (self.settings.rounds > 1 or self.settings.moves):
            raise ValueError(
                f"restart={self.start} is below all times of the solver except its last, so that rounds and moves "
                f"would change nothing: raise restart, or take more than {len(times) - 1} steps"
            )
        return steps

    def cost(self, steps: int, count: int, times: Grid = equal_times) -> int:
        run = self.run(times(steps))
        passes = self.selection.drawn(count) + self.settings.moves * count
        return self.lookahead.n * self.lookahead.steps + run * passes

    def sized(self, calls: int, steps: int, count: int, times: Grid = equal_times) -> Self:
        """In one round, all calls beyond the guided passes draw lookaheads; for several rounds see `climbing`."""
        if self.settings.rounds > 1:
            return self.climbing(calls, steps, count, times)
        fewest = self.changed(lookahead=self.lookahead.of_size(1)).cost(steps, count, times)
        check_budget("LiDAR", calls, -(-fewest // count), "the guided passes and one lookahead")
        most = 1 + (calls * count - fewest) // self.lookahead.steps
        sizes = (self.changed(lookahead=self.lookahead.of_size(n)) for n in range(most, 0, -1))
        return spending(sizes, calls, steps, count, times)

    def climbing(self, calls: int, steps: int, count: int, times: Grid) -> Self:
        """Lookaheads cost as much as a round: 1 / (rounds + 1) of what moves leave. All other calls draw candidates."""
        run = self.run(times(steps))
        left = calls * count - run * self.settings.moves * count
        n = max(1, left // (self.settings.rounds + 1) // self.lookahead.steps)
        drawn = (left - n * self.lookahead.steps) // run
        if drawn < count:
            least = -(-n * self.lookahead.steps // count) + run * (1 + self.settings.moves)
            check_budget("LiDAR", calls, max(least, calls + 1), "a candidate for each sample, and lookaheads")
        sized = self.changed(
            lookahead=self.lookahead.of_size(n), selection=replace(self.selection, n=drawn / count), steps=steps
        )
        check_spent("LiDAR", sized.cost(steps, count, times), calls, count)
        return sized

    def guidance(self, task: Task, bank: Members) -> LiDARGuidance:
        """The guidance of a bank."""
        return LiDARGuidance(
            bank.samples,
            bank.values,
            task.backbone.schedule,
            self.settings.of_task(task.temperature),
            kernel_of(task.backbone.vocab_size, task.backbone.mask, self.settings.smoothing),
        )

    def draw(self, task: Task, count: int) -> Tensor:
        self.run(task.solver.times)
        pool = lookahead_members(task, self.lookahead)
        guidance, drawn, moves = self.guidance(task, pool), self.selection.drawn(count), self.settings.moves
        rounds, parts, utilities = min(self.settings.rounds, drawn), [], []
        for number in range(rounds):
            size = drawn * (number + 1) // rounds - drawn * number // rounds
            x = self.candidates(task, pool, guidance, size, number)
            if drawn == count and rounds == 1 and not moves:
                return x
            parts.append(x)
            utilities.append(task.utility(x))
            if number + 1 < rounds:
                pool = pool.joined(x, utilities[-1], task.backbone.identities)
        x, r = torch.cat(parts), torch.cat(utilities)
        if drawn > count:
            kept = self.selection.rows(task, x, count, self.merits(task, guidance, r))
            x, r = x[kept], r[kept]
        tilts = guidance.temperature.repeat_interleave(count // len(task.prompts))
        return metropolis(task, x, r, tilts, self.start, moves)

    def merits(self, task: Task, guidance: LiDARGuidance, r: Tensor) -> Tensor:
        """The numbers (drawn,) float64 whose highest are chosen, from the utilities of the candidates (drawn,)."""
        if self.keep == "best":
            return r
        spent = guidance.temperature if self.settings.rounds == 1 else torch.zeros_like(guidance.temperature)
        rest = (task.tilt - spent).repeat_interleave(len(r) // len(task.prompts))
        return perturbed(rest * r, task.generators(len(r), "keep").rand(1)[:, 0].to(r))

    def candidates(self, task: Task, pool: Members, guidance: LiDARGuidance, drawn: int, number: int) -> Tensor:
        """Guided samples (drawn, *S) of one round, from noise or from members of the pool."""
        key = f"round {number}" if number else ""
        generators = task.generators(drawn, key)
        if self.start == 1:
            x = task.solve(generators, guidance)
        else:
            x = task.solve_from(self.beginnings(task, pool, guidance, drawn, key), self.start, generators, guidance)
        rows, times = guidance.take_diagnostics(), task.solver.times
        if not rows and self.settings.scale and (made := times[place_of(times, self.start) : -1].tolist()):
            why = why_not(made, self.settings.start, self.settings.stop)
            warnings.warn(f"guidance never ran: {why}", stacklevel=3)
        task.diagnostics += rows
        return x

    def beginnings(self, task: Task, pool: Members, guidance: LiDARGuidance, drawn: int, key: str) -> Tensor:
        """The members from which `drawn` runs begin (drawn, *S), prompts first."""
        tilts = guidance.temperature[:, None] * pool.values
        numbers = torch.tensor(task.numbers(drawn), device=tilts.device)
        streams = [Generators([stream_seed(task.seed, f"restart{key}\0{prompt}", 0)]) for prompt in task.prompts]
        rows = [members(tilt, numbers, stream) for tilt, stream in zip(tilts, streams, strict=True)]
        return torch.cat([samples[chosen] for samples, chosen in zip(pool.samples, rows, strict=True)])
