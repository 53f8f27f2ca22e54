"""Samplers side by side, at several budgets and with several seeds, on one loop with one solver: `lidar compare`."""

from collections.abc import Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from lidar_lightning.backbones.base import Backbone
from lidar_lightning.rewards.base import Reward, score, scored_rewards
from lidar_lightning.runs.budgets import afforded, measured_rates
from lidar_lightning.runs.finish import objectives
from lidar_lightning.runs.folder import RunFolder
from lidar_lightning.runs.inputs import check_counts, check_methods, check_parts, check_prompts, check_references
from lidar_lightning.runs.parts import Part
from lidar_lightning.runs.quality import against_plain
from lidar_lightning.runs.report import write_report
from lidar_lightning.runs.settings import settings_of
from lidar_lightning.runs.shared_work import SharedWork
from lidar_lightning.runs.tabulate import VANILLA, Cell, rewarded, tabulate
from lidar_lightning.samplers.base import Sampler
from lidar_lightning.samplers.best_of_n import BestOfN
from lidar_lightning.samplers.meter import Meter
from lidar_lightning.samplers.task import Task
from lidar_lightning.utils.describe import describe
from lidar_lightning.utils.files import expand, sweep
from lidar_lightning.utils.prompts import prompts_of
from lidar_lightning.utils.seeding import stream_seed
from lidar_lightning.utils.sizes import check_memory


