"""Several rewards as one: a weighted sum, the worst of them, or the Pareto rank.

The functions take utilities (k, n): k rewards, all to be maximised, of the n samples of one bank. They need no samples,
so that a bank whose scores are stored can be tilted by any combination without scoring anything again. All three are
relative to these n samples: they compare samples within one bank and mean nothing across banks. A search scores a few
samples at a time, so that it needs a combination whose mean and spread are frozen; a Pareto rank cannot be frozen.
"""

import math
from collections.abc import Mapping, Sequence
from copy import copy
from typing import Any, Literal, NamedTuple, Self

import torch
from torch import Tensor

from lidar_lightning.rewards.base import Reward, check_reward, score, utility

Utilities = Tensor | Sequence[Tensor] | Mapping[str, Tensor]


class Scale(NamedTuple):
    """Mean and population standard deviation of each utility over reference samples, (k, 1) float64 each."""

    mean: Tensor
    std: Tensor


def z_normalise(utilities: Utilities) -> Tensor:
    """(u - mean(u)) / std(u) over the n samples, population std, for each of k rewards: (k, n) float32.

    A constant reward gives zeros: it prefers no sample.

    Raises:
        ValueError: if the rewards differ in length, or a value is NaN or infinite.
    """
    return _normalised(_stack(utilities)).float()


def weighted_sum(
    utilities: Utilities, weights: Sequence[float] | Tensor | None = None, scale: Scale | None = None
) -> Tensor:
    """Sum_k weights_k z_k(i) of the z-normalised utilities: (n,) float32.

    Args:
        utilities: k rewards of n samples, higher is better: (k, n), a list of (n,), or a dict of (n,).
        weights: (k,), in the order of the utilities; None is all ones.
        scale: the mean and spread by which to normalise; None takes those of the samples themselves.

    Raises:
        ValueError: if the number of weights is not k, or as `z_normalise`.
    """
    stacked = _stack(utilities)
    weights = torch.as_tensor([1.0] * len(stacked) if weights is None else weights).to(stacked)
    if weights.shape != (len(stacked),):
        raise ValueError(f"got weights of shape {tuple(weights.shape)} for {len(stacked)} rewards: give one per reward")
    return (weights @ _normalised(stacked, scale)).float()


def minimum(utilities: Utilities, scale: Scale | None = None) -> Tensor:
    """min_k z_k(i), the z-normalised reward in which a sample does worst: (n,) float32.

    Raises:
        ValueError: as `z_normalise`.
    """
    return _normalised(_stack(utilities), scale).amin(0).float()


def pareto_rank(utilities: Utilities) -> Tensor:
    """Minus the number of the front in non-dominated sorting: 0 for the best front, -1 for the next: (n,) float32.

    A sample dominates another if it is nowhere worse and somewhere better; equal samples share a front. Takes O(k n^2)
    time and O(n^2) memory. Source: Deb et al., "NSGA-II", IEEE Trans. Evol. Comp. 6(2), 2002.

    Raises:
        ValueError: as `z_normalise`.
    """
    stacked = _stack(utilities)
    n = stacked.shape[1]
    nowhere_worse = torch.ones(n, n, dtype=torch.bool, device=stacked.device)
    somewhere_better = torch.zeros_like(nowhere_worse)
    for values in stacked:
        nowhere_worse &= values[:, None] >= values
        somewhere_better |= values[:, None] > values
    dominates = nowhere_worse & somewhere_better
    better, rank = dominates.sum(0), torch.zeros(n, device=stacked.device)
    left = torch.ones(n, dtype=torch.bool, device=stacked.device)
    while left.any():
        front = left & (better == 0)
        left &= ~front
        better -= dominates[front].sum(0)
        rank -= left.float()
    return rank


