from pathlib import Path

import lightning as L
import pytest

from lidar_lightning.cli import LidarCLI

CONFIGS = sorted((Path(__file__).parent.parent / "configs").rglob("*.yaml"))


def test_there_are_configs():
    assert {path.name for path in CONFIGS} >= {"pretrain.yaml", "dpo.yaml", "lidar.yaml"}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_config_builds_its_objects(path, monkeypatch):
    monkeypatch.setattr(LidarCLI, "_run_subcommand", lambda self, command: None)
    command = "predict" if path.stem == "lidar" else "fit"
    cli = LidarCLI(
        L.LightningModule, L.LightningDataModule, subclass_mode_model=True, subclass_mode_data=True,
        save_config_kwargs={"overwrite": True}, args=[command, "-c", str(path), "--trainer.accelerator=cpu"],
    )  # fmt: skip
    assert cli.model.backbone.schedule is not None and cli.datamodule is not None
