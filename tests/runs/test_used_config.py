"""The configuration that a command used is kept with what it wrote, and the user's own stays as it is."""

import json
from pathlib import Path

import pandas as pd
import yaml

from lidar_lightning.cli import main
from lidar_lightning.runs.compare_command import compare_command
from lidar_lightning.runs.used_config import HEADER, write_config
from tests.conftest import tiny
from tests.modules.test_lidar_module import configuration
from tests.test_cli import failing


def used(path):
    text = path.read_text()
    assert text.startswith(HEADER)
    return yaml.safe_load(text)


def test_the_users_own_config_stays_and_the_used_one_goes_into_out(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = configuration(tmp_path, "config", samples=4)
    before = config.read_bytes()
    assert main(["predict", "-c", "config.yaml", "--trainer.logger=false", "--model.init_args.scale=1.5"]) == 0
    assert config.read_bytes() == before and not (tmp_path / "lightning_logs").exists()
    settings = used(tmp_path / "config" / "config.yaml")
    assert settings["model"]["init_args"]["scale"] == 1.5
    assert main(["predict", "-c", "config/config.yaml", "--trainer.enable_model_summary=false"]) == 0
    assert used(tmp_path / "config" / "config.yaml")["trainer"]["enable_model_summary"] is False


def test_a_refused_run_leaves_the_config_of_the_first(tmp_path, capsys):
    config = str(configuration(tmp_path, "run", samples=4))
    assert main(["predict", "-c", config]) == 0
    before = (tmp_path / "run" / "config.yaml").read_bytes()
    assert "holds a run of other settings" in failing(capsys, "predict", "-c", config, "--model.init_args.seed=1")
    assert (tmp_path / "run" / "config.yaml").read_bytes() == before


def fit_configuration(folder):
    tiny().save_pretrained(folder / "tiny")
    pd.DataFrame({"chosen": ["CC", "CO", "CN", "C"], "rejected": ["N", "O", "NN", "OO"]}).to_csv(folder / "pairs.csv")
    backbone = {
        "class_path": "lidar_lightning.UDLM.from_pretrained",
        "init_args": {"pretrained_model_name_or_path": str(folder / "tiny")},
    }
    lora = {"class_path": "lidar_lightning.backbones.LoRA", "init_args": {"rank": 2}}
    checkpoint = {
        "class_path": "lightning.pytorch.callbacks.ModelCheckpoint",
        "init_args": {"dirpath": str(folder / "fitted"), "save_last": True, "save_top_k": 0},
    }
    config = {
        "model": {"class_path": "lidar_lightning.DPOModule", "init_args": {"backbone": backbone, "lora": lora}},
        "data": {
            "class_path": "datamodules.PreferenceDataModule",
            "init_args": {"path": str(folder / "pairs.csv"), "validation": 0.25, "batch_size": 3},
        },
        "trainer": {
            "max_steps": 1, "logger": False, "accelerator": "cpu", "enable_progress_bar": False,
            "callbacks": [checkpoint],
        },
    }  # fmt: skip
    (folder / "config.yaml").write_text(yaml.safe_dump(config))


def test_fit_and_validate_leave_the_users_own_config(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fit_configuration(tmp_path)
    before = (tmp_path / "config.yaml").read_bytes()
    assert main(["fit", "-c", "config.yaml"]) == 0
    assert used(tmp_path / "fitted" / "config.yaml")["trainer"]["max_steps"] == 1
    fitted = (tmp_path / "fitted" / "config.yaml").read_bytes()
    assert main(["validate", "-c", "config.yaml", "--trainer.limit_val_batches=1"]) == 0
    assert (tmp_path / "config.yaml").read_bytes() == before
    assert (tmp_path / "fitted" / "config.yaml").read_bytes() == fitted
    logger = {"class_path": "lightning.pytorch.loggers.CSVLogger", "init_args": {"save_dir": "logs", "name": "csv"}}
    options = ["--trainer.callbacks=null", "--trainer.enable_checkpointing=false", "--trainer.max_steps=2"]
    assert main(["fit", "-c", "config.yaml", f"--trainer.logger={json.dumps(logger)}", *options]) == 0
    (logged,) = (tmp_path / "logs").rglob("config.yaml")
    assert used(logged)["trainer"]["max_steps"] == 2


def test_a_config_of_the_user_is_not_written_over(tmp_path):
    (tmp_path / "config.yaml").write_text("mine: 1\n")
    for text in ("a: 1\n", "a: 2\n"):
        assert write_config(tmp_path, text) == tmp_path / "config-used.yaml"
        assert used(tmp_path / "config-used.yaml") == yaml.safe_load(text)
    assert (tmp_path / "config.yaml").read_text() == "mine: 1\n"


def test_nothing_is_drawn_to_be_thrown_away(tmp_path, capsys):
    config = str(configuration(tmp_path, "run", samples=4))
    error = failing(capsys, "predict", "-c", config, "--model.init_args.out=null")
    assert "all samples would be thrown away: give --model.init_args.out FOLDER" in error


COMPARISON = """
backbone: {{class_path: lidar_lightning.UDLM.from_pretrained, init_args: {{pretrained_model_name_or_path: "{model}"}}}}
reward: {{class_path: lidar_lightning.rewards.CallableReward, init_args: {{path: "tests.conftest:carbons"}}}}
prompts: m
samples: 2
steps: 2
budgets: [4]
out: "{out}"
training_data: "{training}"
samplers:
  best-of-n: {{class_path: lidar_lightning.samplers.BestOfN}}
"""


def test_compare_keeps_its_configuration(at_home):
    tiny().save_pretrained(at_home / "tiny")
    (at_home / "training.txt").write_text("CCO\n")
    text = COMPARISON.format(model="~/tiny", out="~/out", training="~/training.txt")
    (at_home / "compare.yaml").write_text(text)
    report = compare_command(["--config", str(at_home / "compare.yaml"), "--steps", "3"])
    assert Path(report) == at_home / "out" / "report.html"
    settings = used(at_home / "out" / "config.yaml")
    assert settings["steps"] == 3 and "processes" not in settings
    assert compare_command(["--config", str(at_home / "out" / "config.yaml")]) == report
    assert (at_home / "compare.yaml").read_text() == text
