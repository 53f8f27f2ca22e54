"""What all fine-tuning shares: adapters or full weights, their optimizer, and checkpoints that `LiDARModule` loads."""

import gc
import json
from contextlib import ExitStack
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler

from lidar_lightning.backbones import Backbone
from lidar_lightning.backbones.adapters import OWN, LoRA, adapter_names, add_lora
from lidar_lightning.modules.sharding import shard
from lidar_lightning.modules.trained import prepare_for_checkpoint, to_checkpoint, trained_state
from lidar_lightning.modules.training import TrainingModule, positive
from lidar_lightning.runs.push import TRAINING
from lidar_lightning.utils.files import expand, write_atomically


class TuningModule(TrainingModule):
    """Trains LoRA adapters of a backbone, or all of its weights. Checkpoints of LoRA hold the adapters alone.

    Args:
        backbone: the model to fine-tune.
        lora: adapters, or None for full fine-tuning.
        lr: peak learning rate of AdamW, above 0, reached after `warmup` optimizer steps.
        warmup: number of optimizer steps over which the rate rises, at least 0.
        decay: last fraction of all steps, in [0, 1], over which the rate falls to 0; 0 keeps it.
        export: for image models, the folder into which the trained LoRA is written at the end, in the form that stock
            diffusers loads.
        checkpointing: the network computes its activations again in the backward pass: less memory for more time.

    Raises:
        ValueError: if the backbone already holds trained adapters, a setting is out of range, or, once a run starts,
            its rate decays and it has no end.
    """

    def __init__(
        self,
        backbone: Backbone,
        lora: LoRA | None,
        lr: float,
        warmup: int,
        decay: float,
        export: str | None,
        checkpointing: bool = False,
    ):
        super().__init__()
        if export and (lora is None or backbone.modality != "image"):
            raise ValueError(f"only LoRA of image models is exported, got lora={lora} on {type(backbone).__name__}")
        if OWN in adapter_names(backbone):
            raise ValueError("the backbone already holds trained adapters: start from the weights they were trained on")
        positive(self, lr=lr)
        if warmup < 0 or not 0 <= decay <= 1:
            raise ValueError(
                f"{type(self).__name__} needs warmup >= 0 and decay in [0, 1], got warmup={warmup} and decay={decay}"
            )
        self.backbone, self.lora, self.export = backbone, lora, export
        self.lr, self.warmup, self.decay = lr, warmup, decay
        self.settings: dict[str, Any] = {"lora": lora and asdict(lora), "lr": lr, "warmup": warmup, "decay": decay}
        self.base = backbone.origin()
        if lora is not None:
            add_lora(backbone, lora)
        if checkpointing:
            backbone.checkpoint_gradients()
        self._training = ExitStack()

    def configure_model(self) -> None:
        """Spreads the network over the processes of a ModelParallelStrategy; with others it is left as it is."""
        if self.device_mesh is not None:
            shard(getattr(self.backbone, "network", self.backbone), self.device_mesh["data_parallel"])  # type: ignore[arg-type]

    def configure_optimizers(self) -> OptimizerLRScheduler:
        trained = [p for p in self.parameters() if p.requires_grad]
        if rounded := {p.dtype for p in trained} - {torch.float32}:
            raise ValueError(
                f"weights are trained in float32, got {rounded.pop()}, which rounds small steps away: give the trainer "
                "precision 32-true or bf16-mixed; a backbone of dtype bfloat16 is trained by LoRA only"
            )
        optimizer = torch.optim.AdamW(trained, lr=self.lr, weight_decay=0.0)
        total = self.trainer.estimated_stepping_batches if self.decay else 0
        if total in (-1, float("inf")):  # max_steps=-1, max_epochs=-1
            raise ValueError(f"decay={self.decay} is a fraction of all steps: give the trainer max_steps or max_epochs")

        def factor(step: int) -> float:
            fall = (total - step) / (self.decay * total) if self.decay else 1.0
            return min(1.0, (step + 1) / (self.warmup + 1), fall)

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_fit_start(self) -> None:
        """Keeps the network as this backbone uses it until the end, as a backward pass may compute parts of it again.

        Objects that exist by now are no garbage; looking through them would take longer than a step of a small network.
        """
        super().on_fit_start()
        gc.freeze()
        self._training.enter_context(self.backbone.active())

    def teardown(self, stage: str) -> None:
        self._training.close()
        gc.unfreeze()

    def on_train_end(self) -> None:
        if not self.export:
            return
        folder = expand(self.export)
        self.backbone.export_lora(folder, self.trainer.is_global_zero)
        if self.trainer.is_global_zero:
            told: dict[str, Any] = {"method": type(self).__name__.removesuffix("Module"), "base": self.base}
            told |= {
                "settings": self.settings,
                "steps": self.trainer.global_step,
                "version": version("lidar-lightning"),
            }
            write_atomically(folder / TRAINING, json.dumps(told, indent=1).encode())

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        # Otherwise LightningCLI would put this class in the place of the predicting one.
        checkpoint.pop("hyper_parameters", None)
        checkpoint["state_dict"] = trained_state(self, checkpoint.get("state_dict"))
        checkpoint["adapters"] = to_checkpoint(self.lora, self.base)
        checkpoint["settings"] = self.settings

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        prepare_for_checkpoint(self.backbone, checkpoint, self.base)
        before = checkpoint.get("settings", self.settings)
        if changed := [name for name in self.settings if before.get(name) != self.settings[name]]:
            raise ValueError(
                "a run goes on with the settings it began with, but "
                + " and ".join(f"{name} was {before.get(name)} and is now {self.settings[name]}" for name in changed)
                + ": set them back, or start anew in another folder"
            )
        self.strict_loading = not checkpoint.get("adapters", {}).get("lora")
