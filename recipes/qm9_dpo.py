"""DPO on the best and worst molecules of a bank: `python -m recipes.qm9_dpo --banks outputs/qm9/lidar/banks`."""

import lightning as L
from lightning.pytorch.loggers import CSVLogger

from datamodules import PreferenceDataModule
from lidar_lightning import UDLM, DPOModule
from lidar_lightning.modules.checkpoints import LAST, last_checkpoint, save_last
from lidar_lightning.rewards import RingCount
from lidar_lightning.utils.files import expand
from lidar_lightning.utils.progress import is_working


def main(
    banks: str = "outputs/qm9/lidar/banks",
    out: str = "outputs/qm9/dpo",
    model: str = "udlm-qm9-small",
    steps: int = 100,
    pairs: int = 2048,
    batch_size: int = 64,
    beta: float = 0.2,
    lr: float = 3e-4,
    draws: int = 4,
    seed: int = 0,
) -> str:
    """Fine-tunes LoRA adapters and returns the path of their checkpoint; goes on where a killed run stopped."""
    L.seed_everything(seed, verbose=False)
    trainer = L.Trainer(
        max_steps=steps,
        callbacks=[save_last(out, every_n_train_steps=25)],
        logger=CSVLogger(out, "csv"),
        log_every_n_steps=5,
        enable_model_summary=False,
        enable_progress_bar=not is_working(),
    )
    data = PreferenceDataModule(banks, RingCount(), pairs=pairs, batch_size=batch_size)
    module = DPOModule(UDLM.from_pretrained(model), beta=beta, lr=lr, draws=draws)
    trainer.fit(module, data, ckpt_path=last_checkpoint(out))
    return str(expand(out) / LAST)


if __name__ == "__main__":
    from jsonargparse import auto_cli

    auto_cli(main)
