"""Learn the value of SVDD-MC from plain molecules: `python -m recipes.qm9_value --out outputs/qm9/value`."""

import lightning as L
from lightning.pytorch.loggers import CSVLogger

from datamodules import RolloutDataModule
from lidar_lightning import UDLM, ValueModule
from lidar_lightning.modules.checkpoints import LAST, last_checkpoint, save_last
from lidar_lightning.rewards import RingCount
from lidar_lightning.utils.files import expand


def main(
    out: str = "outputs/qm9/value",
    model: str = "udlm-qm9-small",
    samples: int = 1024,
    steps: int = 32,
    temperature: float = 1.0,
    epochs: int = 10,
    seed: int = 0,
) -> str:
    """Draws `samples` molecules with `steps` network calls each, fits the value network, and returns its checkpoint.

    Run it again to go on where it stopped.
    """
    L.seed_everything(seed, verbose=False)
    backbone = UDLM.from_pretrained(model)
    trainer = L.Trainer(
        max_epochs=epochs,
        callbacks=[save_last(out)],
        logger=CSVLogger(out, "csv"),
        enable_model_summary=False,
    )
    module = ValueModule((backbone.model_length,), backbone.vocab_size)
    data = RolloutDataModule(backbone, RingCount(), "molecule", samples, steps, temperature, seed)
    trainer.fit(module, data, ckpt_path=last_checkpoint(out))
    return str(expand(out) / LAST)


if __name__ == "__main__":
    from jsonargparse import auto_cli

    auto_cli(main)
