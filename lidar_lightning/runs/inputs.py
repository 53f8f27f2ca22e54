"""Checks of what a run is given, made before anything is drawn and before a folder is written to."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from lidar_lightning.backbones.base import Backbone
from lidar_lightning.evaluation.quality import NEIGHBOURS
from lidar_lightning.rewards.base import Reward, named, scored_rewards
from lidar_lightning.runs.tabulate import VANILLA
from lidar_lightning.samplers.base import check_samplers
from lidar_lightning.utils.files import check_name
from lidar_lightning.utils.smiles_io import read_smiles

logger = logging.getLogger(__name__)
QM9_ATOMS = 9
"""Heavy atoms of the largest molecules of QM9, and of what models of it draw."""


def check_parts(
    backbone: Any, reward: Any, metrics: Sequence[Any] | None = None, training_data: str | None = None
) -> None:
    """Checks the parts of a run, and warns of rewards that need larger molecules than a model of QM9 draws.

    Raises:
        ValueError: if the backbone is not a Backbone; if a reward is not a Reward, shares its name with another one, or
            scores what the backbone does not make; or if the file of training molecules cannot be read.
    """
    if not isinstance(backbone, Backbone):
        raise ValueError(
            f"the backbone must be a Backbone such as UDLM or StableDiffusion, got {named(backbone)}: wrap a pipeline "
            "of diffusers in its backbone"
        )
    for part in scored_rewards(reward, metrics or []):
        if part.modality not in ("any", backbone.modality):
            raise ValueError(
                f"reward {part.name!r} scores samples of modality {part.modality!r}, but the backbone "
                f"{backbone.name!r} makes {backbone.modality!r}: use another reward"
            )
        needed = getattr(part, "needs_atoms", 0)
        if needed > QM9_ATOMS and backbone.modality == "molecule" and "qm9" in backbone.name.lower():
            logger.warning(
                "reward %r asks for molecules of %d heavy atoms, and %s draws at most %d: it cannot reach the best",
                part.name, needed, backbone.name, QM9_ATOMS,
            )  # fmt: skip
    if training_data is not None:
        read_smiles(training_data)


def check_prompts(rewards: Sequence[Reward], prompts: Sequence[str]) -> None:
    """Raises ValueError for a prompt that one of the rewards cannot score."""
    for reward in rewards:
        for part in reward.parts:
            part.check_prompts(prompts)


def check_counts(**counts: int) -> None:
    """Raises ValueError, naming the first number that is not a whole number of at least 1."""
    for name, count in counts.items():
        if not isinstance(count, int) or isinstance(count, bool) or count < 1:
            raise ValueError(f"{name} must be at least 1, got {count}")


def check_references(count: int, reward: Reward) -> None:
    """Raises ValueError unless `count` is 0, or large enough and the reward scores each sample by itself."""
    if not isinstance(count, int) or isinstance(count, bool) or 0 < count < NEIGHBOURS or count < 0:
        raise ValueError(f"references are plain samples of each prompt, at least {NEIGHBOURS}, or 0, got {count}")
    if count and reward.relative:
        raise ValueError(
            f"references stand for the target of one reward, and {reward.name!r} is relative to the samples it is "
            "given with: set references to 0, or use a reward that scores each sample by itself"
        )


def check_methods(samplers: Mapping[str, Any], reward: Reward, unit: str, **lists: Sequence[float]) -> None:
    """Checks the samplers, the reward, the lists of numbers and the unit of budgets of a comparison.

    Raises:
        ValueError: if there are no samplers or one has the name of the plain model, if a list is empty or holds a
            number twice, if the reward cannot be searched with, or if the unit is unknown.
    """
    if unit not in ("calls", "seconds"):
        raise ValueError(f"budget_unit is calls or seconds, got {unit!r}")
    for name in samplers:
        check_name("the name of a sampler", name)
    if not samplers or not all(lists.values()) or VANILLA in samplers:
        raise ValueError(
            f"a comparison needs samplers, none of them called {VANILLA!r}, and {' and '.join(lists)}, got "
            f"{sorted(samplers)}, {' and '.join(map(str, lists.values()))}"
        )
    for name, values in lists.items():
        if len(set(values)) < len(values):
            raise ValueError(f"{name} must differ from each other, got {values}")
    check_samplers("samplers", samplers)
    for sampler in samplers.values():
        sampler.check_reward(reward)
