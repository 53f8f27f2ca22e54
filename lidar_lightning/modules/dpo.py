"""DPO fine-tuning of any backbone with `trainer.fit`."""

from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from lidar_lightning.backbones import Backbone
from lidar_lightning.backbones.adapters import LoRA, adapters_off
from lidar_lightning.backbones.rows import repeated
from lidar_lightning.losses.dpo import DPOTerms, dpo_loss
from lidar_lightning.losses.udlm import MIN_TIME
from lidar_lightning.modules.training import positive
from lidar_lightning.modules.tuning import TuningModule


class DPOModule(TuningModule):
    """Raises the likelihood of the chosen over the rejected sample of each pair, against the starting weights.

    Errors are averaged over `draws` of time and noise per pair, shared by both samples and by policy and reference;
    for tokens the error is the per-sequence NELBO, whose variance this keeps down (as VRPO, arXiv 2505.19223). Times
    are spread evenly over the draws. Logs loss, margin, implicit accuracy and all four errors.

    With LoRA the reference is the same network without the trained adapters, and checkpoints hold these alone. Full
    fine-tuning (`lora: null`) keeps a frozen second copy. Adapters that the backbone came with are on in both.

    Args:
        backbone: the model to fine-tune.
        beta: strength of the tie to the reference, in the convention of `losses.dpo`.
        draws: how many times and noises are drawn for each pair, at least 1.
        lora, lr, warmup, decay, export, checkpointing: see `TuningModule`.
    """

    def __init__(
        self,
        backbone: Backbone,
        beta: float = 0.2,
        lora: LoRA | None = LoRA(),  # noqa: B008
        lr: float = 3e-4,
        draws: int = 4,
        warmup: int = 20,
        decay: float = 0.0,
        export: str | None = None,
        checkpointing: bool = False,
    ):
        positive(self, beta=beta)
        if draws < 1:
            raise ValueError(f"DPOModule needs draws >= 1, got {draws}")
        super().__init__(backbone, lora, lr, warmup, decay, export, checkpointing)
        self.beta, self.draws = beta, draws
        self.settings |= {"beta": beta, "draws": draws}
        # Out of the module list, so that it is neither trained nor saved.
        self._reference = [backbone.frozen_copy()] if lora is None else []

    def errors(
        self,
        backbone: Backbone,
        pair: tuple[Tensor, Tensor],
        noisy: tuple[Tensor, Tensor],
        t: Tensor,
        condition: dict[str, Any] | None,
    ) -> Tensor:
        """Denoising errors (2, B) of chosen and rejected, averaged over the draws."""
        rows = condition and {name: repeated(value, 2 * self.draws) for name, value in condition.items()}
        both = backbone.error(torch.cat(pair), torch.cat(noisy), t.repeat(2), rows)
        return both.view(2, self.draws, -1).mean(1)

    def terms(
        self,
        chosen: Tensor,
        rejected: Tensor,
        generator: torch.Generator,
        condition: dict[str, Any] | None = None,
    ) -> tuple[DPOTerms, Tensor, Tensor]:
        """The loss of each pair, and the errors (2, B) of policy and reference; condition has one row per pair."""
        # Draw d of every pair takes its time from the d-th part of [1e-3, 1); rows are draws first, then pairs.
        offsets = torch.rand(1, len(chosen), generator=generator)
        spread = (torch.arange(self.draws)[:, None] + offsets).flatten() / self.draws
        t = (MIN_TIME + (1 - MIN_TIME) * spread).to(self.device)
        chosen, rejected = torch.cat([chosen] * self.draws), torch.cat([rejected] * self.draws)
        noise = generator.get_state()
        x_w = self.backbone.corrupt(chosen, t, generator)
        generator.set_state(noise)
        x_l = self.backbone.corrupt(rejected, t, generator)
        reference = self._reference[0].to(self.device) if self._reference else self.backbone
        with torch.no_grad(), reference.active(), nullcontext() if self._reference else adapters_off(reference):
            fixed = self.errors(reference, (chosen, rejected), (x_w, x_l), t, condition)
        with self.backbone.active():
            policy = self.errors(self.backbone, (chosen, rejected), (x_w, x_l), t, condition)
        return dpo_loss(policy[0], policy[1], fixed[0], fixed[1], self.beta), policy, fixed

    def _step(self, batch: dict[str, Any], stage: str, seed: int) -> Tensor:
        chosen, rejected = (
            value if isinstance(value, Tensor) else self.backbone.x0_of(value)
            for value in (batch["chosen"], batch["rejected"])
        )
        condition = batch["condition"] if "condition" in batch else self.backbone.told(batch["prompt"])
        generator = torch.Generator().manual_seed(seed)
        terms, policy, fixed = self.terms(chosen, rejected, generator, condition)
        values = {
            "loss": terms.loss.mean(),
            "accuracy": (terms.margin > 0).float().mean(),
            "margin": terms.margin.mean(),
            "error_chosen": policy[0].mean(),
            "error_rejected": policy[1].mean(),
            "reference_error_chosen": fixed[0].mean(),
            "reference_error_rejected": fixed[1].mean(),
        }
        shown = ("loss", "accuracy", "margin")
        for name, value in values.items():
            self.log(f"{stage}/{name}", value, prog_bar=name in shown, batch_size=len(chosen), sync_dist=stage == "val")
        return values["loss"]

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        return self._step(batch, "train", self.step_seed(batch_idx))

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        self._step(batch, "val", batch_idx)
