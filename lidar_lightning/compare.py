"""Samplers side by side: methods x budgets x seeds on one loop, with one solver and one meter. `lidar compare`."""

import math
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from torch import Tensor
from tqdm.auto import tqdm

from datamodules.prompts import PromptDataModule
from lidar_lightning.backbones.base import Backbone
from lidar_lightning.report import write_report
from lidar_lightning.rewards.base import Reward, score
from lidar_lightning.samplers.base import Sampler, Task
from lidar_lightning.samplers.best_of_n import BestOfN
from lidar_lightning.samplers.meter import Meter
from lidar_lightning.summary import sample_metrics
from lidar_lightning.writers import Part, RunFolder, part_key

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


class Comparison:
    """Draws the same prompts with every sampler at every budget, and tabulates rewards and costs.

    All samplers share the model, its random solver with the same steps, and the target p(x0) exp(lambda r(x0)). A
    budget is network calls per sample; what a method spends on gradients, rewards and decoding is counted beside it.
    The plain model is a row of its own.

    Args:
        backbone: the model.
        reward: what the samplers raise.
        samplers: by the names of their rows.
        prompts: prompts, or the path of a file of them.
        out: folder of the comparison; finished prompts are on disk, so that it goes on where it was stopped.
        metrics: rewards that are scored and tabulated, but seen by no sampler.
        samples: per prompt.
        steps: of the solver.
        budgets: network calls per sample.
        seeds: each a whole repetition.
        temperature: lambda.
        batch_size: samples per network call.
        training_data: of molecules, SMILES file against which novelty is measured; None takes QM9.

    Raises:
        ValueError: if there is nothing to compare, or a budget is too small for a method.
    """

    def __init__(
        self,
        backbone: Backbone,
        reward: Reward,
        samplers: dict[str, Sampler],
        prompts: list[str] | str,
        out: str,
        metrics: list[Reward] | None = None,
        samples: int = 4,
        steps: int = 50,
        budgets: list[int] = [100, 200],  # noqa: B006
        seeds: list[int] = [0],  # noqa: B006
        temperature: float = 1.0,
        batch_size: int = 256,
        training_data: str | None = None,
    ):
        if not samplers or not budgets or not seeds or VANILLA in samplers:
            raise ValueError(
                f"a comparison needs samplers, none of them called {VANILLA!r}, budgets and seeds, got "
                f"{sorted(samplers)}, {budgets} and {seeds}"
            )
        self.backbone, self.reward, self.metrics, self.out = backbone, reward, metrics or [], Path(out)
        self.prompts = PromptDataModule(prompts).prompts
        self.samples, self.steps, self.temperature, self.batch_size = samples, steps, temperature, batch_size
        self.training_data, self.solver = training_data, backbone.random_solver(steps)
        self.samplers: dict[tuple[str, int], Sampler] = {(VANILLA, steps): BestOfN(1)}
        for budget in budgets:
            for name, sampler in samplers.items():
                self.samplers[name, budget] = sampler.within(budget, steps, samples)
        # Before they run: some keep what they have seen.
        self.described = {key: describe(sampler) for key, sampler in self.samplers.items()}
        self.cells = [Cell(method, budget, seed) for seed in seeds for method, budget in self.samplers]

    @property
    def rewards(self) -> list[Reward]:
        """All rewards that are scored, each once."""
        return list({r.name: r for r in [*self.reward.parts, *self.metrics]}.values())

    def folder(self, cell: Cell) -> RunFolder:
        """The run of a cell."""
        first = cell.seed == self.cells[0].seed
        settings = {
            "modality": self.backbone.modality,
            "backbone": self.backbone.name,
            "fingerprint": self.backbone.fingerprint(),
            "reward": self.reward.name,
            "scored": {r.name: r.version for r in self.rewards},
            "solver": self.solver.name,
            "steps": self.steps,
            "samples": self.samples,
            "temperature": self.temperature,
            "method": cell.method,
            "budget": cell.budget,
            "seed": cell.seed,
            "sampler": self.described[cell.method, cell.budget],
        }
        return RunFolder(self.out / ("" if first else f"seed-{cell.seed}") / cell.row, settings)

    def keys(self) -> list[str]:
        """Names of the parts of each cell, one per prompt."""
        return [part_key([prompt], list(range(self.samples))) for prompt in self.prompts]

    def pending(self) -> Iterator[tuple[Cell, RunFolder, str, str]]:
        """Cells and prompts, with the names of their parts, that are not on disk; several processes may share them."""
        for cell in self.cells:
            run = self.folder(cell)
            run.open()
            for prompt, key in zip(self.prompts, self.keys(), strict=True):
                if run.get(key) is None:
                    yield cell, run, prompt, key

    def work(self) -> None:
        """Draws everything that is left; what another process has begun is waited for."""
        with tqdm(total=len(self.cells) * len(self.prompts), unit="prompt") as bar:
            while left := list(self.pending()):
                bar.n = bar.total - len(left)
                for cell, run, prompt, key in left:
                    bar.set_description(f"{cell.row}, seed {cell.seed}")
                    try:
                        with FileLock(run.folder / "parts" / f"{key}.lock", timeout=0):
                            if run.get(key) is None:
                                run.put(self.draw(cell, prompt))
                                bar.update()
                    except Timeout:
                        time.sleep(0.05)

    def draw(self, cell: Cell, prompt: str) -> Part:
        """The samples of one prompt by one method, with what they cost."""
        meter = Meter(cell.budget * self.samples)
        task = Task(
            self.backbone, self.solver, self.reward, prompt, self.temperature, cell.seed, meter, self.batch_size
        )
        samples = self.samplers[cell.method, cell.budget](task, self.samples)
        with torch.no_grad():
            decoded = self.backbone.decode(samples)
            scores = {reward.name: score(reward, decoded, [prompt] * self.samples) for reward in self.rewards}
        spent = meter.row(self.samples)
        return Part(
            [prompt], list(range(self.samples)), samples, decoded, scores, meter.seconds,
            round(spent["network"]), spent=spent,
        )  # fmt: skip

    def finish(self) -> Path:
        """Writes tables, summary and report of all cells, and returns the path of the report."""
        methods: dict[str, dict[str, float]] = {}
        curves: dict[str, dict[str, list[list[float]]]] = {}
        seeds: dict[str, list[list[Part]]] = {}
        budgets = {cell.row: cell for cell in self.cells}
        for cell in self.cells:
            seeds.setdefault(cell.row, []).append(self.folder(cell).finish(self.keys()))
            if self.backbone.modality == "image" and cell.seed == self.cells[0].seed:
                self.folder(cell).write_pictures(seeds[cell.row][0])
        for row, runs in seeds.items():
            rows = [sample_metrics(parts, self.reward, self.backbone.modality, self.training_data) for parts in runs]
            costs = [part.spent for parts in runs for part in parts]
            methods[row] = {
                **average(rows),
                "nfe": mean([c["network"] for c in costs]),
                "backward": mean([c["backward"] for c in costs]),
                "reward_calls": mean([c["rewards"] for c in costs]),
                "seconds": mean([sum(part.seconds for part in parts) for parts in runs]),
                "peak_mib": max(c["peak_mib"] for c in costs),
                **({"pilot_calls": pilot} if (pilot := max(c.get("pilot", 0) for c in costs)) else {}),
            }
            for name in dict.fromkeys(["reward", *(r.name for r in self.rewards)]):
                low, middle, high = interval(self.values(runs, name))
                point = [methods[row]["nfe"], middle, low, high]
                curves.setdefault(name, {}).setdefault(budgets[row].method, []).append(point)
            methods[row]["reward_ci95"] = curves["reward"][budgets[row].method][-1][3] - methods[row]["reward"]
        curves.pop(self.reward.name, None)
        RunFolder(self.out, {}).write_summary(
            {
                "title": f"{len(self.samplers)} rows at equal network calls",
                "methods": methods,
                "curves": curves,
                "reward_name": self.reward.name if self.reward.parts == [self.reward] else self.reward.parts[0].name,
                "higher_is_better": self.reward.higher_is_better,
                "modality": self.backbone.modality,
                "settings": {"steps": self.steps, "temperature": self.temperature, "prompts": len(self.prompts)},
            }
        )
        return write_report(self.out)

    def values(self, runs: Sequence[Sequence[Part]], name: str) -> Tensor:
        """Independent values of a reward: means over prompts, or, of a single prompt, single samples."""
        scores = [
            part.scores[name] if name in part.scores else self.reward.from_scores(part.scores)
            for parts in runs
            for part in parts
        ]
        return torch.cat(scores) if len(self.prompts) == 1 else torch.stack([value.mean() for value in scores])


