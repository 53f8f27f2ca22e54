from pathlib import Path

import lightning as L
import pytest
import yaml

from lidar_lightning.cli import main
from lidar_lightning.commands.lightning import LidarCLI
from lidar_lightning.runs.comparison import Comparison
from recipes.rounds import Rounds
from tests import modern_pipelines
from tests.pipelines import BUILDERS, build

CONFIGS = sorted((Path(__file__).parent.parent / "configs").rglob("*.yaml"))
COMPARISONS = [path for path in CONFIGS if path.stem.startswith("compare")]
ROUNDS = [path for path in CONFIGS if path.stem.startswith("rounds")]


@pytest.mark.parametrize("path", COMPARISONS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_comparison_builds_its_samplers_for_every_budget(path, monkeypatch, tmp_path):
    built = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Comparison, "work", lambda self: built.append(self))
    monkeypatch.setattr(Comparison, "finish", lambda self: "")
    assert main(["compare", "--config", str(path)]) == 0
    described = yaml.safe_load(path.read_text())
    rows = {cell.row for cell in built[0].cells}
    assert rows == {"vanilla"} | {
        f"{name} @ {budget}" for name in described["samplers"] for budget in described["budgets"]
    }


@pytest.mark.parametrize("path", ROUNDS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_rounds_build_their_objects(path, monkeypatch, tmp_path):
    built = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Rounds, "run", lambda self: built.append(self) or self.out / "report.html")
    monkeypatch.setattr("lidar_lightning.commands.rounds.read_summary", lambda folder: {"methods": {}})
    assert main(["rounds", "-c", str(path)]) == 0
    assert built[0].rounds == yaml.safe_load(path.read_text())["rounds"] and (built[0].out / "config.yaml").exists()


def test_there_are_configs():
    assert {path.name for path in CONFIGS} >= {"pretrain.yaml", "dpo.yaml", "lidar.yaml"}


IMAGE_MODELS = {
    "sd15": "StableDiffusion", "sdxl": "StableDiffusionXL", "flux": "Flux", "sd35": "StableDiffusion3",
    "qwen-image": "QwenImage", "z-image": "ZImage", "flux2-klein": "Flux2Klein", "sana": "Sana",
}  # fmt: skip


@pytest.fixture(scope="session")
def pipelines(tmp_path_factory):
    """Folders of tiny pipelines of the classes that the configurations name."""
    folder = tmp_path_factory.mktemp("pipelines")
    for name in IMAGE_MODELS.values():
        (build if name in BUILDERS else modern_pipelines.build)(name).save_pretrained(folder / name)
    return folder


@pytest.mark.parametrize(
    "path",
    [path for path in CONFIGS if path not in COMPARISONS + ROUNDS],
    ids=lambda path: f"{path.parent.name}-{path.stem}",
)
def test_config_builds_its_objects(path, monkeypatch, pipelines):
    monkeypatch.setattr(LidarCLI, "_run_subcommand", lambda self, command: None)
    command = "predict" if path.stem == "lidar" else "fit"
    model = IMAGE_MODELS.get(path.parent.name)
    source = "--model.init_args.backbone.init_args.pretrained_model_name_or_path"
    extra = [f"{source}={pipelines / model}", "--trainer.precision=32"] if model else []
    cli = LidarCLI(
        L.LightningModule, L.LightningDataModule, subclass_mode_model=True, subclass_mode_data=True,
        save_config_kwargs={"overwrite": True}, commands=[command],
        args=[command, "-c", str(path), "--trainer.accelerator=cpu", *extra],
    )  # fmt: skip
    owner = cli.datamodule if path.stem == "value" else cli.model
    assert owner.backbone.schedule is not None and cli.datamodule is not None


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_settings_are_plain_arguments(path):
    assert "dict_kwargs" not in path.read_text()
