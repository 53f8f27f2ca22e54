"""Train the shipped QM9 checkpoints: `python -m recipes.qm9_pretrain`. Run it again to go on where it stopped."""

import copy
from pathlib import Path
from typing import Any, Literal

import lightning as L
from lightning.pytorch.callbacks import EMAWeightAveraging
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

from datamodules import QM9DataModule
from lidar_lightning.backbones import MDLM, UDLM, MoleculeBackbone
from lidar_lightning.modules.checkpoints import last_checkpoint, save_last
from lidar_lightning.pretraining.molecules import PretrainModule
from lidar_lightning.utils.files import expand

KINDS: dict[str, type[UDLM | MDLM]] = {"uniform": UDLM, "absorbing": MDLM}


def started(noise: str, init: str) -> MoleculeBackbone:
    """A model of the noise `noise` with the weights of a checkpoint `init` of either noise."""
    source = (MDLM if "mdlm" in Path(init).name.lower() else UDLM).from_pretrained(init)
    if isinstance(source, KINDS[noise]):
        return source
    network = source.backbone
    blocks: Any = network.blocks
    width, heads = network.vocab_embed.embedding.shape[1], blocks[0].heads
    cond = network.output_layer.adaLN_modulation.in_features
    name = f"{KINDS[noise].model_type}-qm9-{width}x{len(blocks)}"
    other = KINDS[noise](
        source.vocab_size, source.model_length, width, cond, len(blocks), heads, dropout=0.0, name=name
    )
    other.load_state_dict(source.state_dict())
    return other


def main(
    out: str = "outputs/qm9/pretrain",
    noise: Literal["uniform", "absorbing"] = "uniform",
    data: str | None = None,
    init: str | None = None,
    steps: int = 5000,
    width: int = 192,
    layers: int = 6,
    batch_size: int = 256,
    decay: float = 0.55,
    precision: str = "bf16-mixed",
    compile: bool = True,
    save_every: int = 250,
    validate_every: int = 500,
    lr: float = 4e-3,
) -> Path:
    """Fits UDLM (uniform noise) or MDLM (absorbing noise) on QM9, and writes `out`/model for its `from_pretrained`.

    The weights are written in half precision. Returns that folder.

    With `init`, the name or folder of a checkpoint, training goes on from its weights instead of from random ones; they
    may be those of the other noise, since both have the same network.
    """
    folder = expand(out)
    if init:
        backbone = started(noise, init)
    else:
        kind = KINDS[noise]
        name = f"{kind.model_type}-qm9-{width}x{layers}"
        backbone = kind(35, 24, hidden_dim=width, n_blocks=layers, n_heads=width // 32, dropout=0.0, name=name)
    data_module = QM9DataModule(path=data, batch_size=batch_size)
    module = PretrainModule(backbone, lr=lr, decay=decay, compile=compile)
    trainer = L.Trainer(
        max_steps=steps,
        val_check_interval=min(validate_every, steps),
        check_val_every_n_epoch=None,
        precision=precision,  # type: ignore[arg-type]
        gradient_clip_val=1.0,
        callbacks=[
            EMAWeightAveraging(decay=0.998),
            save_last(folder, filename="step-{step}", every_n_train_steps=save_every),
        ],
        logger=[CSVLogger(folder, "csv"), TensorBoardLogger(folder, "tensorboard")],
    )
    trainer.fit(module, data_module, ckpt_path=last_checkpoint(folder))
    copy.deepcopy(backbone).half().save_pretrained(folder / "model")
    return folder / "model"


if __name__ == "__main__":
    from jsonargparse import auto_cli

    auto_cli(main)
