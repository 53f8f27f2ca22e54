"""The numbers of a comparison: a row per method and budget, and curves of every reward over network calls."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lidar_lightning.rewards.base import Reward
from lidar_lightning.summary import sample_metrics, with_reward
from lidar_lightning.writers import Part

VANILLA = "vanilla"


@dataclass(frozen=True)
class Cell:
    """One method at one budget of network calls per sample, with one seed: a run folder of its own."""

    method: str
    budget: int
    seed: int

    @property
    def row(self) -> str:
        """Name of its row in the table: cells that differ by seed share it."""
        return self.method if self.method == VANILLA else f"{self.method} @ {self.budget}"


def rewarded(runs: Mapping[Cell, Sequence[Part]], reward: Reward) -> dict[Cell, list[Part]]:
    """The runs, of one part per prompt each, with the guiding reward among the scores.

    A combination of rewards is relative to the samples that it is computed on: here those of one prompt in all cells,
    so that it compares methods.
    """
    prompts = [with_reward(parts, reward) for parts in zip(*runs.values(), strict=True)]
    return dict(zip(runs, map(list, zip(*prompts, strict=True)), strict=True))


def tabulate(
    runs: Mapping[Cell, Sequence[Part]],
    reward: Reward,
    others: Sequence[Reward],
    modality: str,
    training_data: str | None = None,
) -> dict[str, Any]:
    """What `summary.json` says of the runs, averaged over seeds.

    Args:
        runs: one part per prompt, with the guiding reward among the scores.
        reward: the guiding one.
        others: whose curves are drawn too.
        modality: "molecule" or "image", for its metrics.
        training_data: SMILES file for novelty; None takes QM9.

    Returns:
        "methods": row to its numbers, with the half-width "reward_ci95" of the reward's 95% confidence interval;
        "curves": "reward", for the guiding one, or the name of another, to method to points (network calls, mean,
        lower and upper end of its interval).
    """
    rows: dict[str, list[Cell]] = {}
    for cell in runs:
        rows.setdefault(cell.row, []).append(cell)
    names = {"reward": reward.name, **{other.name: other.name for other in others if other.name != reward.name}}
    methods: dict[str, dict[str, float]] = {}
    curves: dict[str, dict[str, list[list[float]]]] = {}
    for row, cells in rows.items():
        parts = [part for cell in cells for part in runs[cell]]
        metrics = [sample_metrics(runs[cell], reward, modality, training_data) for cell in cells]
        costs = [part.spent for part in parts]
        nfe = mean([cost["network"] for cost in costs])
        lines = {
            shown: interval(independent([part.scores[name] for part in parts], len(runs[cells[0]])))
            for shown, name in names.items()
        }
        for shown, (low, middle, high) in lines.items():
            curves.setdefault(shown, {}).setdefault(cells[0].method, []).append([nfe, middle, low, high])
        methods[row] = {
            **{name: mean([numbers[name] for numbers in metrics]) for name in metrics[0]},
            "nfe": nfe,
            "backward": mean([cost["backward"] for cost in costs]),
            "reward_calls": mean([cost["rewards"] for cost in costs]),
            "seconds": mean([sum(part.seconds for part in runs[cell]) for cell in cells]),
            "peak_mib": max(cost["peak_mib"] for cost in costs),
            **({"pilot_calls": pilot} if (pilot := max(cost.get("pilot", 0) for cost in costs)) else {}),
            "reward_ci95": lines["reward"][2] - lines["reward"][1],
        }
    return {"methods": methods, "curves": curves}


def independent(scores: Sequence[Tensor], prompts: int) -> Tensor:
    """Independent values of a reward: means over prompts, or, of a single prompt, single samples."""
    return torch.cat(list(scores)) if prompts == 1 else torch.stack([value.mean() for value in scores])


def interval(values: Tensor) -> tuple[float, float, float]:
    """Lower end, mean and upper end of the normal 95% confidence interval of the mean of values (n,)."""
    middle = values.mean().item()
    half = 1.96 * values.std().item() / math.sqrt(len(values)) if len(values) > 1 else 0.0
    return middle - half, middle, middle + half


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
