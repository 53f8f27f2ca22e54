"""A reward that asks another one, and is the same to whoever reads its scores."""

from collections.abc import Sequence
from typing import Any

from lidar_lightning.rewards.base import Reward


class Wrapped(Reward):
    """Another reward, asked in another way: the same scores, name and identity. A subclass says how it is asked.

    It is not differentiable, whatever the other is.

    Args:
        reward: that is asked.
    """

    def __init__(self, reward: Reward):
        self.reward = reward
        self.name, self.version, self.modality = reward.name, reward.version, reward.modality
        self.higher_is_better = reward.higher_is_better

    @property
    def identity(self) -> str:
        return self.reward.identity

    def described(self) -> dict[str, Any]:
        return self.reward.described()

    def check_prompts(self, prompts: Sequence[str]) -> None:
        self.reward.check_prompts(prompts)
