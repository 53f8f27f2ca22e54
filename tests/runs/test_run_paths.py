"""Paths, names and sizes of a run as users give them."""

import json

import pandas as pd
import pytest
import yaml

from datamodules import PreferenceDataModule, PromptDataModule
from lidar_lightning import BankStore, LiDARModule, Lookahead
from lidar_lightning.backbones.adapters import LoRA, add_lora
from lidar_lightning.cli import main
from lidar_lightning.rewards import RingCount
from lidar_lightning.runs.comparison import Comparison, compare
from lidar_lightning.runs.folder import RunFolder
from lidar_lightning.runs.report import write_report
from lidar_lightning.samplers import BestOfN
from lidar_lightning.utils.tables import read_csv
from tests.conftest import tiny
from tests.modules.test_lidar_module import adapted_checkpoint, configuration, module
from tests.runs.test_report import make_run


def test_a_run_with_formulas(tmp_path, carbon_reward):
    from tests.modules.test_lidar_module import predict

    predict(module(carbon_reward, tmp_path), 4, 4, "=1+2")
    raw = pd.read_csv(tmp_path / "samples.csv")
    assert (raw["prompt"] == "'=1+2").all() and (read_csv(tmp_path / "samples.csv")["prompt"] == "=1+2").all()
    assert (pd.read_parquet(tmp_path / "samples.parquet")["prompt"] == "=1+2").all()


@pytest.mark.parametrize("name", ["../../esc", "..", "", "a/b", "a\\b", "/abs", "a\nb", "x" * 201])
def test_names_stay_in_their_folder(tmp_path, carbon_reward, name):
    with pytest.raises(ValueError, match="the name of a sampler names a folder"):
        Comparison(tiny(), RingCount(), {name: BestOfN()}, ["m"], str(tmp_path / "out"), budgets=[100])
    with pytest.raises(ValueError, match="method names a folder"):
        module(carbon_reward, tmp_path / "out", method=name)
    run = make_run(tmp_path / "run", ["only"])
    (run / "summary.json").write_text(json.dumps({"methods": {name: {"reward": 1.0}}}))
    with pytest.raises(ValueError, match="summary.json' names a folder"):
        write_report(run)
    assert not (tmp_path / "out").exists()


@pytest.fixture
def memory(monkeypatch):
    """A machine of 64 GiB."""

    class Memory:
        total = 64 * 2**30

    monkeypatch.setattr("psutil.virtual_memory", lambda: Memory)


@pytest.mark.parametrize(
    ("build", "what"),
    [
        (lambda: LiDARModule(tiny(), RingCount(), Lookahead(2, 10**9)), "a bank of n=1000000000 lookaheads"),
        (lambda: PromptDataModule(["a", "b"], samples=10**12), "samples=1000000000000 of 2 prompts"),
        (
            lambda: Comparison(tiny(), RingCount(), {"a": BestOfN()}, ["m"], "out", samples=10**12),
            "samples=1000000000000 of 1 prompts",
        ),
        (lambda: add_lora(tiny(), LoRA(rank=10**7)), "LoRA of rank 10000000 on 8 layers"),
    ],
)
def test_absurd_sizes_are_refused_at_once(memory, build, what):
    with pytest.raises(ValueError, match=f"{what} would take at least .* GiB of memory, and this machine has 64 GiB"):
        build()


def test_the_memory_of_adapters(memory, monkeypatch):
    """Each of two blocks of width 32 has layers 32 to 96, 32 to 32, 32 to 128 and back: 512 parameters of each rank."""
    told = []
    monkeypatch.setattr(
        "lidar_lightning.backbones.adapters.check_memory", lambda what, count, each: told.append(count * each)
    )
    backbone = tiny()
    add_lora(backbone, LoRA(rank=3))
    trained = sum(p.numel() for p in backbone.parameters() if p.requires_grad)
    assert told == [trained * 16] == [3 * 2 * 512 * 16]


def test_the_home_folder_in_every_path_of_a_run(at_home):
    config = configuration(at_home, "run", samples=4)
    settings = yaml.safe_load(config.read_text())
    (at_home / "prompts.txt").write_text("m\n")
    (at_home / "training.txt").write_text("CCO\n")
    adapted_checkpoint(at_home / "dpo.ckpt")
    settings["model"]["init_args"] |= {"out": "~/run", "training_data": "~/training.txt"}
    settings["model"]["init_args"]["backbone"]["init_args"]["pretrained_model_name_or_path"] = "~/tiny"
    settings["data"]["init_args"]["prompts"] = "~/prompts.txt"
    config.write_text(yaml.safe_dump(settings))
    assert main(["predict", "-c", "~/run.yaml", "--ckpt_path=~/dpo.ckpt"]) == 0
    assert len(read_csv(at_home / "run" / "samples.csv")) == 4 and (at_home / "run" / "config.yaml").is_file()
    assert main(["report", "~/run"]) == 0
    data = PreferenceDataModule("~/run/banks", RingCount(), validation=0)
    assert data.path == at_home / "run" / "banks"
    assert BankStore("~/run/banks").folder == at_home / "run" / "banks"
    assert RunFolder("~/run", {}).folder == at_home / "run"


def test_objects_of_python_stay_in_one_process(tmp_path):
    settings = {"samplers": {"a": BestOfN()}, "prompts": "m", "steps": 2, "budgets": [4], "out": str(tmp_path)}
    with pytest.raises(ValueError, match="`lidar compare --config FILE --processes 2`"):
        compare(processes=2, backbone=tiny(), reward=RingCount(), **settings)
