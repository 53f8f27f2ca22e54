"""Sampling of any backbone by any sampler with `trainer.predict`."""

import logging
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, cast

import lightning as L

from lidar_lightning.backbones import Backbone
from lidar_lightning.lookahead import BankStore, Lookahead, LookaheadBank
from lidar_lightning.modules.checkpoints import check_checkpoint
from lidar_lightning.modules.trained import prepare_for_checkpoint
from lidar_lightning.rewards import Reward, score, scored_rewards
from lidar_lightning.runs.finish import finish
from lidar_lightning.runs.folder import RunFolder
from lidar_lightning.runs.inputs import check_parts, check_prompts
from lidar_lightning.runs.parts import Part, join, mean_steps
from lidar_lightning.runs.settings import settings_of
from lidar_lightning.samplers.base import Sampler
from lidar_lightning.samplers.budget import equal_times
from lidar_lightning.samplers.task import Task
from lidar_lightning.solvers import RandomSolver
from lidar_lightning.utils.describe import describe
from lidar_lightning.utils.files import check_name
from lidar_lightning.utils.progress import working

logger = logging.getLogger(__name__)


class SamplingModule(L.LightningModule):
    """Draws samples for prompts by a sampler, decodes them, and scores them.

    With `out`, every finished batch is on disk, a killed run goes on where it stopped, and tables, summary and report
    are written at the end (see `runs`). Every sample has its own random stream, so that neither batches nor the number
    of devices change what is drawn. Lookahead banks are found in `out`/banks, or drawn, scored and stored there.

    Args:
        backbone: the model; `--ckpt_path` may give it weights or adapters trained by `DPOModule`.
        reward: what to raise (lowered if its `higher_is_better` is False).
        sampler: the method, such as `samplers.LiDAR`, `samplers.BestOfN` or your own.
        steps: network calls of the full solver, per sample.
        temperature: lambda >= 0 of the target p(x0) exp(lambda r(x0)); None for samplers that need none.
        metrics: further rewards that are scored and stored, but do not guide.
        seed: fixes all random numbers of the run.
        method: the name of this run in its tables.
        out: the folder of the run; None only returns predictions.
        training_data: a SMILES file against which novelty is measured; None takes QM9.

    Raises:
        ValueError: if a setting is out of range or a checkpoint is of another architecture; while predicting, if a
            sampler that draws all samples of a prompt together is given batches with a part of them.
    """

    def __init__(
        self,
        backbone: Backbone,
        reward: Reward,
        sampler: Sampler,
        steps: int = 32,
        temperature: float | None = None,
        metrics: list[Reward] | None = None,
        seed: int = 0,
        method: str = "samples",
        out: str | None = None,
        training_data: str | None = None,
    ):
        super().__init__()
        check_parts(backbone, reward, metrics, training_data)
        if not isinstance(sampler, Sampler):
            raise ValueError(f"sampler must be a Sampler, such as samplers.BestOfN(), got {sampler!r}")
        sampler.check_reward(reward)
        sampler.check_backbone(backbone)
        check_name("method", method)
        if sampler.lookahead:
            sampler.lookahead.check_size(backbone)
        self.backbone, self.reward, self.sampler, self.metrics = backbone, reward, sampler, metrics or []
        self.solver = backbone.random_solver(steps) if sampler.random else backbone.solver(steps)
        self.steps, self.temperature, self.seed, self.method = steps, temperature, seed, method
        self.training_data, self.out = training_data, out
        self.base, self.described = backbone.origin(), describe(sampler)
        self.banks: dict[tuple[str, int, int], LookaheadBank] = {}
        self.run: RunFolder | None = None
        self.store: BankStore | None = None
        self.wanted = self.finished = 0

    @property
    def rewards(self) -> list[Reward]:
        """All rewards that are scored, each once: the parts of the guiding one, then the metrics."""
        return scored_rewards(self.reward, self.metrics)

    def settings(self) -> dict[str, Any]:
        """Everything that determines the samples of a run."""
        return settings_of(self.backbone, self.reward, self.rewards, self.solver, self.temperature) | {
            "lookahead": self.lookahead.origin(self.backbone) if self.lookahead else None,
            "steps": self.steps,
            "seed": self.seed,
            "method": self.method,
            "sampler": self.described,
        }

    @property
    def lookahead(self) -> Lookahead | None:
        """How the sampler draws its banks; None if it draws none."""
        return self.sampler.lookahead

    def setup(self, stage: str) -> None:
        """Shows our progress line, which counts samples, in place of Lightning's bar, which counts batches."""
        if stage == "predict" and (bar := self.trainer.progress_bar_callback):
            bar.disable()

    def teardown(self, stage: str) -> None:
        if stage == "predict" and (bar := self.trainer.progress_bar_callback):
            bar.enable()

    def on_predict_start(self) -> None:
        batches = cast(Any, self.trainer.predict_dataloaders).dataset
        prompts: dict[str, set[int]] = {}
        for item in batches:
            for prompt in item["prompts"]:
                prompts.setdefault(prompt, set()).update(item["indices"])
        check_prompts(self.rewards, list(prompts))
        if self.sampler.whole and (most := max(map(len, prompts.values()))) > max(len(i["indices"]) for i in batches):
            raise ValueError(
                f"{type(self.sampler).__name__} draws the {most} samples of a prompt together: give the data a "
                f"batch_size of {most} or more, or draw each by itself (pooled=False, or settings without rounds)"
            )
        self.run = RunFolder(self.out, self.settings()) if self.out else None
        if self.run:
            self.run.open()
        self.store = BankStore(self.run.folder / "banks") if self.run else None
        self.banks.clear()
        self.wanted, self.finished = sum(map(len, prompts.values())) // self.trainer.world_size, 0

    def bank(self, prompt: str) -> LookaheadBank:
        """The scored bank of a prompt, on the device of the backbone; it needs no trainer.

        Raises:
            ValueError: if the sampler uses no bank.
        """
        if not self.lookahead:
            raise ValueError(f"{type(self.sampler).__name__} has no lookahead, so that there is no bank")
        return self._bank(self.lookahead, prompt)

    def _bank(self, lookahead: Lookahead, prompt: str) -> LookaheadBank:
        key = prompt, lookahead.steps, lookahead.n
        if key not in self.banks:
            self.banks[key] = lookahead.bank(self.backbone, prompt, self.seed, self.rewards, self.store)
        return self.banks[key]

    def predict_step(self, batch: dict[str, list], batch_idx: int) -> Part:
        """Reads or draws the samples of a batch {"prompts": P strings, "indices": B sample indices of each}."""
        prompts, indices = batch["prompts"], batch["indices"]
        found = {prompt: self.run and self.run.get(prompt, indices) for prompt in prompts}
        missing: dict[tuple[int, ...], list[str]] = {}
        for prompt, part in found.items():
            left = tuple(index for index in indices if not part or index not in part.indices)
            left = tuple(indices) if left and self.sampler.whole else left
            missing.setdefault(left, []).append(prompt)
        parts = [part for part in found.values() if part]
        parts += [self.draw(some, left) for left, some in missing.items() if left]
        whole = join(parts)
        self.finished += len(whole.indices)
        places = {row: place for place, row in enumerate(whole.rows())}
        return whole.take([places[prompt, index] for prompt in prompts for index in indices])

    def draw(self, prompts: Sequence[str], indices: Sequence[int]) -> Part:
        """Draws, decodes and scores the samples of these indices for each prompt; in a run they are stored as well."""
        together = self.sampler.several and not self.reward.relative
        runs = [list(prompts)] if together else [[prompt] for prompt in prompts]
        parts = []
        with self._line(prompts, len(indices)):
            for run in runs:
                for prompt in run if self.lookahead else ():
                    self.bank(prompt)
                parts.append(self._draw(run, indices))
        return join(parts)

    def _line(self, prompts: Sequence[str], each: int) -> AbstractContextManager[None]:
        """The progress line of a terminal while `each` samples per prompt are drawn; none without a progress bar."""
        cost = getattr(self.sampler, "cost", None)
        own = lambda steps: self.solver.times if steps == self.steps else equal_times(steps)  # noqa: E731
        calls = cost(self.sampler.steps or self.steps, each, own) / each if cost else 0
        what = repr(prompts[0][:40]) if len(prompts) == 1 else f"{len(prompts)} prompts"
        hidden = self._trainer is not None and self._trainer.progress_bar_callback is None
        return working(f"{self.method}: {what}", calls * self.wanted or None, calls * self.finished, hidden=hidden)

    def _draw(self, prompts: Sequence[str], indices: Sequence[int]) -> Part:
        begin, count = time.perf_counter(), len(prompts) * len(indices)
        task = Task(
            self.backbone, cast(RandomSolver, self.solver), self.reward, prompts, self.temperature, self.seed,
            batch_size=count, indices=indices, banks=self._bank,
        )  # fmt: skip
        samples = self.sampler(task, count)
        each = [prompt for prompt in prompts for _ in indices]
        every = [index for _ in prompts for index in indices]
        decoded = self.backbone.decode(samples)
        scores = {reward.name: score(reward, decoded, each).cpu() for reward in self.rewards}
        shared = task.meter.lookahead if self.lookahead else 0
        seconds, calls = time.perf_counter() - begin, (task.meter.network - shared) / count
        part = Part(each, every, samples.cpu(), decoded, scores, seconds, calls, task.diagnostics)
        return self.run.put(part) if self.run else part

    def drawn(self) -> dict[str, list[int]]:
        """From each prompt to the indices of its samples, over all batches that any device of this run has finished."""
        batches = cast(Any, self.trainer.predict_dataloaders).dataset
        count = int(sum(self.trainer.num_predict_batches)) * self.trainer.world_size
        items = [batches[place] for place in range(min(count, len(batches)))]
        wanted: dict[str, list[int]] = {}
        for item in items:
            for prompt in item["prompts"]:
                wanted.setdefault(prompt, []).extend(item["indices"])
        if len(items) < len(batches):
            total = sum(map(len, wanted.values()))
            logger.warning(
                "limit_predict_batches: only %d of %d batches were drawn; tables and report show only their %d samples",
                len(items), len(batches), total,
            )  # fmt: skip
        return wanted

    def on_predict_end(self) -> None:
        if not self.run:
            return
        self.trainer.strategy.barrier()
        if not self.trainer.is_global_zero:
            return
        wanted = self.drawn()
        parts, lookahead = self.run.parts(wanted), self.lookahead
        banks = [self.bank(prompt) for prompt in wanted] if lookahead else []
        source = lookahead.source(self.backbone) if lookahead else self.backbone
        evaluations = self.backbone.evaluations, source.evaluations
        result = finish(
            self.run, parts, self.reward, banks, self.backbone, evaluations, self.settings(), self.training_data
        )
        for logger in self.loggers:
            logger.log_metrics({f"predict/{name}": value for name, value in result.items()})
            for row in mean_steps(parts):
                logger.log_metrics({f"guidance/{k}": v for k, v in row.items() if k != "step"}, step=int(row["step"]))

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        check_checkpoint(self, checkpoint)
        prepare_for_checkpoint(self.backbone, checkpoint, self.base)
        self.strict_loading = not checkpoint.get("adapters", {}).get("lora")
