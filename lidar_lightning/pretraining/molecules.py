"""Training a token denoiser from scratch with `trainer.fit`."""

import torch
from torch import Tensor, nn

from lidar_lightning.backbones import MoleculeBackbone
from lidar_lightning.losses.udlm import MIN_TIME
from lidar_lightning.pretraining.muon import MuonModule
from lidar_lightning.rewards.molecules import parse
from lidar_lightning.sampling import sample
from lidar_lightning.utils.seeding import Generators, stream_seed


class PretrainModule(MuonModule):
    """Fits a model of molecules on clean tokens by its cross-entropy, weighted like the NELBO.

    Use Lightning's `EMAWeightAveraging` callback for the weights that are validated and exported. Validation logs
    `val/nelbo` in nats per molecule and `val/valid`, the valid fraction of `samples` molecules drawn by the default
    solver.

    Args:
        backbone: the model to train.
        lr: peak learning rate of Muon and AdamW.
        warmup_fraction, decay: fractions of all steps over which the rate rises and falls, see `rise_and_fall`.
        samples: number of molecules drawn at each validation; 0 draws none.
        compile: whether to compile the network, which pays on a CPU in bfloat16 too.
    """

    def __init__(
        self,
        backbone: MoleculeBackbone,
        lr: float = 4e-3,
        warmup_fraction: float = 0.02,
        decay: float = 0.5,
        samples: int = 256,
        compile: bool = False,
    ):
        super().__init__(lr, warmup_fraction, decay)
        if samples < 0:
            raise ValueError(f"samples, the molecules drawn at each validation, must not be negative, got {samples}")
        self.backbone, self.samples, self.compile_network = backbone, samples, compile

    def on_fit_start(self) -> None:
        super().on_fit_start()
        if self.compile_network:
            self.backbone.backbone.compile()

    def times(self, count: int, offset: Tensor) -> Tensor:
        """Evenly spread times in [1e-3, 1) with one random offset: (count,)."""
        spread = torch.arange(count, device=self.device) / count
        return MIN_TIME + (1 - MIN_TIME) * ((offset + spread) % 1)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        (x0,) = batch
        t = self.times(len(x0), torch.rand(1, device=self.device))
        sigma = self.backbone.schedule(t)[1]
        loss = self.backbone.cross_entropy(x0, self.backbone.corrupt(x0, t), t)
        loss = (loss / (x0.shape[1] * (sigma + 0.02))).mean()
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        (x0,) = batch
        generator = torch.Generator().manual_seed(batch_idx)
        t = self.times(len(x0), torch.tensor(0.5 / len(x0)))[torch.randperm(len(x0), generator=generator)]
        error = self.backbone.error(x0, self.backbone.corrupt(x0, t, generator), t, None)
        self.log("val/nelbo", error.mean(), batch_size=len(x0), prog_bar=True, sync_dist=True)
        if batch_idx == 0 and self.samples and not self.trainer.sanity_checking:
            generators = Generators([stream_seed(0, "validation", i) for i in range(self.samples)], self.device)
            strings = self.backbone.decode(sample(self.backbone, self.backbone.solver(32), generators, None).samples)
            valid = sum(parse(text) is not None for text in strings) / len(strings)
            self.log("val/valid", valid, batch_size=1, prog_bar=True, sync_dist=True)

    def matrices(self) -> list[nn.Parameter]:
        blocks: nn.Module = self.backbone.backbone.blocks
        return [p for name, p in blocks.named_parameters() if p.ndim == 2 and "adaLN" not in name]
