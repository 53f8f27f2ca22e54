"""A pilot: it finds the best of several samplers by successive halving, from samples that they draw."""

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
"""With fewer effective reference samples than this, a warning says that they hardly represent the target."""


@dataclass(frozen=True)
class Pilot:
    """Draws with every sampler for every prompt from the same random streams, and goes on with the better half.

    Args:
        prompts: the prompts of the pilot; preferably not those that will be sampled afterwards.
        objective: "target" minimises the Wasserstein-1 distance between the law of lambda r of all samples that are
            drawn and that of the target p(x0) exp(lambda r(x0)). Plain samples of the task's own solver, weighted by
            exp(lambda r), represent the target. "reward" maximises the mean of r (of its negative where lower is
            better). In that mean a sample that equals an earlier one of its draw counts as much as a plain sample does
            on average, so that copies of the best gain nothing.
        repetitions: number of draws per sampler and prompt in each round.
        references: number of plain samples per prompt.
        seed: determines the random streams of the pilot, which no other draw uses.

    Raises:
        ValueError: if the objective is unknown, if there is no prompt, or if a number is below 1.
    """

    prompts: list[str]
    objective: Objective = "target"
    repetitions: int = 4
    references: int = 256
    seed: int = 0

    def __post_init__(self) -> None:
        if self.objective not in get_args(Objective):
            raise ValueError(f"objective is 'target' (close to it) or 'reward' (a high mean), got {self.objective!r}")
        if not self.prompts or min(self.repetitions, self.references) < 1:
            raise ValueError(
                f"a pilot needs prompts, and at least 1 of repetitions and of references, got {self.prompts}, "
                f"{self.repetitions} and {self.references}"
            )

    @torch.no_grad()
    def __call__(self, task: Task, choices: Mapping[str, Sampler], count: int) -> tuple[str, dict[str, float], Meter]:
        """The name of the best sampler for draws of `count`, the last estimate of each that was tried, and the cost.

        Of equally good samplers the first is taken. A single one is taken without being tried.
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
        """The task for one draw of the pilot, with streams and banks of its own."""
        return replace(task, prompt=prompt, seed=seed, meter=meter, indices=None, banks=None, diagnostics=[])

    def values(self, run: Task, x: Tensor, plain: float) -> Tensor:
        """The value of each sample of a draw (count,) float64, see `objective`."""
        if self.objective == "target":
            return run.value(x)
        return torch.where(first_of_each(run.backbone.identities(x)), run.utility(x), plain)

    def measure(self, task: Task, meter: Meter) -> tuple[Callable[[Tensor], float], dict[str, float]]:
        """The function of `values` that judges a sampler, and the mean utility of plain samples of each prompt."""
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
                "only %.1f effective plain samples represent the target of the plan: give it more references than %d, "
                "or a lower lambda", size, self.references,
            )  # fmt: skip
        return partial(distance, reference=torch.cat(tilted), weights=weights), plain
