"""Paths, names, tables and sizes of a run as users give them, and the configuration that it keeps."""

import json
from pathlib import Path

import pandas as pd
import pytest
import yaml

from datamodules import PreferenceDataModule, PromptDataModule
from lidar_lightning import BankStore, LiDARModule, Lookahead
from lidar_lightning.backbones.adapters import LoRA, add_lora
from lidar_lightning.cli import main
from lidar_lightning.rewards import RingCount
from lidar_lightning.runs.compare_command import compare_command
from lidar_lightning.runs.comparison import Comparison, compare
from lidar_lightning.runs.folder import RunFolder
from lidar_lightning.runs.report import write_report
from lidar_lightning.runs.used_config import HEADER, write_config
from lidar_lightning.samplers import BestOfN
from lidar_lightning.utils.prompts import read_prompts
from lidar_lightning.utils.smiles_io import read_smiles
from lidar_lightning.utils.tables import escape, read_csv, unescape, write_csv
from tests.conftest import tiny
from tests.modules.test_lidar_module import adapted_checkpoint, configuration, module
from tests.runs.test_report import make_run
from tests.test_cli import failing

FORMULAS = [
    "=cmd|' /C calc'!A0",
    "+C",
    "-C=O",
    "@SUM(A1)",
    "\t=1",
    "'=C",
    "''-C",
    "=C",
    "C=C",
    "'C",
    "",
    "NA",
    'a,"b\nc',
]


def test_escaping_is_undone_and_leaves_no_formula():
    for text in FORMULAS:
        assert unescape(escape(text)) == text and escape(text)[:1] not in list("=+-@\t\r")
    assert [text for text in FORMULAS if escape(text) != text] == FORMULAS[:8]


def test_tables_return_what_was_written(tmp_path):
    table = pd.DataFrame({"prompt": FORMULAS, "index": range(13), "=r()": [-float(i) for i in range(13)]})
    write_csv(tmp_path / "t.csv", table)
    pd.testing.assert_frame_equal(read_csv(tmp_path / "t.csv", dtype={"prompt": str}), table)
    text = (tmp_path / "t.csv").read_text()
    assert "'=r()" in text.splitlines()[0] and ",-3.0" in text and "\n=" not in text and '\n"=' not in text


def test_readers_take_the_escape_away(tmp_path):
    write_csv(tmp_path / "s.csv", pd.DataFrame({"smiles": ["=C", "-C"], "prompt": ["+a", "b"]}))
    write_csv(tmp_path / "p.csv", pd.DataFrame({"prompt": ["=p"], "chosen": ["=C"], "rejected": ["@C"]}))
    assert read_smiles(tmp_path / "s.csv") == ["=C", "-C"] and read_prompts(tmp_path / "s.csv") == ["+a", "b"]
    data = PreferenceDataModule(str(tmp_path / "p.csv"), validation=0)
    data.setup()
    assert data.training[0] == {"prompt": "=p", "chosen": "=C", "rejected": "@C"}


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


@pytest.fixture
def at_home(tmp_path, monkeypatch):
    """~ is a folder `home`, and the working directory is another, which must stay empty."""
    (tmp_path / "home").mkdir()
    (tmp_path / "work").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "work")
    yield tmp_path / "home"
    assert not list((tmp_path / "work").iterdir())


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


def test_objects_of_python_stay_in_one_process(tmp_path):
    settings = {"samplers": {"a": BestOfN()}, "prompts": "m", "steps": 2, "budgets": [4], "out": str(tmp_path)}
    with pytest.raises(ValueError, match="`lidar compare --config FILE --processes 2`"):
        compare(processes=2, backbone=tiny(), reward=RingCount(), **settings)
