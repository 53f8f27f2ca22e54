"""Sequential Monte Carlo: particles are weighted by the reward that they promise, and resampled. With FK steering."""

import math
from abc import abstractmethod
from collections.abc import Iterator
from copy import copy
from typing import Any, Literal, NamedTuple, Self

import torch
from torch import Tensor

from lidar_lightning.samplers.base import Keep, check_keep, check_particles, check_random
from lidar_lightning.samplers.budget import Grid, check_budget, equal_times, spending
from lidar_lightning.samplers.resampling import log_ess, pick, resampler
from lidar_lightning.samplers.select import PoolingSampler
from lidar_lightning.samplers.task import Task
from lidar_lightning.solvers import Transition
from lidar_lightning.utils.seeding import Generators


class Look(NamedTuple):
    """What a sampler knows of its particles before a step."""

    x0_hat: Tensor
    """The prediction at each particle (B, *S)."""
    twist: Tensor | None
    """log psi(x_t) (B,) float64; None keeps the last one, so that no weight changes."""
    carry: Any = None
    """What the proposal of this step, and the `look` before the next one, receive."""


class ParticleSampler(PoolingSampler):
    """A twisted particle filter towards p(x0) exp(lambda r(x0)): each sample has particles of its own.

    At every time a particle has a log-twist psi(x_t), an estimate of lambda r of what it becomes. A step multiplies its
    weight by p(x_s | x_t) / q(x_s | x_t) for a proposal q, and by exp(psi(x_s) - psi(x_t)); at the end psi is lambda r
    itself. So the weights are right for every twist and proposal, and good twists and proposals keep them even. Weights
    are kept in log-space, and carried on where particles are not resampled. Source: Wu et al., "Practical and
    Asymptotically Exact Conditional Sampling in Diffusion Models", arXiv 2306.17775.

    Args:
        particles: number of particles per sample, at least 1.
        threshold: particles are resampled where their effective sample size falls below this fraction of their number
            or below 1 + threshold, whichever is larger; the second lets two particles be resampled too, since the size
            is never below 1. With 0 they never are.
        resampling: "multinomial", "stratified", "systematic" or "ssp".
        keep: "draw" takes one particle of each sample in proportion to its weight, which samples the target; "best"
            takes the particles of the highest reward.
        steps: see `Sampler`.
        pooled: whether keep="best" takes the best different particles of a prompt, as best-of-N does; otherwise it
            takes the best of each sample's own.

    Raises:
        ValueError: if a setting is out of range or unknown, or, when samples are drawn, if the solver is deterministic,
            if a weight is NaN or infinite, or if all particles of a sample have weight 0.
    """

    def __init__(
        self,
        particles: int = 4,
        threshold: float = 0.5,
        resampling: str = "systematic",
        keep: Keep = "draw",
        steps: int | None = None,
        pooled: bool = True,
    ):
        super().__init__(steps)
        check_particles(type(self).__name__, particles)
        check_keep(keep)
        if not 0 <= threshold <= 1:
            raise ValueError(f"threshold must be in [0, 1], got {threshold}")
        self.particles, self.threshold, self.resample = particles, threshold, resampler(resampling)
        self.keep, self.pooled = keep, pooled

    def cost(self, steps: int, count: int, times: Grid = equal_times) -> int:
        return self.particles * steps * count

    def sized(self, calls: int, steps: int, count: int, times: Grid = equal_times) -> Self:
        """Takes as many particles as the budget pays for, at least two: one alone is never weighed against another."""
        check_budget(type(self).__name__, calls, 2 * steps, "two particles")
        return spending(self.sizes(calls // steps), calls, steps, count, times)

    def sizes(self, most: int) -> Iterator[Self]:
        """Copies of this sampler with `most` particles, and then ever fewer, down to two."""
        for particles in range(most, 1, -1):
            other = copy(self)
            other.particles = particles
            yield other

    def prepare(self, task: Task, count: int) -> Any:
        """What the particles of `count` samples carry into the first step."""
        return None

    @abstractmethod
    def look(self, task: Task, x_t: Tensor, i: int, carry: Any) -> Look:
        """What is known of the particles x_t (B, *S) before step i; the last `look`, or `prepare`, left `carry`."""

    def follow(self, carry: Any, rows: Tensor) -> Any:
        """What particles carry after resampling, which took them from the places `rows` (B,)."""
        return carry

    def propose(self, task: Task, x_t: Tensor, i: int, seen: Look, model: Transition) -> Transition:
        """The law q from which step i draws x_s, in place of the model's own law."""
        return model

    def draw(self, task: Task, count: int) -> Tensor:
        particles, groups = task.generators(count * self.particles), task.generators(count, "resampling")
        x = task.start(particles)
        check_random(type(self).__name__, task, x)
        carry = self.prepare(task, count)
        log_weights = torch.zeros(len(x), dtype=torch.float64, device=x.device)
        promised = torch.zeros_like(log_weights)
        for i, (t, s) in enumerate(task.steps):
            seen = self.look(task, x, i, carry)
            if seen.twist is not None:
                log_weights, promised = log_weights + seen.twist - promised, seen.twist
                rows, log_weights = self.resampled(log_weights, groups)
                if rows is not None:
                    x, promised = x[rows], promised[rows]
                    seen = Look(seen.x0_hat[rows], promised, self.follow(seen.carry, rows))
            carry = seen.carry
            model = task.solver.transition(seen.x0_hat, x, t, s)
            proposal = model if i == len(task.steps) - 1 else self.propose(task, x, i, seen, model)
            x = proposal.sample(particles)
            if proposal is not model:
                log_weights = log_weights + model.log_prob(x) - proposal.log_prob(x)
        value = task.value(x)
        if self.keep == "best":
            return x[self.best(task, x, count, value)]
        chosen = pick((log_weights + value - promised).view(count, -1), groups.rand(1))
        return x[torch.arange(count, device=x.device) * self.particles + chosen]

    def resampled(self, log_weights: Tensor, groups: Generators) -> tuple[Tensor | None, Tensor]:
        """Where each particle comes from (B,), or None if none is resampled, and the log-weights afterwards."""
        weights = log_weights.view(-1, self.particles)
        uniforms = groups.rand(self.particles)
        limit = min(self.particles, max(self.threshold * self.particles, 1 + self.threshold))
        due = log_ess(weights) < math.log(limit) - 1e-12
        if not due.any():
            return None, log_weights
        stay = torch.arange(self.particles, device=weights.device).expand_as(weights)
        rows = torch.where(due[:, None], self.resample(weights, uniforms), stay)
        mean = weights.logsumexp(1, keepdim=True) - torch.tensor(float(self.particles)).log()
        after = torch.where(due[:, None], mean.expand_as(weights), weights)
        starts = torch.arange(len(weights), device=weights.device)[:, None] * self.particles
        return (rows + starts).flatten(), after.flatten()


class Potentials(NamedTuple):
    """The potentials of particles of SMC so far."""

    last: Tensor
    """The logarithm of the last potential (B,)."""
    total: Tensor
    """The logarithm of the product of all potentials (B,)."""


class SMC(ParticleSampler):
    """Feynman-Kac steering with the reward of the predicted clean sample. Source: Singhal et al., arXiv 2501.06848.

    With r at x0_hat, the potential "diff" is exp(lambda (r - last r)), "max" is exp(lambda max r so far), "add" is
    exp(lambda times the sum of r so far), and "rt" is exp(lambda r). The last three end with exp(lambda r(x0)) divided
    by all potentials before, so that the target is the same for all. "max" starts from the first reward, whatever its
    sign.

    Args:
        particles: number of particles per sample.
        potential: "diff", "max", "add" or "rt".
        every: particles are weighed before every `every`-th step.
        start, stop: particles are weighed while stop < t <= start, where t = 1 is pure noise.
        settings: the other arguments of `ParticleSampler`.

    Raises:
        ValueError: if a setting is out of range or unknown.
    """

    def __init__(
        self,
        particles: int = 4,
        *,
        potential: Literal["diff", "max", "add", "rt"] = "diff",
        every: int = 5,
        start: float = 0.8,
        stop: float = 0.05,
        **settings: Any,
    ):
        super().__init__(particles, **settings)
        if potential not in ("diff", "max", "add", "rt") or every < 1 or not 0 <= stop <= start <= 1:
            raise ValueError(
                f"potential must be 'diff', 'max', 'add' or 'rt', every at least 1 and 0 <= stop <= start <= 1, "
                f"got {potential!r}, {every}, {stop} and {start}"
            )
        self.potential, self.every, self.start, self.stop = potential, every, start, stop

    def look(self, task: Task, x_t: Tensor, i: int, carry: Potentials | None) -> Look:
        t = task.steps[i][0]
        x0_hat = task.predict(x_t, t)
        if i % self.every or not self.stop < t <= self.start:
            return Look(x0_hat, None, carry)
        last = task.value(task.solver.estimate(x0_hat, x_t, t))
        if self.potential == "diff":
            return Look(x0_hat, last)
        if carry is None:
            return Look(x0_hat, last, Potentials(last, last))
        if self.potential == "max":
            last = torch.maximum(carry.last, last)
        elif self.potential == "add":
            last = carry.last + last
        # The potentials multiply up: the twist is their running sum of logarithms.
        total = carry.total + last
        return Look(x0_hat, total, Potentials(last, total))

    def follow(self, carry: Potentials | None, rows: Tensor) -> Potentials | None:
        return carry and Potentials(carry.last[rows], carry.total[rows])