class Comparison:
    """Draws the same prompts with every sampler at every budget, and tabulates rewards and costs.

    All samplers share the model, its random solver with the same steps, and the target p(x0) exp(lambda r(x0)). A
    budget is a number of network calls per sample; what a method spends on gradients, rewards and decoding is counted
    in columns of its own. The plain model is a row of its own. Rows are labelled with what they `keep`: "draw" for
    methods that draw from the target, "best" for those that seek the highest reward. Intervals need at least two
    prompts or seeds (see `intervals`).

    A combination of rewards is measured on the scale of some plain samples of each prompt and seed, for all methods
    alike; the network calls of these samples count for no method.

    Args:
        backbone: the model that all samplers draw from.
        reward: the reward that the samplers raise.
        samplers: the samplers, by the names of their rows.
        prompts: the prompts, or the path of a file of them.
        out: the folder of the comparison. Finished prompts are on disk, so that it goes on where it was stopped.
        metrics: further rewards that are scored and tabulated, but seen by no sampler.
        samples: number of samples per prompt.
        steps: network calls of the solver for one plain sample.
        budgets: network calls per sample, or seconds if `budget_unit` says so.
        seeds: the seeds, each of which repeats the whole comparison.
        temperature: lambda.
        batch_size: samples per network call.
        training_data: for molecules, the SMILES file against which novelty is measured; None takes QM9.
        references: number of plain samples of each prompt for columns that no reward measures (see `runs.quality`): the
            distance to the target and, for UDLM, how much less likely the model finds the molecules than plain ones of
            the same reward. Each reference costs `steps` network calls; the second column costs 8 more for each sample
            of the table and of the references. Neither counts for a budget; both are kept in `out`. 0 draws none.

    Raises:
        ValueError: if there is nothing to compare, if a budget is too small for a method or cannot be spent by it, if
            the reward ranks samples among each other, or if the references are too few or the reward is relative to
            them.
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
        budgets: list[float] = [100, 200],  # noqa: B006
        budget_unit: Literal["calls", "seconds"] = "calls",
        seeds: list[int] = [0],  # noqa: B006
        temperature: float = 1.0,
        batch_size: int = 256,
        training_data: str | None = None,
        references: int = 0,
    ):
        check_methods(samplers, reward, budget_unit, budgets=budgets, seeds=seeds)
        check_parts(backbone, reward, metrics, training_data)
        check_counts(samples=samples, steps=steps, batch_size=batch_size)
        check_references(references, reward)
        if not 0 <= temperature < float("inf"):
            raise ValueError(f"temperature (lambda) must be finite and at least 0, got {temperature}")
        if reward.relative:
            reward.frozen({part.name: torch.arange(2.0) for part in reward.parts})
        self.backbone, self.reward, self.metrics, self.out = backbone, reward, metrics or [], expand(out)
        self.prompts = prompts_of(prompts)
        check_prompts(self.rewards, self.prompts)
        self.samples, self.steps, self.temperature, self.batch_size = samples, steps, temperature, batch_size
        self.training_data, self.solver, self.budget_unit = training_data, backbone.random_solver(steps), budget_unit
        count = len(self.prompts)
        check_memory(f"samples={samples} of {count} prompts", samples * count, backbone.sample_bytes())
        self.references: dict[tuple[str, int], Mapping[str, Tensor] | None] = {}
        rates = self.rates(samplers) if budget_unit == "seconds" else None
        sized = afforded(samplers, budgets, self.fit, rates)
        self.samplers = {(VANILLA, steps): BestOfN(1)} | {row: sampler for row, (sampler, _) in sized.items()}
        self.calls = {(VANILLA, steps): steps} | {row: calls for row, (_, calls) in sized.items()}
        for sampler in self.samplers.values():
            if sampler.lookahead:
                sampler.lookahead.check_size(backbone)
        # Before they run: some keep what they have seen.
        self.described = {key: describe(sampler) for key, sampler in self.samplers.items()}
        self.cells = [Cell(method, budget, seed) for seed in seeds for method, budget in self.samplers]
        self.plain = [Cell(VANILLA, steps, stream_seed(0, "plain", k)) for k in range(-(-references // samples))]
        self.indices = list(range(samples))

    def times(self, steps: int) -> Tensor:
        """The times of the model's own random solver with so many steps."""
        return self.backbone.random_solver(steps).times

    def fit(self, sampler: Sampler, calls: int) -> Sampler:
        """The method with so many network calls per sample."""
        return sampler.within(calls, self.steps, self.samples, self.times)

    def rates(self, samplers: Mapping[str, Sampler]) -> dict[str, float]:
        """Seconds that a network call on one sample takes with each method, measured on the first prompt."""
        pilot = partial(self.task, self.prompts[0], stream_seed(0, "pilot", 0))
        return measured_rates(self.out / "seconds.json", samplers, self.fit, pilot, self.steps, self.samples)

    @property
    def rewards(self) -> list[Reward]:
        """All rewards that are scored, each once."""
        return scored_rewards(self.reward, self.metrics)

    @cached_property
    def runs(self) -> dict[Cell, RunFolder]:
        """The run of each cell of the table, and that of the reference samples."""
        shared = settings_of(self.backbone, self.reward, self.rewards, self.solver, self.temperature)
        shared |= {"steps": self.steps, "samples": self.samples}
        runs = {}
        for cell in self.cells:
            seed = "" if cell.seed == self.cells[0].seed else f"seed-{cell.seed}"
            sampler = self.described[cell.method, cell.budget]
            own = {"method": cell.method, "budget": cell.budget, "seed": cell.seed, "sampler": sampler}
            runs[cell] = RunFolder(self.out / seed / cell.row, {**shared, **own})
        sampler = self.described[VANILLA, self.steps]
        for number, cell in enumerate(self.plain):
            own = {"method": VANILLA, "budget": self.steps, "seed": cell.seed, "sampler": sampler}
            runs[cell] = RunFolder(self.out / "plain" / str(number), {**shared, **own})
        return runs

    @cached_property
    def shared(self) -> SharedWork[Cell]:
        """The work that is to be done, which several processes may share."""
        return SharedWork(self.runs, self.prompts, self.indices)

    def open(self) -> None:
        """Begins or continues the runs. Raises ValueError if the folder of one holds another."""
        sweep(self.out)
        for run in self.runs.values():
            run.open()

    def work(self) -> None:
        """Draws everything that is left; what another process has begun is waited for."""
        self.open()
        plain = set(self.plain)
        self.shared.work(self.draw, lambda cell: "plain samples" if cell in plain else f"{cell.row}, seed {cell.seed}")

    def reference(self, prompt: str, seed: int) -> Mapping[str, Tensor] | None:
        """Scores of plain samples, which set the scale of a reward that is otherwise relative to what it scores."""
        key = prompt, seed
        if self.reward.relative and key not in self.references:
            task = Task(self.backbone, self.solver, self.reward, prompt, seed=seed, batch_size=self.batch_size)
            task.freeze()
            self.references[key] = task.reference
        return self.references.get(key)

    def task(self, prompt: str, seed: int, calls: int | None = None) -> Task:
        """The task that every method is given, with its network calls per sample."""
        return Task(
            self.backbone, self.solver, self.reward, prompt, self.temperature, seed,
            Meter(None if calls is None else calls * self.samples), self.batch_size, self.reference(prompt, seed),
        )  # fmt: skip

    def draw(self, cell: Cell, prompt: str) -> Part:
        """The samples of one prompt by one method, with what they cost."""
        task = self.task(prompt, cell.seed, self.calls[cell.method, cell.budget])
        samples, meter = self.samplers[cell.method, cell.budget](task, self.samples), task.meter
        with torch.no_grad():
            decoded = self.backbone.decode(samples)
            scores = {reward.name: score(reward, decoded, [prompt] * self.samples) for reward in self.rewards}
        spent = meter.row(self.samples)
        calls = round(spent["network"])
        return Part([prompt] * self.samples, self.indices, samples, decoded, scores, meter.seconds, calls, spent=spent)

    def finish(self) -> Path:
        """Writes tables, summary and report of all cells, and returns the path of the report."""
        wanted = dict.fromkeys(self.prompts, self.indices)
        found = rewarded({cell: self.runs[cell].parts(wanted) for cell in self.cells}, self.reward)
        plain = {cell: self.runs[cell].parts(wanted) for cell in self.plain}
        beside, facts = against_plain(found, plain, self.runs, self.backbone, self.reward, self.temperature)
        for cell, parts in found.items():
            self.runs[cell].write(parts)
        keeps = {cell.row: self.samplers[cell.method, cell.budget].keep for cell in self.cells} | {VANILLA: "plain"}
        RunFolder(self.out, {}).write_summary(
            {
                "title": f"{len(self.samplers)} rows at equal {self.budget_unit.replace('calls', 'network calls')}",
                **tabulate(found, self.reward, self.rewards, self.backbone.modality, self.training_data, keeps, beside),
                "reward_name": self.reward.name,
                "higher_is_better": self.reward.higher_is_better,
                "objectives": objectives(self.reward),
                "lower_is_better": [reward.name for reward in self.rewards if not reward.higher_is_better],
                "modality": self.backbone.modality,
                "settings": {name: getattr(self, name) for name in ("steps", "budget_unit", "temperature")}
                | {"prompts": len(self.prompts)}
                | facts,
            }
        )
        return write_report(self.out)


def compare(processes: int = 1, **settings: Any) -> str:
    """Draws and tabulates a comparison; returns the path of its report.

    Args:
        processes: how many processes share the work of a command line (see `compare_command`); from Python one.
        settings: the arguments of `Comparison`.

    Raises:
        ValueError: as `Comparison`, or if `processes` is not 1.
    """
    if processes != 1:
        raise ValueError(
            f"objects of Python stay in one process, got processes={processes}: write the settings to a FILE and run "
            f"`lidar compare --config FILE --processes {processes}`, or compare_command with these arguments"
        )
    comparison = Comparison(**settings)
    comparison.work()
    return str(comparison.finish())