class Combined(Reward):
    """One reward made of several, on the scale of one bank (see the module): not differentiable, higher is better.

    Args:
        rewards: the parts, at least one, of one modality and with different names. Those for which lower is better
            enter with their sign turned.
        how: "sum" of z-normalised parts, "min" over z-normalised parts, or "pareto" rank.
        weights: one finite number for each part of a sum; None takes 1 for all.

    Attributes:
        parts: the rewards.
        name: such as "sum(ring_count,qed)" or, with weights, "sum(2*ring_count,0.5*qed)".

    Raises:
        ValueError: for an unknown `how`, weights that do not fit, or parts that cannot be combined.
    """

    def __init__(
        self, rewards: list[Reward], how: Literal["sum", "min", "pareto"] = "sum", weights: list[float] | None = None
    ):
        if how not in ("sum", "min", "pareto"):
            raise ValueError(f"cannot combine rewards by {how!r}: choose 'sum', 'min' or 'pareto'")
        for part in rewards:
            check_reward(part)
        names = [part.name for part in rewards]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"combine one or more rewards with distinct names, got {names}")
        modalities = {part.modality for part in rewards} - {"any"}
        if len(modalities) > 1:
            raise ValueError(f"cannot combine rewards of different modalities: {sorted(modalities)} in {names}")
        if weights is not None and how != "sum":
            raise ValueError(f"weights apply to how='sum' only, got how={how!r} with weights {weights}")
        if weights is not None and (len(weights) != len(rewards) or not all(map(math.isfinite, weights))):
            raise ValueError(f"give one finite weight per reward, got weights {weights} for {names}")
        self.parts, self.how, self.weights = list(rewards), how, weights
        self.scale: Scale | None = None
        terms = names if weights is None else [f"{w:g}*{name}" for w, name in zip(weights, names, strict=True)]
        self.name = f"{how}({','.join(terms)})"
        self.version = "; ".join([f"1, weights={weights}", *(f"{part.name} {part.version}" for part in rewards)])
        self.modality = modalities.pop() if modalities else "any"

    @property
    def components(self) -> list[Reward]:
        return self.parts

    @property
    def identity(self) -> str:
        parts = [f"{part.name} {part.identity} {part.higher_is_better}" for part in self.parts]
        return "; ".join([f"1, {self.how}, weights={self.weights}", *parts])

    def described(self) -> dict[str, Any]:
        parts = [part.described() for part in self.parts]
        return {"name": self.name, "how": self.how, "weights": self.weights, "parts": parts}

    def from_scores(self, scores: Mapping[str, Tensor]) -> Tensor:
        """The combination (n,) float32 from stored scores of the parts, as `score` gave them, by name.

        Raises:
            ValueError: if parts have no scores; the message names them.
        """
        missing = [part.name for part in self.parts if part.name not in scores]
        if missing:
            raise ValueError(f"{self.name} needs scores of {missing}, stored are {sorted(scores)}: score them first")
        utilities = [utility(part, scores[part.name]) for part in self.parts]
        if self.how == "sum":
            return weighted_sum(utilities, self.weights, self.scale)
        return minimum(utilities, self.scale) if self.how == "min" else pareto_rank(utilities)

    @property
    def relative(self) -> bool:
        """Whether the scores depend on the samples they are computed on, which is true until it is frozen."""
        return self.scale is None

    def frozen(self, scores: Mapping[str, Tensor]) -> Self:
        """This combination with the mean and spread of its parts set, for good, by these scores (n,) of each, by name.

        Raises:
            ValueError: for a Pareto rank, or if a part has no scores.
        """
        if self.how == "pareto":
            raise ValueError(
                f"{self.name} ranks samples among each other, and a sampler scores some of them at a time: combine the "
                "rewards by 'sum' or 'min', or use BestOfN or LiDAR, which rank all samples of a prompt at once"
            )
        self.from_scores(scores)
        other = copy(self)
        other.scale = _scale(_stack([utility(part, scores[part.name]) for part in self.parts]))
        return other

    def __call__(self, samples: Any, prompts: Sequence[str]) -> Tensor:
        return self.from_scores({part.name: score(part, samples, prompts) for part in self.parts})


def _stack(utilities: Utilities) -> Tensor:
    """(k, n) float64, checked."""
    rows = list(utilities.values() if isinstance(utilities, Mapping) else utilities)
    shapes = [tuple(row.shape) for row in rows]
    if not rows or len(shapes[0]) != 1 or len(set(shapes)) > 1:
        raise ValueError(f"utilities are k >= 1 tensors of one length (n,), got shapes {shapes}")
    stacked = torch.stack([row.double() for row in rows])
    bad = (~stacked.isfinite()).sum(1).tolist()
    if any(bad):
        raise ValueError(f"utilities must be finite, got {bad} NaN or infinite values in the {len(rows)} rewards")
    return stacked


def _scale(stacked: Tensor) -> Scale:
    constant = (stacked == stacked[:, :1]).all(1, keepdim=True)
    return Scale(stacked.mean(1, keepdim=True), torch.where(constant, 0.0, stacked.std(1, correction=0, keepdim=True)))


def _normalised(stacked: Tensor, scale: Scale | None = None) -> Tensor:
    mean, std = (part.to(stacked.device) for part in scale or _scale(stacked))
    return torch.where(std == 0, 0.0, (stacked - mean) / std)
