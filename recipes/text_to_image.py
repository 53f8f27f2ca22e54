"""What the recipes of the image models share: drawing pictures, DPO, and the run of any fine-tuning."""

from typing import Any

import lightning as L
from lightning.pytorch.loggers import CSVLogger

from datamodules import PreferenceDataModule, PromptDataModule
from lidar_lightning import Backbone, DPOModule, LiDARModule, Lookahead, Reward
from lidar_lightning.backbones.adapters import LoRA
from lidar_lightning.modules.checkpoints import LAST, last_checkpoint, save_last
from lidar_lightning.modules.tuning import TuningModule
from lidar_lightning.utils.files import expand
from lidar_lightning.utils.progress import is_working


def sample(
    backbone: Backbone,
    reward: Reward,
    prompts: list[str] | str,
    out: str,
    lookahead: Lookahead | None,
    samples: int = 4,
    batch_size: int = 4,
    checkpoint: str | None = None,
    **settings: Any,
) -> str:
    """Draws pictures into the folder `out`, from the weights or adapters of `checkpoint` if given."""
    module = LiDARModule(backbone, reward, lookahead, out=out, **settings)
    trainer = L.Trainer(logger=False, enable_model_summary=False)
    data = PromptDataModule(prompts, samples, batch_size)
    trainer.predict(module, data, ckpt_path=checkpoint, return_predictions=False)
    return out


def fine_tune(
    backbone: Backbone,
    path: str,
    out: str,
    beta: float,
    reward: Reward | None = None,
    steps: int = 2000,
    lr: float = 1e-5,
    rank: int = 16,
    batch_size: int = 1,
    accumulate: int = 16,
    precision: Any = "bf16-mixed",
    pairs: int = 2048,
    fraction: float = 0.25,
    decay: float = 0.0,
) -> str:
    """Fine-tunes LoRA adapters and returns the path of their checkpoint; goes on where a killed run stopped.

    `path` is a folder of picture pairs or of scored banks. Each bank gives `pairs` pairs, one sample of its best
    `fraction` and one of its worst.
    """
    L.seed_everything(0, verbose=False)
    data = PreferenceDataModule(path, reward, pairs, fraction, batch_size=batch_size)
    module = DPOModule(backbone, beta, LoRA(rank, rank), lr, draws=1, decay=decay, export=f"{out}/lora")
    return fit(module, data, out, steps, accumulate, precision)


def fit(
    module: TuningModule, data: L.LightningDataModule, out: str, steps: int, accumulate: int, precision: Any
) -> str:
    """Fits for `steps` optimizer steps in all, going on from `out`/last.ckpt if there is one, and returns its path."""
    trainer = L.Trainer(
        max_steps=steps,
        accumulate_grad_batches=accumulate,
        precision=precision,
        callbacks=[save_last(out, every_n_train_steps=min(100, steps))],
        logger=CSVLogger(out, "csv"),
        log_every_n_steps=1,
        enable_model_summary=False,
        enable_progress_bar=not is_working(),
    )
    trainer.fit(module, data, ckpt_path=last_checkpoint(out))
    return str(expand(out) / LAST)
