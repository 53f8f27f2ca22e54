"""The plan that a pilot makes, its file, and the distance that judges samplers."""

import json
from collections.abc import Collection
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from lidar_lightning.samplers.meter import Meter
from lidar_lightning.utils.files import write_atomically


class Plan(NamedTuple):
    """What a pilot found."""

    choice: str
    """The name of the best sampler."""
    tried: dict[str, float]
    """Each sampler that was tried, with the last estimate of what it is judged by (see `Pilot`); empty if only one
    could spend the budget."""
    pilot: Meter
    """What the pilot spent, by its own meter."""

    def save(self, path: Path, identity: str) -> None:
        content = {**self._asdict(), "pilot": asdict(self.pilot), "of": json.loads(identity)}
        write_atomically(path, json.dumps(content, indent=1).encode())

    @classmethod
    def load(cls, path: Path, names: Collection[str]) -> "Plan":
        """Reads a stored plan for samplers of these names. Raises ValueError, naming the file, if it is damaged."""
        try:
            found = json.loads(path.read_text())
            if found["choice"] not in names:
                raise ValueError(f"it chooses {found['choice']!r}, which is none of {list(names)}")
            return cls(found["choice"], found["tried"], Meter(**found["pilot"]))
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"the plan {path} is damaged ({error}): delete it to plan again") from error


def distance(values: Tensor, reference: Tensor, weights: Tensor) -> float:
    """Wasserstein-1 distance from values (m,) of equal weight to reference (k,), whose weights (k,) sum to 1."""
    points, order = torch.cat((values, reference)).sort()
    mass = torch.cat((torch.full_like(values, 1 / len(values)), -weights))[order].cumsum(0)
    return (mass[:-1].abs() * points.diff()).sum().item()
