"""Training the learned reward of the shapes task with `trainer.fit`."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lidar_lightning.pretraining.attention import training_attention
from lidar_lightning.pretraining.muon import MuonModule
from lidar_lightning.shapes.scorer import ShapesScorer


class ContrastiveModule(MuonModule):
    """Fits a ShapesScorer so that every picture finds its caption in the batch, and every caption its picture.

    That is the loss of CLIP (Radford et al., arXiv 2103.00020). In batches with twins, each scene stands beside one
    whose caption differs in one respect, which makes the negatives hard. Captions that are equal share the target.
    Pictures are blurred and made noisy at random, as generated ones are.

    Validation logs `val/loss` and `val/twin`, the fraction of pictures that score higher with their own caption than
    with their twin's.

    Args:
        model: the scorer.
        lr: peak learning rate.
        warmup_fraction, decay: fractions of all steps in which it rises and falls, see `rise_and_fall`.
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
        """Pictures (n, 3, H, W) mixed with their 3 x 3 means and noise, by another amount each."""
        some = torch.rand(2, len(images), 1, 1, 1, device=images.device)
        images = torch.lerp(images, F.avg_pool2d(images, 3, stride=1, padding=1, count_include_pad=False), some[0])
        return (images + self.noise * some[1] * torch.randn_like(images)).clamp(0, 1)

    def loss(self, similarities: Tensor, prompts: list[str]) -> Tensor:
        """Cross-entropy of pictures (rows) over captions and of captions over pictures, averaged."""
        numbers = {prompt: number for number, prompt in enumerate(dict.fromkeys(prompts))}
        rows = torch.tensor([numbers[prompt] for prompt in prompts], device=similarities.device)
        target = (rows[:, None] == rows).float()
        target = target / target.sum(1, keepdim=True)
        return (F.cross_entropy(similarities, target) + F.cross_entropy(similarities.T, target)) / 2

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        images, prompts = self.disturb(batch["image"]), batch["prompt"]
        with training_attention(self.device):
            loss = self.loss(self.model.similarities(images, prompts), prompts)
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        images, prompts = batch["image"], batch["prompt"]
        similarities = self.model.similarities(images, prompts)
        own, near = self.own_and_near(similarities)
        values = {"val/loss": self.loss(similarities, prompts), "val/twin": (own > near).float().mean()}
        self.log_dict(values, batch_size=len(images), prog_bar=True, sync_dist=True)

    @staticmethod
    def own_and_near(similarities: Tensor) -> tuple[Tensor, Tensor]:
        """Similarity of every picture with its own caption and with its twin's: (n,) each, of a batch with twins."""
        rows = torch.arange(len(similarities), device=similarities.device)
        return similarities[rows, rows], similarities[rows, rows ^ 1]

    @torch.no_grad()
    def standardise(self, batch: dict[str, Any]) -> None:
        """Sets the scorer's mean and standard deviation by a batch with twins, over own and twins' captions."""
        self.model.eval()
        both = torch.cat(self.own_and_near(self.model.similarities(batch["image"], batch["prompt"])))
        self.model.mean.copy_(both.mean())
        self.model.std.copy_(both.std())

    def matrices(self) -> list[nn.Parameter]:
        parts = (self.model.convolutions[1:], self.model.image_transformer, self.model.text_transformer)
        return [p for part in parts for p in part.parameters() if p.ndim >= 2]
