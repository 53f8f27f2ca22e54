"""The settings of LiDAR: their names, defaults and checks, for Python, YAML and command line alike."""

from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from lidar_lightning.guidance.tilt import temperature_for_ess

DEFAULT_ESS = 0.1

RECOMMENDED: dict[str, dict[str, Any]] = {
    "molecule": {"steps": 8, "restart": 0.4, "rounds": 4, "candidates": 6, "ess": 0.9},
    "image": {"steps": 8, "restart": 0.6, "moves": 4, "scale": 0.0, "temperature": 5000.0},
}
"""For each modality the solver steps and settings that gained most at equal compute, see docs/results.md."""


@dataclass(frozen=True)
class LiDARSettings:
    """How a scored bank is used.

    Lambda is `temperature` if that is given, else what `ess` asks for, else the lambda of the task. Without any of
    these it is chosen so that the effective sample size of the rewarded bank is a tenth of the bank.

    Args:
        scale: strength s of the guidance; 1 samples the rewarded distribution as n grows, and more sharpens it.
        temperature: lambda >= 0, the inverse temperature of the reward.
        ess: instead of lambda, the effective sample size of softmax(lambda r) as a fraction of the bank, in (0, 1].
        start, stop: guidance runs while stop < t <= start, where t = 1 is pure noise.
        restart: the time t0 in [0, 1] from which the solver runs, from noised members of the bank; None, or 1, starts
            from pure noise.
        candidates: number of samples that are drawn for each one that is kept, at least 1; the best are kept.
        rounds: number of rounds in which the candidates are drawn, at least 1; those of each round join the samples
            from which the next round restarts.
        moves: number of Metropolis moves that every sample makes at the end, see `samplers.moves`.
        smoothing: for a bank of tokens, the chance in [0, 1) that a token of a member is any token: more keeps guidance
            alive after many tokens are settled, less is truer to the members. None is 0 for uniform noise, and 0.02 for
            masks.

    Raises:
        ValueError: if a setting is out of range, if temperature and ess are both given, or if there are rounds or moves
            but no time to restart from.
    """

    scale: float = 1.0
    temperature: float | None = None
    ess: float | None = None
    start: float = 1.0
    stop: float = 0.0
    restart: float | None = None
    candidates: float = 1
    rounds: int = 1
    moves: int = 0
    smoothing: float | None = None

    def __post_init__(self) -> None:
        if self.temperature is not None and self.ess is not None:
            raise ValueError(
                f"give either temperature (lambda) or ess, got temperature={self.temperature} and ess={self.ess}"
            )
        if self.temperature is not None and not 0 <= self.temperature < float("inf"):
            raise ValueError(f"temperature (lambda) must be finite and at least 0, got {self.temperature}")
        if self.ess is not None and not 0 < self.ess <= 1:
            raise ValueError(f"ess is a fraction of the bank in (0, 1], got {self.ess}")
        if not 0 <= self.scale < float("inf"):
            raise ValueError(f"scale must be finite and at least 0, got {self.scale}")
        if not 0 <= self.stop <= self.start <= 1:
            raise ValueError(
                f"guidance runs while stop < t <= start with 0 <= stop <= start <= 1, got {self.stop} and {self.start}"
            )
        if self.restart is not None and not 0 <= self.restart <= 1:
            raise ValueError(f"restart is a time in [0, 1], or None for pure noise, got {self.restart}")
        if not 1 <= self.candidates < float("inf"):
            raise ValueError(f"candidates must be at least 1 for each sample, got {self.candidates}")
        if self.smoothing is not None and not 0 <= self.smoothing < 1:
            raise ValueError(f"smoothing is a chance in [0, 1), got {self.smoothing}")
        if self.rounds < 1 or self.moves < 0:
            raise ValueError(f"rounds are at least 1 and moves at least 0, got {self.rounds} and {self.moves}")
        if self.restart is None and (self.rounds > 1 or self.moves):
            raise ValueError(
                f"{self.rounds} rounds and {self.moves} moves go through a noised sample: say from which time, with "
                "restart=t0"
            )

    def guides(self, t: float) -> bool:
        return self.stop < t <= self.start

    def of_task(self, temperature: float | None) -> "LiDARSettings":
        """These settings with the lambda of a task, unless they name one themselves."""
        return self if self.temperature is not None or self.ess is not None else replace(self, temperature=temperature)

    def lambda_of(self, rewards: Tensor) -> float:
        """Lambda for a bank with these rewards (n,)."""
        if self.temperature is not None:
            return self.temperature
        return temperature_for_ess(rewards, self.ess or DEFAULT_ESS)
