"""Training the autoencoder of the shapes task with `trainer.fit`."""

from typing import Any

import torch
from torch import Tensor, nn

from lidar_lightning.pretraining.muon import MuonModule
from lidar_lightning.shapes.verdict import verdicts


class AutoencoderModule(MuonModule):
    """Fits an AutoencoderKL by the absolute and the squared error of its reconstructions.

    Validation logs `val/l1` in units of the [0, 1] range, and `val/read`, the fraction of the reconstructions in which
    `verdicts` still finds what the caption says.

    Args:
        vae: the autoencoder to train.
        lr: peak learning rate.
        warmup_fraction, decay: fractions of all steps over which the rate rises and falls, see `rise_and_fall`.
        kl: weight of the Kullback-Leibler divergence from the standard normal, in nats per latent number.
    """

    def __init__(
        self,
        vae: Any,
        lr: float = 2e-3,
        warmup_fraction: float = 0.03,
        decay: float = 0.5,
        kl: float = 1e-4,
    ):
        super().__init__(lr, warmup_fraction, decay)
        if not 0 <= kl < float("inf"):
            raise ValueError(f"kl, the weight of the divergence, must be finite and at least 0, got {kl}")
        self.vae, self.kl = vae, kl

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        pixels = (2 * batch["image"] - 1).contiguous(memory_format=torch.channels_last)
        posterior = self.vae.encode(pixels).latent_dist
        error = self.vae.decode(posterior.sample()).sample.float() - pixels
        divergence = posterior.kl().mean() / posterior.mean[0].numel()
        loss = error.abs().mean() + error.square().mean() + self.kl * divergence
        self.log_dict({"train/l1": error.abs().mean() / 2, "train/kl": divergence}, prog_bar=True)
        return loss

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        images, prompts = batch["image"], batch["prompt"]
        mode = self.vae.encode(2 * images - 1).latent_dist.mode()
        restored = (self.vae.decode(mode).sample.float() / 2 + 0.5).clamp(0, 1)
        read = sum(verdict.correct for verdict in verdicts(restored, prompts)) / len(prompts)
        values = {"val/l1": (restored - images).abs().mean(), "val/read": read}
        self.log_dict(values, batch_size=len(images), prog_bar=True, sync_dist=True)

    def matrices(self) -> list[nn.Parameter]:
        ends = {id(self.vae.encoder.conv_in.weight), id(self.vae.decoder.conv_out.weight)}
        return [p for p in self.parameters() if p.ndim >= 2 and id(p) not in ends]
