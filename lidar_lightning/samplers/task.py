"""The task that a sampler receives: model, solver, reward and prompts. All that it spends is counted here."""

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor

from lidar_lightning.backbones.base import Backbone
from lidar_lightning.backbones.whole import WholeRuns
from lidar_lightning.guidance.tilt import check_tilt
from lidar_lightning.lookahead import Lookahead, LookaheadBank
from lidar_lightning.rewards.base import Reward, score, utility
from lidar_lightning.samplers.meter import Meter
from lidar_lightning.samplers.restart import noised, place_of
from lidar_lightning.sampling import Guidance, last, run_whole, trajectory
from lidar_lightning.solvers import RandomSolver
from lidar_lightning.utils.progress import scored
from lidar_lightning.utils.seeding import Generators, stream_seed

FIRST = 32
"""The number of plain samples on whose scale a relative reward is frozen if there is no bank."""


@dataclass
class Task:
    """Says what is drawn. Every call of network, decoder and reward goes through the task and is counted.

    Args:
        backbone: the model.
        solver: the solver of the model, which all samplers share.
        reward: the reward to raise; it is lowered if its `higher_is_better` is False.
        prompt: the prompt of all samples; or several prompts for samplers that draw `several`, with equally many
            samples for each, in the order of the prompts.
        temperature: lambda >= 0 of the target p(x0) exp(lambda r(x0)); None leaves it to the sampler's own settings.
        seed: determines all random numbers.
        meter: counts what is spent, and stops the sampler at its budget.
        batch_size: largest number of samples per network call.
        indices: the numbers of the samples of each prompt; None counts them from 0.
        banks: a function that returns the bank of a lookahead for a prompt, e.g. from a store; None draws it.

    A reward that is relative to the samples that it scores, such as a sum of several, is frozen on one scale: that of
    `reference` if it is given, otherwise that of the prompt's bank, or without one that of `FIRST` plain samples, whose
    network calls count as `Meter.pilot`.
    """

    backbone: Backbone
    solver: RandomSolver
    reward: Reward
    prompt: str | Sequence[str] = "molecule"
    temperature: float | None = 1.0
    seed: int = 0
    meter: Meter = field(default_factory=Meter)
    batch_size: int = 256
    reference: Mapping[str, Tensor] | None = None
    """Scores of the parts of a relative reward, by name, on whose scale it is frozen."""
    indices: Sequence[int] | None = None
    banks: Callable[[Lookahead, str], LookaheadBank] | None = None
    diagnostics: list[dict[str, float]] = field(default_factory=list)
    """What the guidance did at each step; empty without guidance."""

    def __post_init__(self) -> None:
        if self.temperature is not None and not 0 <= self.temperature < float("inf"):
            raise ValueError(f"temperature (lambda) must be finite and at least 0, got {self.temperature}")
        with torch.no_grad():
            self.condition = self.backbone.encode(self.prompts)

    @property
    def prompts(self) -> list[str]:
        """The prompts as a list, also if there is only one."""
        return [self.prompt] if isinstance(self.prompt, str) else list(self.prompt)

    @property
    def tilt(self) -> float:
        """The temperature lambda of the target. Raises ValueError if the task has none."""
        if self.temperature is None:
            raise ValueError("this sampler aims at p(x0) exp(lambda r(x0)): give a temperature, which is lambda")
        return self.temperature

    @property
    def steps(self) -> list[tuple[float, float]]:
        """The steps of the solver, as pairs of times t > s."""
        times = self.solver.times.tolist()
        return list(zip(times, times[1:], strict=False))

    def own_times(self, steps: int) -> Tensor:
        """The times (steps + 1,) of the model's own random solver with `steps` steps."""
        return self.backbone.random_solver(steps).times

    def numbers(self, count: int) -> list[int]:
        """The numbers of each prompt's streams if all prompts have `count` rows; each sample has as many in a row."""
        each = count // len(self.prompts)
        if self.indices is None or each % len(self.indices):
            return list(range(each))
        copies = each // len(self.indices)
        return [index * copies + number for index in self.indices for number in range(copies)]

    def generators(self, count: int, purpose: str = "") -> Generators:
        """A random stream for each of `count` rows, prompts first; each purpose has streams of its own."""
        key = f"{purpose}\0" if purpose else ""
        numbers = self.numbers(count)
        seeds = [stream_seed(self.seed, key + prompt, number) for prompt in self.prompts for number in numbers]
        return Generators(seeds, self.backbone.device)

    def start(self, generators: Generators) -> Tensor:
        """Noise x (B, *S) at the solver's first time, one sample per generator."""
        return self.solver.start(self.backbone.prior(generators))

    def solve(self, generators: Generators, guidance: Guidance | None = None) -> Tensor:
        """Draws clean samples (B, *S) from pure noise, with guidance or without."""
        if isinstance(self.backbone, WholeRuns):
            return self._whole(self.backbone, generators, guidance)
        x = self.start(generators)
        return last(x, trajectory(self.predict, self.solver, x, generators, guidance))

    def solve_from(self, x0: Tensor, t0: float, generators: Generators, guidance: Guidance | None = None) -> Tensor:
        """Clean samples (B, *S) from x0 (B, *S), noised to the first of the solver's times that is at most t0."""
        place = place_of(self.solver.times, t0)
        if place == len(self.steps):
            return x0
        if isinstance(self.backbone, WholeRuns):
            return self._whole(self.backbone, generators, guidance, x0, place)
        x = self.solver.start(noised(self.backbone, x0, self.steps[place][0], generators), place)
        return last(x, trajectory(self.predict, self.solver, x, generators, guidance, place))

    def _whole(
        self,
        backbone: WholeRuns,
        generators: Generators,
        guidance: Guidance | None,
        x0: Tensor | None = None,
        place: int = 0,
    ) -> Tensor:
        """Clean samples (B, *S) by whole runs, one per batch; with several prompts all samples are in one batch."""
        total = len(generators)
        self.meter.spend(total * (len(self.steps) - place), backbone.evaluations)
        size = self.batch_size if len(self.prompts) == 1 else total
        rows = [prompt for prompt in self.prompts for _ in range(total // len(self.prompts))]
        parts = []
        for start in range(0, total, size):
            some = slice(start, start + size)
            streams, begin = generators.take(range(total)[some]), None if x0 is None else x0[some]
            parts.append(run_whole(backbone, self.solver, streams, rows[some], guidance, begin, place))
        return torch.cat(parts)

    def predict(self, x_t: Tensor, t: float, condition: Any = None) -> Tensor:
        """The prediction x0_hat (B, *S) at x_t; the meter counts B network calls.

        Args:
            condition: a condition with one row per sample, in place of that of the prompts.

        Raises:
            BudgetSpentError: if the budget does not allow these calls.
        """
        self.meter.spend(len(x_t), self.backbone.evaluations)
        given = self.condition if condition is None else condition
        parts = []
        with self.backbone.active():
            for begin in range(0, len(x_t), self.batch_size):
                x = x_t[begin : begin + self.batch_size]
                places = torch.arange(begin, begin + len(x), device=x.device)
                rows = given and {k: v[places * len(v) // len(x_t)] for k, v in given.items()}
                times = torch.full((len(x),), t, dtype=torch.float64, device=x.device)
                parts.append(self.backbone.predict(x, times, rows))
        return torch.cat(parts)

    def value(self, x0: Tensor) -> Tensor:
        """lambda times the `utility` of clean samples (B, *S): (B,) float64."""
        values = self.utility(x0)
        check_tilt(self.tilt, values.detach()[None])
        return self.tilt * values

    def utility(self, x0: Tensor, together: bool = False) -> Tensor:
        """The reward of clean samples (B, *S), with its sign turned if lower is better: (B,) float64.

        The meter counts B decodes and B rewards. Gradients flow back if they are on and the samples require them.

        Args:
            together: whether these are all samples that will be compared, so that a reward may be relative to them.
        """
        if not together or self.reference is not None:
            self.freeze()
        self.meter.decodes += len(x0)
        self.meter.rewards += len(x0)
        decoded = self.backbone.decode(x0)
        prompts = [prompt for prompt in self.prompts for _ in range(len(x0) // len(self.prompts))]
        scores = score(self.reward, decoded, prompts)
        scored(scores.detach())
        return utility(self.reward, scores).double()

    @torch.no_grad()
    def freeze(self) -> None:
        """Puts a relative reward on the scale of the reference, which plain samples become if there is none."""
        if not self.reward.relative:
            return
        if self.reference is None:
            streams, run = self.generators(FIRST, "first draw"), copy(self)
            run.meter = Meter()
            decoded = self.backbone.decode(run.solve(streams))
            self.reference = {part.name: score(part, decoded, self.prompts * FIRST) for part in self.reward.parts}
            self.meter.pilot += run.meter.network
        self.reward = self.reward.frozen(self.reference)


def has_own_solver(task: Task) -> bool:
    """Whether the solver of the task is the own random solver of its model, with any number of steps."""
    return task.solver.name == task.backbone.random_solver(len(task.steps)).name


def with_steps(task: Task, steps: int) -> Task:
    """The task with `steps` steps of its solver, on the same meter.

    Raises:
        ValueError: if its solver is neither the own solver of its model nor the model's own random one.
    """
    if steps == len(task.steps):
        return task
    for make in (task.backbone.solver, task.backbone.random_solver):
        if task.solver.name == make(len(task.steps)).name:
            other = copy(task)
            other.solver = cast(RandomSolver, make(steps))
            return other
    raise ValueError(
        f"the sampler, or its budget, asks for {steps} steps of the model's own solver, but the task has "
        f"{len(task.steps)} of {task.solver.name}: use the former, or a sampler without steps of its own"
    )
