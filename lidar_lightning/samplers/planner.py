"""A budget planner: how LiDAR splits its network calls between lookahead steps, lookaheads and target steps."""

import hashlib
import json
import logging
from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import asdict, replace
from itertools import chain, product
from typing import Any, Self

import torch
from torch import Tensor

from lidar_lightning.functional import effective_sample_size
from lidar_lightning.lookahead import Lookahead
from lidar_lightning.samplers.base import Sampler
from lidar_lightning.samplers.budget import SPENT, Grid, equal_times
from lidar_lightning.samplers.lidar import LiDAR, Members, lookahead_members
from lidar_lightning.samplers.meter import Meter
from lidar_lightning.samplers.plan import Allocation, Plan, allocations, distance
from lidar_lightning.samplers.task import Task, has_own_solver
from lidar_lightning.utils.files import expand, locked, sweep
from lidar_lightning.utils.seeding import stream_seed

logger = logging.getLogger(__name__)


class PlannedLiDAR(Sampler):
    """LiDAR with the split of its budget that a pilot finds best: which lookahead, how many, and how many target steps.

    The pilot minimises the Wasserstein-1 distance between two laws of lambda r over its prompts: that of guided
    samples, and that of the target p(x0) exp(lambda r(x0)), for which plain samples of the task's own solver stand,
    weighted by exp(lambda r). To maximise the mean of lambda r instead would favour short runs that overshoot the
    target. By successive halving, each round draws guided samples with all splits that are left and keeps the better
    half; splits share banks and random streams, so that they differ in nothing else.

    A plan is made before the first draw and does not depend on its prompt or seed: it holds for every prompt with the
    same model, reward, lambda, budget and count. What it costs is not part of the budget: the network calls are in
    `Meter.pilot`, and everything in `Plan.pilot`.

    The distance sees nothing but lambda r, and its target through `reference_ess` effective samples: near 1, the target
    is no more than the best reference sample. What the reward does not see is for the choice of `target_steps` to keep.

    Args:
        lookaheads: to choose from, each of another number of steps; their n is planned.
        target_steps: to choose from.
        prompts: of the pilot; best others than will be sampled.
        calls: network calls per sample.
        samples: guided samples per pilot prompt and repetition; they share a bank.
        repetitions: per round.
        references: plain samples per pilot prompt.
        seed: of the pilot; its streams are not those of any draw.
        folder: keeps plans as JSON files, so that other processes and runs need no pilot of their own.
        scale, ess, start, stop: see `LiDARGuidance`; without ess the temperature is the task's own.

    Raises:
        ValueError: if there is no prompt or sample, or two lookaheads take the same steps.
    """

    def __init__(
        self,
        lookaheads: list[Lookahead],
        target_steps: list[int],
        prompts: list[str],
        calls: int = 100,
        samples: int = 16,
        repetitions: int = 4,
        references: int = 256,
        seed: int = 0,
        folder: str | None = None,
        scale: float = 1.0,
        ess: float | None = None,
        start: float = 1.0,
        stop: float = 0.0,
    ):
        self.lookaheads = {lookahead.steps: lookahead for lookahead in lookaheads}
        if len(self.lookaheads) < len(lookaheads):
            raise ValueError(
                f"lookaheads take different steps, so that a split names one, got {[one.steps for one in lookaheads]}"
            )
        if not prompts or min(samples, repetitions, references) < 1:
            raise ValueError(
                "a pilot needs at least 1 of prompts, samples, repetitions and references, got "
                f"{prompts}, {samples}, {repetitions} and {references}"
            )
        self.target_steps, self.prompts, self.calls, self.samples = target_steps, prompts, calls, samples
        self.repetitions, self.references, self.seed, self.folder = repetitions, references, seed, folder
        self.settings: dict[str, Any] = {"scale": scale, "ess": ess, "start": start, "stop": stop}
        self._plans: dict[str, Plan] = {}

    def sized(self, calls: int, steps: int, count: int, times: Grid = equal_times) -> Self:
        """Other target steps than the task's may be chosen."""
        other = copy(self)
        other.calls = calls
        other.splits(count)
        return other

    def splits(self, count: int) -> list[Allocation]:
        """All splits of the budget that spend it.

        Raises:
            ValueError: if there is none.
        """
        total = self.calls * count
        found = allocations(self.calls, count, list(self.lookaheads), self.target_steps)
        spent = [split.n * split.lookahead_steps + split.target_steps * count for split in found]
        if max(spent) < SPENT * total:
            raise ValueError(
                f"no split spends {SPENT:.0%} of {self.calls} network calls per sample, at most {max(spent) // count} "
                "are spent: give another budget, or other lookaheads and target steps"
            )
        return [split for split, one in zip(found, spent, strict=True) if one >= SPENT * total]

    def __call__(self, task: Task, count: int) -> Tensor:
        task.meter.pilot = self.plan(task, count).pilot.network
        return super().__call__(task, count)

    def draw(self, task: Task, count: int) -> Tensor:
        steps, n, target_steps = self.plan(task, count).allocation
        planned = replace(task, solver=task.backbone.random_solver(target_steps))
        return LiDAR(self.lookaheads[steps].of_size(n), **self.settings).draw(planned, count)

    def plan(self, task: Task, count: int) -> Plan:
        """The plan for `count` samples of such a task: known, stored, or of a pilot.

        Raises:
            ValueError: if the budget holds no split, a stored plan is damaged, or the task cannot be planned, because
                its solver is not its model's own or its reward is relative to the samples that it is given with.
        """
        splits = self.splits(count)
        check_task(task)
        identity = json.dumps(self.identity(task, splits), sort_keys=True)
        if identity not in self._plans:
            self._plans[identity] = self.stored(task, splits, identity) if self.folder else self.pilot(task, splits)
        return self._plans[identity]

    def identity(self, task: Task, splits: Sequence[Allocation]) -> dict[str, Any]:
        """All that a plan depends on."""
        sources = [one.provenance(task.backbone, "", self.seed) for one in self.lookaheads.values()]
        return {
            "splits": splits,
            "lookaheads": [asdict(source) for source in sources],
            "decoders": [lookahead.decoder for lookahead in self.lookaheads.values()],
            "backbone": [task.backbone.name, task.backbone.fingerprint()],
            "solver": [task.solver.name, len(task.steps)],
            "reward": [task.reward.described(), task.temperature],
            "pilot": [self.prompts, self.samples, self.repetitions, self.references, self.seed],
            "guidance": self.settings,
        }

    def stored(self, task: Task, splits: list[Allocation], identity: str) -> Plan:
        """The plan in the folder; one process makes it while others wait."""
        path = expand(str(self.folder)) / f"{hashlib.sha256(identity.encode()).hexdigest()[:16]}.json"
        sweep(path.parent)
        with locked(path):
            if path.exists():
                return Plan.load(path)
            plan = self.pilot(task, splits)
            plan.save(path, identity)
        return plan

    @torch.no_grad()
    def pilot(self, task: Task, splits: list[Allocation]) -> Plan:
        """The best of the splits by successive halving; ties go to more target steps."""
        task = replace(task, meter=Meter())
        drawn: dict[Allocation, list[Tensor]] = {split: [] for split in splits}
        distances: dict[Allocation, float] = {}
        left, numbers = splits, range(self.repetitions)
        with task.meter.running():
            reference, weights = self.target(task)
            while len(left) > 1:
                for split, values in chain.from_iterable(self.trial(task, left, number) for number in numbers):
                    drawn[split].append(values)
                distances |= {split: distance(torch.cat(drawn[split]), reference, weights) for split in left}
                left = sorted(left, key=lambda split: (distances[split], -split.target_steps))[: len(left) // 2]
                numbers = range(numbers.stop, numbers.stop + self.repetitions)
        logger.info("%d calls per sample: %s, planned with %d calls", self.calls, left[0], task.meter.network)
        return Plan(left[0], list(distances.items()), effective_sample_size(weights).item(), task.meter)

    def target(self, task: Task) -> tuple[Tensor, Tensor]:
        """lambda r (k,) of plain samples of all pilot prompts, and their weights (k,) under the target, of sum 1."""
        values = []
        for prompt in self.prompts:
            run = replace(task, prompt=prompt, seed=stream_seed(self.seed, "reference", 0))
            samples = run.solve(run.generators(self.references))
            values.append(run.value(samples))
        return torch.cat(values), torch.cat([value.softmax(0) for value in values]) / len(values)

    def trial(self, task: Task, splits: Sequence[Allocation], number: int) -> Iterator[tuple[Allocation, Tensor]]:
        """Each split with lambda r (samples,) of guided samples, once for each pilot prompt."""
        for prompt, (steps, lookahead) in product(self.prompts, self.lookaheads.items()):
            alike = [split for split in splits if split.lookahead_steps == steps]
            if not alike:
                continue
            run = replace(task, prompt=prompt, seed=stream_seed(self.seed, "pilot", number))
            members = lookahead_members(run, lookahead.of_size(max(split.n for split in alike)))
            for split in alike:
                first = Members(*(part[:, : split.n] for part in members))
                guidance = LiDAR(lookahead, **self.settings).guidance(run, first)
                solved = replace(run, solver=task.backbone.random_solver(split.target_steps))
                yield split, run.value(solved.solve(run.generators(self.samples), guidance))


def check_task(task: Task) -> None:
    """Raises ValueError unless the number of steps can be planned, and rewards of different banks compared."""
    if not has_own_solver(task):
        own = task.backbone.random_solver(len(task.steps)).name
        raise ValueError(
            f"a plan sets the number of steps of the model's own {own}, and the task has {task.solver.name}: use the "
            "former, or LiDAR with a split of your own"
        )
    if task.reward.parts != [task.reward]:
        raise ValueError(
            f"a plan compares samples of many banks, and {task.reward.name!r} is relative to one: use a reward that "
            "scores each sample by itself, such as a CallableReward"
        )
