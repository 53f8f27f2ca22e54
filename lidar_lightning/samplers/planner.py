"""A planner: it finds the best of several samplers for a budget, a model, a reward and a lambda."""

import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, Self

from torch import Tensor

from lidar_lightning.rewards.base import Reward
from lidar_lightning.samplers.base import Sampler, check_count, check_samplers
from lidar_lightning.samplers.budget import Grid, equal_times
from lidar_lightning.samplers.pilot import Objective, Pilot
from lidar_lightning.samplers.plan import Plan
from lidar_lightning.samplers.task import Task, has_own_solver
from lidar_lightning.utils.describe import describe
from lidar_lightning.utils.files import expand, locked, sweep

logger = logging.getLogger(__name__)


class Planned(Sampler):
    """Draws with the one of several samplers that a pilot finds best; `within` fits each of them to the budget.

    With choices that are LiDAR with other lookahead steps, target steps, restart, rounds or candidates, a plan finds
    how LiDAR best spends its calls; with other choices it finds the best method. Choices that cannot spend the budget
    are left out with a warning. The pilot draws as many samples together as will be drawn, and takes the choice that is
    closest to the target, or that has the highest reward (see `Pilot`). It judges by the reward alone: give it only
    choices that keep other qualities of the samples, such as their validity, well enough.

    A plan is made before the first draw, and depends neither on its prompt nor on its seed: new prompts use the plan
    that exists for the same choices, model, solver, reward, lambda, budget and count. The network calls of the pilot
    are counted in `Meter.pilot` and not in the budget; everything that it cost is in `Plan.pilot`.

    Args:
        choices: samplers by name; of equally good ones the first is taken.
        prompts, objective, repetitions, references, seed: see `Pilot`.
        calls: the budget in network calls per sample.
        folder: a folder that keeps plans as JSON files, so that other processes and runs need no pilot of their own.

    Raises:
        ValueError: if there is no choice or no prompt, if the objective is unknown, or if a number is below 1.
    """

    whole = True

    def __init__(
        self,
        choices: dict[str, Sampler],
        prompts: list[str],
        objective: Objective = "target",
        calls: int = 100,
        repetitions: int = 4,
        references: int = 256,
        seed: int = 0,
        folder: str | None = None,
    ):
        super().__init__()
        if not choices:
            raise ValueError("a plan needs at least 1 sampler among its choices, got none")
        check_samplers("choices", choices)
        self.choices, self.calls, self.folder = choices, calls, folder
        self.pilot = Pilot(prompts, objective, repetitions, references, seed)
        self.keep = "draw" if objective == "target" else "best"
        self._plans: dict[str, Plan] = {}

    def check_reward(self, reward: Reward) -> None:
        for sampler in self.choices.values():
            sampler.check_reward(reward)

    def sized(self, calls: int, steps: int, count: int, times: Grid = equal_times) -> Self:
        other = self.changed(calls=calls)
        other.fitting(steps, count, times)
        return other

    def fitting(self, steps: int, count: int, times: Grid) -> tuple[dict[str, Sampler], dict[str, str]]:
        """The choices, sized for the budget, and the messages of those that cannot spend it.

        Raises:
            ValueError: if no choice can spend it.
        """
        fitting, left_out = {}, {}
        for name, sampler in self.choices.items():
            try:
                fitting[name] = sampler.within(self.calls, steps, count, times)
            except ValueError as error:
                left_out[name] = str(error)
        if not fitting:
            told = "; ".join(f"{name}: {problem}" for name, problem in left_out.items())
            raise ValueError(f"no choice of the plan can spend {self.calls} network calls per sample. {told}")
        return fitting, left_out

    def __call__(self, task: Task, count: int) -> Tensor:
        plan, sampler = self.chosen(task, count)
        task.meter.pilot = plan.pilot.network
        return sampler(task, count)

    def draw(self, task: Task, count: int) -> Tensor:
        sampler = self.chosen(task, count)[1]
        return sampler.draw(sampler.adapted(task), count)

    def plan(self, task: Task, count: int) -> Plan:
        """The plan for `count` samples of such a task. Raises ValueError as `chosen` does."""
        return self.chosen(task, count)[0]

    def chosen(self, task: Task, count: int) -> tuple[Plan, Sampler]:
        """The plan, which is known, read from a file or made now, and the sampler of its choice, sized for the budget.

        Raises:
            ValueError: if count is below 1, if no choice can spend the budget, if a stored plan is damaged, or if the
                task cannot be planned, because its solver is not its model's own or its reward is relative to the
                samples that it scores together.
        """
        check_count(count)
        check_task(task)
        choices, left_out = self.fitting(len(task.steps), count, task.own_times)
        identity = json.dumps(self.identity(task, choices, count))
        if identity not in self._plans:

            def make() -> Plan:
                for name, problem in left_out.items():
                    logger.warning("the plan leaves out %s: %s", name, problem)
                plan = Plan(*self.pilot(task, choices, count))
                logger.info("%d calls: %s, planned with %d calls", self.calls, plan.choice, plan.pilot.network)
                return plan

            self._plans[identity] = self.stored(identity, choices, make) if self.folder else make()
        return self._plans[identity], choices[self._plans[identity].choice]

    def identity(self, task: Task, choices: Mapping[str, Sampler], count: int) -> dict[str, Any]:
        """All that a plan depends on."""
        lookaheads = [sampler.lookahead for sampler in choices.values() if sampler.lookahead]
        return {
            "choices": [[name, describe(sampler)] for name, sampler in choices.items()],
            "lookaheads": [one.origin(task.backbone) for one in lookaheads],
            "backbone": [task.backbone.name, task.backbone.fingerprint()],
            "solver": [task.solver.name, len(task.steps)],
            "reward": [task.reward.described(), task.temperature],
            "budget": [self.calls, count],
            "pilot": asdict(self.pilot),
        }

    def stored(self, identity: str, choices: Mapping[str, Sampler], make: Callable[[], Plan]) -> Plan:
        """Reads the plan from the folder, or makes it there while other processes wait."""
        path = expand(str(self.folder)) / f"{hashlib.sha256(identity.encode()).hexdigest()[:16]}.json"
        sweep(path.parent)
        with locked(path):
            if path.exists():
                return Plan.load(path, choices)
            plan = make()
            plan.save(path, identity)
        return plan


def check_task(task: Task) -> None:
    """Raises ValueError unless the number of steps can be planned and rewards of different draws can be compared."""
    if not has_own_solver(task):
        own = task.backbone.random_solver(len(task.steps)).name
        raise ValueError(
            f"a plan sets the number of steps of the model's own {own}, but the task has {task.solver.name}: use the "
            "former, or a sampler without a plan"
        )
    if task.reward.parts != [task.reward]:
        raise ValueError(
            f"a plan compares samples of many banks, but {task.reward.name!r} is relative to one: use a reward that "
            "scores each sample by itself, such as a CallableReward"
        )
