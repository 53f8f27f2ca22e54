"""LiDAR with particles: its closed form gives the proposal and the twist of a particle filter."""

from typing import Any, Self

from torch import Tensor

from lidar_lightning.guidance import LiDARGuidance
from lidar_lightning.lookahead import Lookahead
from lidar_lightning.samplers.budget import Grid, check_budget, equal_times, spending
from lidar_lightning.samplers.lidar import LiDAR, lookahead_members
from lidar_lightning.samplers.smc import Look, ParticleSampler
from lidar_lightning.samplers.task import Task
from lidar_lightning.solvers import Transition


class LiDARSMC(ParticleSampler):
    """Particles that LiDAR guides, with weights that correct its errors.

    The proposal is the guided step. The twist is the bank's lookahead reward log sum_i w_i exp(lambda r_i), whose
    gradient is the guidance. Neither takes network or reward calls. As the bank grows, the twist becomes the best one
    there is and the weights stay even; the particles correct what a small bank gets wrong.

    Args:
        lookahead: how the bank is drawn.
        particles: number of particles per sample.
        scale, ess, start, stop: see `LiDARGuidance`; without ess the temperature is that of the task.
        settings: the other arguments of `ParticleSampler`.
    """

    def __init__(
        self,
        lookahead: Lookahead,
        particles: int = 4,
        *,
        scale: float = 1.0,
        ess: float | None = None,
        start: float = 1.0,
        stop: float = 0.0,
        **settings: Any,
    ):
        super().__init__(particles, **settings)
        self.lookahead: Lookahead = lookahead
        self.plain = LiDAR(lookahead, scale=scale, ess=ess, start=start, stop=stop)

    def cost(self, steps: int, count: int, times: Grid = equal_times) -> int:
        return self.lookahead.n * self.lookahead.steps + super().cost(steps, count, times)

    def sized(self, calls: int, steps: int, count: int, times: Grid = equal_times) -> Self:
        """Lookaheads take their n * delta calls, and particles, at least two, all others.

        Two particles that would be too expensive take fewer steps: down to half as many, unless `steps` is set.
        """
        lookahead, fewest = self.lookahead, self.steps or -(-steps // 2)
        shared = -(-lookahead.n * lookahead.steps // count)
        check_budget("LiDARSMC", calls, shared + 2 * fewest, f"the lookaheads and two particles of {fewest} steps")
        particles = (calls - shared) // steps
        return spending(self.sizes(max(particles, 2)), calls, steps if particles > 1 else fewest, count, times)

    def prepare(self, task: Task, count: int) -> LiDARGuidance:
        return self.plain.guidance(task, lookahead_members(task, self.lookahead))

    def look(self, task: Task, x_t: Tensor, i: int, carry: LiDARGuidance) -> Look:
        t = task.steps[i][0]
        return Look(task.predict(x_t, t), carry.lookahead_reward(x_t, t), carry)

    def propose(self, task: Task, x_t: Tensor, i: int, seen: Look, model: Transition) -> Transition:
        t, s = task.steps[i]
        return task.solver.transition(seen.carry(x_t, t, s, seen.x0_hat), x_t, t, s)
