"""What is wanted of a number: a target, a range or enough of it, on a scale from 0 to 1."""

import math
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from lidar_lightning.rewards.base import Reward, check_floor, check_reward, score, utility
from lidar_lightning.rewards.molecules import Validity


class Shaped(Reward):
    """How well the score of another reward is as wanted, in [0, 1]; higher is better.

    The score itself is what banks and tables keep, so that another shape needs no new scores; of molecules so is
    whether they are valid, since invalid ones get the floor.

    Args:
        of: any reward; its scores are taken as they are, whatever it says of higher and lower.
        name: of this one; by default the shape, with the name of the other and the settings.
        floor: score of strings that are no molecules, if `of` scores molecules.

    Raises:
        ValueError: if `of` is no reward, or its scores depend on the other samples.
    """

    def __init__(self, of: Reward, name: str | None, floor: float = 0.0):
        check_reward(of)
        if of.relative:
            raise ValueError(f"{of.name!r} is relative to the samples it scores: shape its parts, and take their Mean")
        settings = ",".join(
            f"{value:g}" if isinstance(value, float) else str(value) for value in self.settings.values()
        )
        self.of, self.floor, self.modality = of, check_floor(floor), of.modality
        self.differentiable = self.differentiable and of.differentiable
        self.name = name or f"{type(self).__name__.lower()}({of.name},{settings})"
        self.parts = [*of.parts, *([Validity()] if of.modality == "molecule" else [])]

    @property
    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """What sets the shape, by the names of the arguments."""

    @abstractmethod
    def shape(self, values: Tensor) -> Tensor:
        """From scores (n,) to [0, 1]."""

    @property
    def identity(self) -> str:
        return f"1, {type(self).__name__} {self.settings}, floor={self.floor}; {self.of.name} {self.of.identity}"

    def described(self) -> dict[str, Any]:
        shape = {"shape": type(self).__name__, **self.settings, "floor": self.floor}
        return {"name": self.name, **shape, "of": self.of.described()}

    def from_scores(self, scores: Mapping[str, Tensor]) -> Tensor:
        found = self.shape(utility(self.of, self.of.from_scores(scores)))
        if self.modality != "molecule":
            return found
        valid = self.parts[-1].from_scores(scores).to(found.device)
        return torch.where(valid > 0, found, torch.full_like(found, self.floor))

    def __call__(self, samples: Any, prompts: Any) -> Tensor:
        return self.from_scores({part.name: score(part, samples, prompts) for part in self.parts})


class Peak(Shaped):
    """exp(-((x - target) / width)^2 / 2), or 1 on one side of the target.

    Args:
        of: the reward whose score is x.
        target: where the shape is 1.
        width: standard deviation of the bell, above 0.
        side: "both"; "below": all below the target is as good as the target; "above": all above it is.
        name, floor: see `Shaped`.

    Raises:
        ValueError: if the target is not finite, the width not above 0, the side unknown, or as `Shaped`.
    """

    differentiable = True

    def __init__(
        self,
        of: Reward,
        target: float,
        width: float,
        side: Literal["both", "below", "above"] = "both",
        name: str | None = None,
        floor: float = 0.0,
    ):
        if not (math.isfinite(target) and 0 < width < math.inf):
            raise ValueError(f"a Peak has a finite target and a width above 0, got {target} and {width}")
        if side not in ("both", "below", "above"):
            raise ValueError(f"the side of a Peak is 'both', 'below' or 'above', got {side!r}")
        self.target, self.width, self.side = float(target), float(width), side
        super().__init__(of, name, floor)

    @property
    def settings(self) -> dict[str, Any]:
        side = {} if self.side == "both" else {"side": self.side}
        return {"target": self.target, "width": self.width, **side}

    def shape(self, values: Tensor) -> Tensor:
        away = values - self.target
        if self.side != "both":
            away = away.clamp(min=0) if self.side == "below" else away.clamp(max=0)
        return torch.exp(-((away / self.width) ** 2) / 2)


class Ramp(Shaped):
    """0 up to `start`, 1 from `end` on, linear between; with `end` below `start`, the other way round.

    Args:
        of: the reward whose score it is.
        start: where the shape leaves 0.
        end: where it reaches 1.
        name, floor: see `Shaped`.

    Raises:
        ValueError: if both ends are equal or one is not finite, or as `Shaped`.
    """

    differentiable = True

    def __init__(self, of: Reward, start: float, end: float, name: str | None = None, floor: float = 0.0):
        if not (math.isfinite(start) and math.isfinite(end)) or start == end:
            raise ValueError(f"a Ramp rises from one finite number to another, got {start} and {end}")
        self.start, self.end = float(start), float(end)
        super().__init__(of, name, floor)

    @property
    def settings(self) -> dict[str, Any]:
        return {"start": self.start, "end": self.end}

    def shape(self, values: Tensor) -> Tensor:
        return ((values - self.start) / (self.end - self.start)).clamp(0, 1)


class Step(Shaped):
    """1 within a range, ends included, else 0.

    Args:
        of: the reward whose score it is.
        low, high: ends of the range; None leaves it open.
        name, floor: see `Shaped`.

    Raises:
        ValueError: if the range has no end or is empty, or as `Shaped`.
    """

    def __init__(
        self,
        of: Reward,
        low: float | None = None,
        high: float | None = None,
        name: str | None = None,
        floor: float = 0.0,
    ):
        ends = [-math.inf if low is None else float(low), math.inf if high is None else float(high)]
        if ends == [-math.inf, math.inf] or not ends[0] <= ends[1]:
            raise ValueError(f"a Step is within a range such as low=0, high=5, got low={low} and high={high}")
        self.low, self.high = ends
        super().__init__(of, name, floor)

    @property
    def settings(self) -> dict[str, Any]:
        return {"low": self.low, "high": self.high}

    def shape(self, values: Tensor) -> Tensor:
        return ((values >= self.low) & (values <= self.high)).to(values.dtype)
