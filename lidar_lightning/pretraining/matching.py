"""Training the learned reward of the shapes task with `trainer.fit`."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lidar_lightning.pretraining.attention import training_attention
from lidar_lightning.pretraining.muon import MuonModule
from lidar_lightning.shapes.grammar import CATEGORIES, parse
from lidar_lightning.shapes.scorer import ShapesScorer


class MatchingModule(MuonModule):
    """Fits a ShapesScorer to say which captions are true of a picture: the cross-entropy of its log-odds.

    It is trained on batches of `datamodules.shapes.Claims` and validated on scenes beside their twins. Pictures are
    blurred and made noisy at random, as generated ones are.

    Validation logs `val/loss` and `val/twin`, the fraction of pictures that score higher with their own caption than
    with their twin's, and `val/twin-CATEGORY` of each category.

    Args:
        model: the scorer.
        lr: peak learning rate.
        warmup_fraction, decay: fractions of all steps over which the rate rises and falls, see `rise_and_fall`.
        noise: largest standard deviation of the noise, in units of the [0, 1] range.
    """

    def __init__(
        self,
        model: ShapesScorer,
        lr: float = 2e-3,
        warmup_fraction: float = 0.05,
        decay: float = 0.5,
        noise: float = 0.05,
    ):
        super().__init__(lr, warmup_fraction, decay)
        if not 0 <= noise < float("inf"):
            raise ValueError(f"noise is a standard deviation, at least 0 and finite, got {noise}")
        self.model, self.noise = model, noise

    def disturb(self, images: Tensor) -> Tensor:
        """Pictures (n, 3, H, W), each blurred by its 3 x 3 means and made noisy by a random amount of its own."""
        some = torch.rand(2, len(images), 1, 1, 1, device=images.device)
        images = torch.lerp(images, F.avg_pool2d(images, 3, stride=1, padding=1, count_include_pad=False), some[0])
        return (images + self.noise * some[1] * torch.randn_like(images)).clamp(0, 1)

    def log_odds(self, images: Tensor, claims: list[list[str]]) -> Tensor:
        """Log-odds (n, k) that each of k captions is true of its picture, for pictures (n, 3, 64, 64)."""
        places = self.model.embed_images(images).repeat_interleave(len(claims[0]), 0)
        return self.model.log_odds(places, [claim for row in claims for claim in row]).view(len(claims), -1)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        with training_attention(self.device):
            odds = self.log_odds(self.disturb(batch["image"]), batch["claims"])
        loss = F.binary_cross_entropy_with_logits(odds, batch["true"])
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        odds, prompts = self.own_and_near(batch), batch["prompt"]
        loss = F.binary_cross_entropy_with_logits(odds, torch.tensor([1.0, 0.0], device=odds.device).expand_as(odds))
        right = (odds[:, 0] > odds[:, 1]).float()
        self.log_dict({"val/loss": loss, "val/twin": right.mean()}, batch_size=len(prompts), prog_bar=True)
        kinds = [parse(prompt).category for prompt in prompts]
        for category in CATEGORIES:
            rows = [row for row, kind in enumerate(kinds) if kind == category]
            if rows:
                self.log(f"val/twin-{category}", right[rows].mean(), batch_size=len(rows), on_epoch=True)

    def own_and_near(self, batch: dict[str, Any]) -> Tensor:
        """Log-odds (n, 2) of every picture of a batch with twins, with its own caption and with its twin's."""
        prompts = batch["prompt"]
        return self.log_odds(batch["image"], [[prompt, prompts[row ^ 1]] for row, prompt in enumerate(prompts)])

    @torch.no_grad()
    def standardise(self, batch: dict[str, Any]) -> None:
        """Sets the scorer's mean and standard deviation to those of a batch with twins, over both captions of each."""
        self.model.eval()
        odds = self.own_and_near(batch)
        self.model.mean.copy_(odds.mean())
        self.model.std.copy_(odds.std())

    def matrices(self) -> list[nn.Parameter]:
        parts = (self.model.convolutions[1:], self.model.image_transformer, self.model.neighbours, self.model.decoder)
        return [p for part in parts for p in part.parameters() if p.ndim >= 2]
