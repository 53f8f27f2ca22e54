"""The mean of several rewards on scales of their own, which no other sample changes."""

import math
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from lidar_lightning.rewards.base import Reward, check_reward, score


class Mean(Reward):
    """The geometric or arithmetic mean of rewards as they are, higher is better.

    Unlike `Combined` it does not depend on the bank: its numbers can be compared across runs, and a reward that is 0
    makes the geometric mean 0, whatever the others are. Parts are best in [0, 1]: see `Peak`, `Ramp` and `Step`.

    Args:
        rewards: at least one, with distinct names and one modality; none relative to the samples it scores. Those that
            are better when lower enter with their sign turned.
        how: "geometric", prod_k u_k^(w_k / sum w), of utilities that are at least 0, or "arithmetic".
        weights: one positive number for each; None takes 1 for all.
        name: of this one; by default e.g. "geometric(qed,ramp(logp,0,3))".

    Attributes:
        rewards: what it is the mean of.
        parts: what is scored and stored for it.

    Raises:
        ValueError: for an unknown `how`, weights that do not fit, or rewards of which there is no mean; when it scores,
            if a reward is below 0 in a geometric mean.
    """

    def __init__(
        self,
        rewards: list[Reward],
        how: Literal["geometric", "arithmetic"] = "geometric",
        weights: list[float] | None = None,
        name: str | None = None,
    ):
        if how not in ("geometric", "arithmetic"):
            raise ValueError(f"a Mean is 'geometric' or 'arithmetic', got {how!r}")
        for reward in rewards:
            check_reward(reward)
            if reward.relative:
                raise ValueError(f"{reward.name!r} is relative to the samples it scores: use its parts, or Combined")
        names = [reward.name for reward in rewards]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"a Mean is of one or more rewards with distinct names, got {names}")
        modalities = {reward.modality for reward in rewards} - {"any"}
        if len(modalities) > 1:
            raise ValueError(f"there is no mean of rewards of different modalities: {sorted(modalities)} in {names}")
        self.weights = [1.0] * len(names) if weights is None else [float(weight) for weight in weights]
        if len(self.weights) != len(names) or not all(0 < weight < math.inf for weight in self.weights):
            raise ValueError(f"give one positive weight per reward, got weights {weights} for {names}")
        terms = names if weights is None else [f"{w:g}*{one}" for w, one in zip(weights, names, strict=True)]
        self.rewards, self.how, self.name = list(rewards), how, name or f"{how}({','.join(terms)})"
        self.modality = modalities.pop() if modalities else "any"
        self.differentiable = all(reward.differentiable for reward in rewards)
        self.parts = list({part.name: part for reward in rewards for part in reward.parts}.values())
        for part in (part for reward in rewards for part in reward.parts):
            if part.described() != next(one for one in self.parts if one.name == part.name).described():
                raise ValueError(f"two different rewards in {self.name} are called {part.name!r}: name one of them")

    @property
    def components(self) -> list[Reward]:
        return self.rewards

    @property
    def identity(self) -> str:
        each = [f"{one.name} {one.identity} {one.higher_is_better}" for one in self.rewards]
        return "; ".join([f"1, {self.how}, weights={self.weights}", *each])

    def described(self) -> dict[str, Any]:
        each = [one.described() for one in self.rewards]
        return {"name": self.name, "how": self.how, "weights": self.weights, "rewards": each}

    def from_scores(self, scores: Mapping[str, Tensor]) -> Tensor:
        """The mean (n,) float32 from stored scores of the parts, by name.

        Raises:
            ValueError: naming a part that has no scores, or a reward below 0 in a geometric mean.
        """
        rows = torch.stack([one.from_scores(scores).double() for one in self.rewards])
        weights = torch.tensor(self.weights, dtype=torch.float64, device=rows.device)[:, None]
        weights = weights / weights.sum()
        if self.how == "arithmetic":
            return (weights * rows).sum(0).float()
        if len(low := (rows < 0).any(1).nonzero()):
            raise ValueError(
                f"{self.name}: {self.rewards[int(low[0])].name!r} is below 0, of which there is no geometric mean: "
                "put it on a scale from 0 to 1 by a Ramp or a Peak, or take how='arithmetic'"
            )
        return (rows**weights).prod(0).float()

    def __call__(self, samples: Any, prompts: Any) -> Tensor:
        return self.from_scores({part.name: score(part, samples, prompts) for part in self.parts})
