"""What determines the samples of any run; another run may not continue it."""

from collections.abc import Sequence
from typing import Any

from lidar_lightning.backbones.base import Backbone
from lidar_lightning.rewards.base import Reward
from lidar_lightning.solvers import Solver


def settings_of(
    backbone: Backbone, reward: Reward, rewards: Sequence[Reward], solver: Solver, temperature: float | None
) -> dict[str, Any]:
    """The settings that runs of every sampler have, as `RunFolder` takes them.

    Args:
        backbone: the model.
        reward: the guiding reward.
        rewards: all that are scored.
        solver: the steps of the model.
        temperature: lambda, if the samplers need one.
    """
    return {
        "modality": backbone.modality,
        "backbone": backbone.name,
        "fingerprint": backbone.fingerprint(),
        "reward": reward.described(),
        "scored": {one.name: one.identity for one in rewards},
        "solver": solver.name,
        "temperature": temperature,
    }