def interval(values: Tensor) -> tuple[float, float, float]:
    """Lower end, mean and upper end of the normal 95% confidence interval of the mean of values (n,)."""
    middle = values.mean().item()
    half = 1.96 * values.std().item() / math.sqrt(len(values)) if len(values) > 1 else 0.0
    return middle - half, middle, middle + half


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def average(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Mean of each number over rows of the same names."""
    return {name: mean([row[name] for row in rows]) for name in rows[0]}


def describe(value: Any) -> Any:
    """A sampler, and what it is made of, as JSON: class names and settings."""
    if isinstance(value, str | int | float | bool | None):
        return value
    if isinstance(value, list | tuple):
        return [describe(item) for item in value]
    if isinstance(value, dict):
        return {str(key): describe(item) for key, item in value.items()}
    public = {key: item for key, item in getattr(value, "__dict__", {}).items() if not key.startswith("_")}
    if isinstance(value, torch.nn.Module) or callable(value) and not isinstance(value, Sampler):
        return getattr(value, "name", getattr(value, "__name__", type(value).__name__))
    return {"class": type(value).__name__, **{key: describe(item) for key, item in public.items()}}


def compare(processes: int = 1, **settings: Any) -> str:
    """Draws and tabulates a comparison; returns the path of its report.

    Args:
        processes: that share the work; each but this one runs the same command again.
        settings: of `Comparison`.

    Raises:
        ValueError: as `Comparison`, or if `processes` is below 1.
    """
    if processes < 1:
        raise ValueError(f"processes must be at least 1, got {processes}")
    comparison = Comparison(**settings)
    command = [sys.executable, "-m", "lidar_lightning.cli", *sys.argv[1:], "--processes=1"]
    others = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for _ in range(processes - 1)]
    try:
        comparison.work()
        for other in others:
            other.wait()
    finally:
        for other in others:
            other.kill()
    return str(comparison.finish())
