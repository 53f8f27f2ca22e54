"""What a budget planner chooses from, by what measure, and what it finds."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from lidar_lightning.samplers.budget import check_budget
from lidar_lightning.samplers.meter import Meter
from lidar_lightning.utils.files import write_atomically


class Allocation(NamedTuple):
    """A split of a budget: n lookaheads for all samples of a prompt together, then target steps for each."""

    lookahead_steps: int
    n: int
    target_steps: int


class Plan(NamedTuple):
    """What a pilot found."""

    allocation: Allocation
    """The best split."""
    tried: list[tuple[Allocation, float]]
    """All splits, with the last estimates of their distance to the target (see `PlannedLiDAR`)."""
    reference_ess: float
    """Effective sample size of the reference samples that stand for the target."""
    pilot: Meter
    """What the pilot spent."""

    def save(self, path: Path, identity: str) -> None:
        content = {**self._asdict(), "allocation": self.allocation._asdict(), "pilot": asdict(self.pilot)}
        write_atomically(path, json.dumps({**content, "of": json.loads(identity)}, indent=1).encode())

    @classmethod
    def load(cls, path: Path) -> "Plan":
        """Reads a stored plan. Raises ValueError naming the file if it is damaged."""
        try:
            found = json.loads(path.read_text())
            tried = [(Allocation(*split), gap) for split, gap in found["tried"]]
            return cls(Allocation(**found["allocation"]), tried, found["reference_ess"], Meter(**found["pilot"]))
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"the plan {path} is damaged ({error}): delete it, to plan again") from error


def allocations(
    calls: int, count: int, lookahead_steps: Sequence[int], target_steps: Sequence[int]
) -> list[Allocation]:
    """All splits of `calls` network calls per sample, for `count` samples that share a bank.

    Each pair of steps takes all lookaheads that fit, n * lookahead_steps / count + target_steps <= calls.

    Raises:
        ValueError: if a number is below 1, there are no steps to choose from, or nothing fits; it names the least
            budget that does.
    """
    if not lookahead_steps or not target_steps or min(count, *lookahead_steps, *target_steps) < 1:
        raise ValueError(
            "a plan needs at least 1 sample and a choice of lookahead steps and target steps of at least 1, got "
            f"{count}, {list(lookahead_steps)} and {list(target_steps)}"
        )
    least = min(target_steps) + -(-min(lookahead_steps) // count)
    check_budget("a plan", calls, least, "the fewest target steps and one lookahead")
    pairs = product(sorted(set(lookahead_steps)), sorted(set(target_steps)))
    found = [Allocation(delta, (calls - tau) * count // delta, tau) for delta, tau in pairs]
    return [split for split in found if split.n > 0]


def distance(values: Tensor, reference: Tensor, weights: Tensor) -> float:
    """Wasserstein-1 distance of the even law on values (m,) to the law on reference (k,) with weights (k,) of sum 1."""
    points, order = torch.cat((values, reference)).sort()
    mass = torch.cat((torch.full_like(values, 1 / len(values)), -weights))[order].cumsum(0)
    return (mass[:-1].abs() * points.diff()).sum().item()
