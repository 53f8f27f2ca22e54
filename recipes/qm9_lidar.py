"""Sample molecules with many rings: `python -m recipes.qm9_lidar --out outputs/qm9/lidar`."""

import lightning as L

from datamodules import PromptDataModule
from lidar_lightning import UDLM, LiDARModule, Lookahead
from lidar_lightning.rewards import RingCount


def main(
    out: str = "outputs/qm9/lidar",
    method: str = "lidar",
    checkpoint: str | None = None,
    model: str = "udlm-qm9-small",
    guided: bool = True,
    n: int = 200,
    lookahead_steps: int = 8,
    ess: float = 0.9,
    restart: float = 0.4,
    restart_steps: int = 8,
    candidates: float = 6,
    rounds: int = 4,
    steps: int = 32,
    samples: int = 1024,
    seed: int = 0,
) -> str:
    """Draws `samples` molecules into the folder `out`, from the weights or adapters of `checkpoint` if given.

    Guided samples start from noised members of the bank and take the last of `restart_steps` steps, those from the
    time `restart` on; plain samples take all of `steps`.
    """
    lidar = LiDARModule(
        UDLM.from_pretrained(model),
        RingCount(),
        lookahead=Lookahead(lookahead_steps, n) if guided else None,
        steps=restart_steps if guided else steps,
        ess=ess,
        restart=restart,
        candidates=candidates,
        rounds=rounds,
        seed=seed,
        method=method,
        out=out,
    )
    trainer = L.Trainer(logger=False, enable_model_summary=False)
    data = PromptDataModule("molecule", samples, batch_size=samples)
    trainer.predict(lidar, data, ckpt_path=checkpoint, return_predictions=False)
    return out


if __name__ == "__main__":
    from jsonargparse import auto_cli

    auto_cli(main)
