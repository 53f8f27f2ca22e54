"""What all fine-tuning shares: adapters or full weights, their optimizer, and checkpoints that `LiDARModule` loads."""

from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler

from lidar_lightning.adapters import (
    OWN,
    LoRA,
    adapter_names,
    add_lora,
    describe,
    prepare_for_checkpoint,
    trained_state,
)
from lidar_lightning.backbones import Backbone


class TuningModule(L.LightningModule):
    """A backbone of which LoRA adapters, or all weights, are trained. Checkpoints of LoRA hold the adapters alone.

    Args:
        backbone: the model to fine-tune.
        lora: adapters, or None for full fine-tuning.
        lr: peak learning rate of AdamW, above 0, reached after `warmup` optimizer steps.
        warmup: optimizer steps.
        export: of image models, folder for the trained LoRA as stock diffusers loads it, written at the end.

    Raises:
        ValueError: if the backbone already holds trained adapters, or a setting is out of range.
    """

    def __init__(self, backbone: Backbone, lora: LoRA | None, lr: float, warmup: int, export: str | None):
        super().__init__()
        if export and (lora is None or backbone.modality != "image"):
            raise ValueError(f"only LoRA of image models is exported, got lora={lora} on {type(backbone).__name__}")
        if OWN in adapter_names(backbone):
            raise ValueError("the backbone already holds trained adapters: start from the weights they were trained on")
        if lr <= 0:
            raise ValueError(f"{type(self).__name__} needs lr > 0, got {lr}")
        self.backbone, self.lora, self.lr, self.warmup, self.export = backbone, lora, lr, warmup, export
        self.base = backbone.origin()
        if lora is not None:
            add_lora(backbone, lora)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        optimizer = torch.optim.AdamW([p for p in self.parameters() if p.requires_grad], lr=self.lr, weight_decay=0.0)
        schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1 / (self.warmup + 1), total_iters=self.warmup)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_train_end(self) -> None:
        if self.export and self.trainer.is_global_zero:
            self.backbone.export_lora(self.export)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        # Otherwise LightningCLI would put this class in the place of the predicting one.
        checkpoint.pop("hyper_parameters", None)
        checkpoint["state_dict"] = trained_state(self)
        checkpoint["adapters"] = describe(self.lora, self.base)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        prepare_for_checkpoint(self.backbone, checkpoint, self.base)
        self.strict_loading = not checkpoint.get("adapters", {}).get("lora")
