"""Fine-tuning by the gradient of a reward with `trainer.fit`: ReFL and DRaFT."""

from itertools import islice
from math import isfinite
from typing import Any, Literal

import torch
from torch import Tensor

from lidar_lightning.backbones import Backbone
from lidar_lightning.backbones.adapters import LoRA
from lidar_lightning.modules.tuning import TuningModule
from lidar_lightning.rewards import Reward, score
from lidar_lightning.rewards.base import utility
from lidar_lightning.sampling import denoiser, last, trajectory
from lidar_lightning.utils.seeding import Generators, stream_seed


class RewardTuningModule(TuningModule):
    """Raises a differentiable reward of the model's own samples. Batches are {"prompt": list of prompts}.

    "refl" samples without gradients up to one of the last K network calls, drawn per batch, and scores the clean
    prediction of that call, through which alone the gradient flows (Xu et al., arXiv 2304.05977). "draft" samples to
    the end and lets the gradient flow through the last K steps (DRaFT-K; Clark et al., arXiv 2309.17400). Both run the
    model's default solver, with classifier-free guidance where it has some. The loss is the mean of -r, or of
    max(0, margin - r), which leaves samples above the margin alone. Logs loss and reward.

    Args:
        backbone: the model to fine-tune.
        reward: a differentiable reward; it is lowered if its `higher_is_better` is False.
        method: "refl" or "draft".
        steps: network calls per sample.
        truncation: K in [1, steps]; None takes the published 1 for "draft", and a quarter of the steps for "refl".
        margin: the margin of the loss; None trains without one.
        lora, lr, warmup, decay, export: see `TuningModule`.

    Raises:
        ValueError: if the reward is not differentiable, or a setting is out of range or unknown.
    """

    def __init__(
        self,
        backbone: Backbone,
        reward: Reward,
        method: Literal["refl", "draft"] = "draft",
        steps: int = 40,
        truncation: int | None = None,
        margin: float | None = None,
        lora: LoRA | None = LoRA(),  # noqa: B008
        lr: float = 1e-4,
        warmup: int = 20,
        decay: float = 0.0,
        export: str | None = None,
    ):
        if method not in ("refl", "draft"):
            raise ValueError(f"method is 'refl' or 'draft', got {method!r}")
        if not reward.differentiable:
            raise ValueError(
                f"{method} differentiates the reward, and {reward.name!r} is not differentiable: use DPOModule, which "
                "needs its scores only"
            )
        if truncation is None:
            truncation = 1 if method == "draft" else max(1, steps // 4)
        if not 1 <= truncation <= steps:
            raise ValueError(f"truncation lies in [1, steps], got {truncation} of {steps} steps")
        if margin is not None and not isfinite(margin):
            raise ValueError(f"margin, a value of the reward, must be finite, got {margin}")
        super().__init__(backbone, lora, lr, warmup, decay, export)
        self.reward, self.method, self.truncation, self.margin = reward, method, truncation, margin
        self.solver = backbone.solver(steps)
        self.settings |= {
            "reward": reward.name, "method": method, "steps": steps, "truncation": truncation, "margin": margin
        }  # fmt: skip

    def samples(self, prompts: list[str], seed: int) -> Tensor:
        """Clean samples (B, *S), or clean predictions of a late step, with gradients to the trained weights."""
        generators = Generators([stream_seed(seed, prompt, i) for i, prompt in enumerate(prompts)], self.device)
        predict = denoiser(self.backbone, self.backbone.encode(prompts))
        x, late = self.solver.start(self.backbone.prior(generators)), self.method == "refl"
        first = len(self.solver.times) - 1 - self.truncation + (seed % self.truncation if late else 0)
        with self.backbone.active():
            steps = trajectory(predict, self.solver, x, generators)
            with torch.no_grad():
                x = last(x, islice(steps, first))
            return predict(x, self.solver.times[first].item()) if late else last(x, steps)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        prompts = batch["prompt"]
        samples = self.samples(prompts, self.step_seed(batch_idx))
        scores = score(self.reward, self.backbone.decode(samples), prompts)
        value = utility(self.reward, scores)
        loss = (-value if self.margin is None else (self.margin - value).clamp_min(0)).mean()
        self.log("train/loss", loss, prog_bar=True, batch_size=len(prompts))
        self.log("train/reward", scores.mean(), prog_bar=True, batch_size=len(prompts))
        return loss
