"""A pilot: which of several samplers is best by what it draws, found by successive halving."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import Literal, get_args

import torch
from torch import Tensor

from lidar_lightning.functional import effective_sample_size
from lidar_lightning.samplers.base import Sampler
from lidar_lightning.samplers.meter import Meter
from lidar_lightning.samplers.plan import distance
from lidar_lightning.samplers.select import first_of_each
from lidar_lightning.samplers.task import Task
from lidar_lightning.utils.progress import working
from lidar_lightning.utils.seeding import stream_seed

logger = logging.getLogger(__name__)
Objective = Literal["target", "reward"]
FEW = 8
"""Effective reference samples below which a warning says that they hardly stand for the target."""


@dataclass(frozen=True)
class Pilot:
    """Draws with every sampler on every prompt from the same random streams, and goes on with the better half.

    Args:
        prompts: what the pilot draws; preferably not those that will be sampled afterwards.
        objective: "target" minimises the Wasserstein-1 distance between the law of lambda r of all that is drawn and
            that of the target p(x0) exp(lambda r(x0)), for which plain samples of the task's own solver stand, weighted
            by exp(lambda r). "reward" maximises the mean of r (its negative where lower is better), in which a sample
            that equals an earlier one of its draw counts as a plain one, so that copies of the best win nothing.
        repetitions: draws per sampler and prompt in each round.
        references: plain samples per prompt.
        seed: its streams are not those of any draw.

    Raises:
        ValueError: if there is no prompt or sample, or no such objective.
    """

    prompts: list[str]
    objective: Objective = "target"
    repetitions: int = 4
    references: int = 256
    seed: int = 0

    def __post_init__(self) -> None:
        if self.objective not in get_args(Objective):
            raise ValueError(f"objective is 'target', for the law, or 'reward', for its mean, got {self.objective!r}")
        if not self.prompts or min(self.repetitions, self.references) < 1:
            raise ValueError(
                f"a pilot needs at least 1 of prompts, repetitions and references, got {self.prompts}, "
                f"{self.repetitions} and {self.references}"
            )

    @torch.no_grad()
    def __call__(self, task: Task, choices: Mapping[str, Sampler], count: int) -> tuple[str, dict[str, float], Meter]:
        """The name of the best sampler for draws of `count`, the last estimates of all that were tried, and the cost.

        Of equals the first is taken; one alone is not tried.
        """
        if len(choices) == 1:
            return next(iter(choices)), {}, Meter()
        meter, left, found = Meter(), list(choices), dict[str, float]()
        drawn: dict[str, list[Tensor]] = {name: [] for name in choices}
        numbers, sign = range(self.repetitions), 1 if self.objective == "target" else -1
        with meter.running():
            measure, plain = self.measure(task, meter)
            while len(left) > 1:
                trials = list(product(left, numbers, self.prompts))
                for place, (name, number, prompt) in enumerate(trials, 1):
                    run = self.run(task, meter, prompt, stream_seed(self.seed, "pilot", number))
                    with working(f"pilot of {len(left)} choices, draw {place} of {len(trials)}: {name}"):
                        x = choices[name].draw(choices[name].adapted(run), count)
                        drawn[name].append(self.values(run, x, plain[prompt]))
                found |= {name: measure(torch.cat(drawn[name])) for name in left}
                left = sorted(left, key=lambda name: sign * found[name])[: len(left) // 2]
                numbers = range(numbers.stop, numbers.stop + self.repetitions)
        return left[0], found, meter

    def run(self, task: Task, meter: Meter, prompt: str, seed: int) -> Task:
        """A task whose draws and banks are of the pilot alone."""
        return replace(task, prompt=prompt, seed=seed, meter=meter, indices=None, banks=None, diagnostics=[])

    def values(self, run: Task, x: Tensor, plain: float) -> Tensor:
        """What each sample of a draw counts: (count,) float64."""
        if self.objective == "target":
            return run.value(x)
        return torch.where(first_of_each(run.backbone.identities(x)), run.utility(x), plain)

    def measure(self, task: Task, meter: Meter) -> tuple[Callable[[Tensor], float], dict[str, float]]:
        """What a sampler is judged by, of `values`; and the mean utility of plain samples of each prompt."""
        utilities = {}
        for prompt in self.prompts:
            run = self.run(task, meter, prompt, stream_seed(self.seed, "reference", 0))
            with working("plain samples of the pilot", self.references * len(run.steps)):
                utilities[prompt] = run.utility(run.solve(run.generators(self.references)))
        plain = {prompt: found.mean().item() for prompt, found in utilities.items()}
        if self.objective == "reward":
            return lambda values: values.mean().item(), plain
        tilted = [task.tilt * found for found in utilities.values()]
        weights = torch.cat([tilts.softmax(0) for tilts in tilted]) / len(tilted)
        if (size := effective_sample_size(weights).item()) < FEW:
            logger.warning(
                "the plan's target is no more than %.1f effective ones of its plain samples: give it more references "
                "than %d, or a lower lambda", size, self.references,
            )  # fmt: skip
        return partial(distance, reference=torch.cat(tilted), weights=weights), plain
