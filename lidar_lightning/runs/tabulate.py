"""The numbers of a comparison: a row for each method and budget, and curves of every reward over network calls."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from lidar_lightning.rewards.base import Reward
from lidar_lightning.runs.intervals import Interval, interval
from lidar_lightning.runs.parts import Part
from lidar_lightning.runs.summary import sample_metrics, with_reward

VANILLA = "vanilla"


@dataclass(frozen=True)
class Cell:
    """One method at one budget of network calls or seconds per sample, with one seed: a run folder of its own."""

    method: str
    budget: float
    seed: int

    @property
    def row(self) -> str:
        """The name of its row in the table; cells that differ only by seed share it."""
        return self.method if self.method == VANILLA else f"{self.method} @ {self.budget:g}"


def rewarded(runs: Mapping[Cell, Sequence[Part]], reward: Reward) -> dict[Cell, list[Part]]:
    """The runs, each with one part per prompt, with the guiding reward among their scores.

    A combination of rewards is relative to the samples on which it is computed. Here these are the samples of one
    prompt in all cells, so that it compares methods.
    """
    prompts = [with_reward(parts, reward) for parts in zip(*runs.values(), strict=True)]
    return dict(zip(runs, map(list, zip(*prompts, strict=True)), strict=True))


def tabulate(
    runs: Mapping[Cell, Sequence[Part]],
    reward: Reward,
    others: Sequence[Reward],
    modality: str,
    training_data: str | None = None,
    keeps: Mapping[str, str] | None = None,
    beside: Mapping[Cell, Mapping[str, float | None]] | None = None,
) -> dict[str, Any]:
    """The contents of `summary.json` for the runs, averaged over seeds.

    Args:
        runs: the runs, each with one part per prompt, with the guiding reward among the scores.
        reward: the guiding reward.
        others: further rewards for which curves are drawn.
        modality: "molecule" or "image", which decides on the metrics.
        training_data: the SMILES file against which novelty is measured; None takes QM9.
        keeps: what each row aims at, "draw" or "best", which becomes part of its label.
        beside: more numbers of each run.

    Returns:
        "methods", from each row to its numbers, among them "reward_ci95", half of the width of the reward's 95%
        confidence interval (see `intervals`); and "curves", from each reward ("reward" for the guiding one) to methods
        to points (network calls, mean, lower and upper end of the interval). What is not known, as the interval of a
        single cluster, is None.
    """
    rows: dict[str, list[Cell]] = {}
    for cell in runs:
        rows.setdefault(cell.row, []).append(cell)
    names = {"reward": reward.name, **{other.name: other.name for other in others if other.name != reward.name}}
    methods: dict[str, dict[str, Any]] = {}
    curves: dict[str, dict[str, list[list[float | None]]]] = {}
    for row, cells in rows.items():
        parts = [part for cell in cells for part in runs[cell]]
        metrics: list[dict[str, float | None]] = [
            {**sample_metrics(runs[cell], reward, modality, training_data), **(beside or {}).get(cell, {})}
            for cell in cells
        ]
        named = dict.fromkeys(name for numbers in metrics for name in numbers)
        costs = [part.spent for part in parts]
        calls = mean([cost["network"] for cost in costs])
        prompts, seeds = zip(
            *((prompt, cell.seed) for cell in cells for part in runs[cell] for prompt, _ in part.rows()), strict=True
        )
        lines = {
            shown: interval(torch.cat([part.scores[name] for part in parts]), prompts, seeds)
            for shown, name in names.items()
        }
        for shown, found in lines.items():
            curves.setdefault(shown, {}).setdefault(cells[0].method, []).append([calls, *known(found)])
        half = lines["reward"].half
        methods[row] = {
            **({"keep": keeps[row]} if keeps else {}),
            **{name: mean_of_known([numbers.get(name) for numbers in metrics]) for name in named},
            "calls": calls,
            "nfe": mean([cost["nfe"] for cost in costs]),
            "backward": mean([cost["backward"] for cost in costs]),
            "reward_calls": mean([cost["rewards"] for cost in costs]),
            "seconds": mean([sum(part.seconds for part in runs[cell]) for cell in cells]),
            "peak_mib": max(cost["peak_mib"] for cost in costs),
            **({"pilot_calls": pilot} if (pilot := max(cost.get("pilot", 0) for cost in costs)) else {}),
            "reward_ci95": None if math.isnan(half) else half,
        }
    return {"methods": methods, "curves": curves}


def known(found: Interval) -> list[float | None]:
    """Mean, lower and upper end of an interval for JSON, in which ends that are not known are None."""
    return [found.mean, *(None if math.isnan(end) else end for end in (found.low, found.high))]


def mean_of_known(values: Sequence[float | None]) -> float | None:
    """The mean of the values that are known; None if none is."""
    found = [value for value in values if value is not None]
    return mean(found) if found else None


def mean(values: Sequence[float]) -> float:
    """The arithmetic mean of values."""
    return sum(values) / len(values)
