"""LiDAR sampling of any backbone with `trainer.predict`."""

import logging
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, cast

import lightning as L

from lidar_lightning.adapters import prepare_for_checkpoint
from lidar_lightning.backbones import Backbone
from lidar_lightning.bank import BankStore, LookaheadBank
from lidar_lightning.checkpoints import check_checkpoint
from lidar_lightning.files import check_name
from lidar_lightning.guidance.lidar import LiDARGuidance
from lidar_lightning.guidance.settings import LiDARSettings
from lidar_lightning.inputs import check_parts, check_prompts
from lidar_lightning.lookahead import Lookahead
from lidar_lightning.parts import Part, join, mean_steps
from lidar_lightning.report import write_report
from lidar_lightning.rewards import Reward, score, scored_rewards
from lidar_lightning.sampling import sample
from lidar_lightning.seeding import Generators, stream_seed
from lidar_lightning.summary import summarise, with_reward
from lidar_lightning.writers import RunFolder

logger = logging.getLogger(__name__)
SHOWN_LOOKAHEADS = 4


class LiDARModule(L.LightningModule):
    """Draws samples whose reward is raised by the closed-form guidance of lookahead banks.

    For each prompt: a bank of few-step samples is drawn, or found in `out`/banks, and scored; then the full solver
    runs with `LiDARGuidance`, and its samples are decoded and scored. With `out`, every finished batch is on disk, a
    killed run goes on where it stopped, and the end writes tables, summary and report (see `writers`). Every sample
    has its own random stream, so that neither batches nor the number of devices change what is drawn.

    Args:
        backbone: the model to guide; `--ckpt_path` may give it weights or adapters trained by `DPOModule`.
        reward: what to raise (lowered if its `higher_is_better` is False).
        lookahead: how banks are drawn; None samples the plain model.
        steps: network calls of the full solver, per sample.
        scale: strength s of the guidance.
        temperature: lambda >= 0 on the reward.
        ess: instead of lambda, the target effective sample size of the rewarded bank as a fraction of it, in (0, 1];
            0.1 when neither is given.
        start, stop: guide while stop < t <= start, with t = 1 pure noise.
        metrics: rewards that are scored and stored, but do not guide.
        seed: of all sampling.
        method: name of this run in its tables.
        out: folder of the run; None returns predictions only.
        training_data: SMILES file against which novelty is measured; None takes QM9.

    Raises:
        ValueError: if a setting is out of range or no such object, `training_data` cannot be read, a checkpoint is of
            another architecture, or a reward cannot score one of the prompts.
    """

    def __init__(
        self,
        backbone: Backbone,
        reward: Reward,
        lookahead: Lookahead | None = Lookahead(),  # noqa: B008
        steps: int = 32,
        scale: float = 1.0,
        temperature: float | None = None,
        ess: float | None = None,
        start: float = 1.0,
        stop: float = 0.0,
        metrics: list[Reward] | None = None,
        seed: int = 0,
        method: str = "lidar",
        out: str | None = None,
        training_data: str | None = None,
    ):
        super().__init__()
        check_parts(backbone, [reward, *(metrics or [])], training_data)
        if lookahead is not None and not isinstance(lookahead, Lookahead):
            raise ValueError(f"lookahead must be a Lookahead, or None for the plain model, got {lookahead!r}")
        scored_rewards(reward, metrics or [])
        check_name("method", method)
        if lookahead:
            lookahead.check_size(backbone)
        self.backbone, self.reward, self.lookahead, self.metrics = backbone, reward, lookahead, metrics or []
        self.guidance_settings = LiDARSettings(scale, temperature, ess, start, stop)
        self.solver, self.steps, self.seed, self.method = backbone.solver(steps), steps, seed, method
        self.training_data, self.out = training_data, out
        self.base = backbone.origin()
        self.banks: dict[str, LookaheadBank] = {}
        self._guidance: tuple[tuple[str, ...], LiDARGuidance] | None = None

    @property
    def rewards(self) -> list[Reward]:
        """All rewards that are scored, each once: the parts of the guiding one, then the metrics."""
        return scored_rewards(self.reward, self.metrics)

    def settings(self) -> dict[str, Any]:
        """Everything that determines the samples of a run."""
        bank = asdict(self.lookahead.provenance(self.backbone, "", self.seed)) if self.lookahead else {}
        lookahead = {k: v for k, v in bank.items() if k not in ("prompt", "seed")} or None
        if lookahead and self.lookahead and self.lookahead.decoder:
            lookahead["decoder"] = self.lookahead.decoder
        return {
            "modality": self.backbone.modality,
            "backbone": self.backbone.name,
            "fingerprint": self.backbone.fingerprint(),
            "reward": self.reward.described(),
            "scored": {r.name: r.identity for r in self.rewards},
            "lookahead": lookahead,
            "solver": self.solver.name,
            "steps": self.steps,
            "seed": self.seed,
            "method": self.method,
            **(asdict(self.guidance_settings) if self.lookahead else {}),
        }

    def on_predict_start(self) -> None:
        batches = cast(Any, self.trainer.predict_dataloaders).dataset
        prompts = dict.fromkeys(prompt for item in batches for prompt in item["prompts"])
        check_prompts(self.rewards, list(prompts))
        self.run = RunFolder(self.out, self.settings()) if self.out else None
        if self.run:
            self.run.open()
        self.store = BankStore(self.run.folder / "banks") if self.run else None
        self.banks.clear()
        self._guidance = None

    def bank(self, prompt: str) -> LookaheadBank:
        """The scored bank of a prompt, on the device of the backbone."""
        if self.lookahead is None:
            raise ValueError("this module has no lookahead: it samples the plain model")
        if prompt not in self.banks:
            self.banks[prompt] = self.lookahead.bank(self.backbone, prompt, self.seed, self.rewards, self.store)
        return self.banks[prompt]

    def guidance(self, prompts: Sequence[str]) -> LiDARGuidance:
        """The guidance of a batch of prompts; that of the last batch is kept."""
        if self._guidance is None or self._guidance[0] != tuple(prompts):
            guidance = LiDARGuidance.from_banks(
                [self.bank(prompt) for prompt in prompts],
                [self.reward.from_scores(self.bank(prompt).rewards) for prompt in prompts],
                self.backbone,
                self.guidance_settings,
            )
            self._guidance = tuple(prompts), guidance
        return self._guidance[1]

    def predict_step(self, batch: dict[str, list], batch_idx: int) -> Part:
        """The samples {"prompts": P strings, "indices": B sample indices each}: those on disk, the others drawn."""
        prompts, indices = batch["prompts"], batch["indices"]
        found = {prompt: self.run and self.run.get(prompt, indices) for prompt in prompts}
        missing: dict[tuple[int, ...], list[str]] = {}
        for prompt, part in found.items():
            left = tuple(index for index in indices if not part or index not in part.indices)
            missing.setdefault(left, []).append(prompt)
        parts = [part for part in found.values() if part]
        parts += [self.draw(some, left) for left, some in missing.items() if left]
        whole = join(parts)
        places = {row: place for place, row in enumerate(whole.rows())}
        return whole.take([places[prompt, index] for prompt in prompts for index in indices])

    def draw(self, prompts: Sequence[str], indices: Sequence[int]) -> Part:
        """Draws, decodes and scores samples of these indices of each prompt; of a run, they are stored."""
        guidance = self.guidance(prompts) if self.lookahead else None
        begin = time.perf_counter()
        each = [prompt for prompt in prompts for _ in indices]
        every = [index for _ in prompts for index in indices]
        seeds = [stream_seed(self.seed, prompt, index) for prompt, index in zip(each, every, strict=True)]
        generators = Generators(seeds, self.device)
        samples, nfe = sample(self.backbone, self.solver, generators, self.backbone.encode(each), guidance)
        decoded = self.backbone.decode(samples)
        scores = {reward.name: score(reward, decoded, each) for reward in self.rewards}
        scores = {name: value.cpu() for name, value in scores.items()}
        seconds = time.perf_counter() - begin
        diagnostics = guidance.take_diagnostics() if guidance else []
        part = Part(each, every, samples.cpu(), decoded, scores, seconds, nfe, diagnostics)
        return self.run.put(part) if self.run else part

    def drawn(self) -> dict[str, list[int]]:
        """Prompt to the indices of its samples, of all batches that this run went through on any device."""
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
                "limit_predict_batches: only %d of %d batches were drawn; tables and report are of their %d samples",
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
        parts = with_reward(self.run.parts(wanted), self.reward)
        self.run.write(parts)
        banks = [self.bank(prompt) for prompt in wanted] if self.lookahead else []
        if self.backbone.modality == "image":
            for bank in banks:
                best = self.reward.from_scores(bank.rewards).topk(min(SHOWN_LOOKAHEADS, len(bank.samples))).indices
                self.run.write_lookaheads(bank.provenance.prompt, self.backbone.decode(bank.samples[best]))
        own, source = self.backbone, self.lookahead.source(self.backbone) if self.lookahead else self.backbone
        evaluations = own.evaluations, source.evaluations
        result = summarise(parts, self.reward, banks, own.modality, self.training_data, evaluations)
        self.run.write_summary(
            {
                "methods": {self.method: result},
                "reward_name": self.reward.name,
                "higher_is_better": self.reward.higher_is_better,
                "modality": self.backbone.modality,
                "settings": self.settings(),
            }
        )
        for logger in self.loggers:
            logger.log_metrics({f"predict/{name}": value for name, value in result.items()})
            for row in mean_steps(parts):
                logger.log_metrics({f"guidance/{k}": v for k, v in row.items() if k != "step"}, step=int(row["step"]))
        write_report(self.run.folder)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        check_checkpoint(self, checkpoint)
        prepare_for_checkpoint(self.backbone, checkpoint, self.base)
        self.strict_loading = not checkpoint.get("adapters", {}).get("lora")
