"""`lidar sample` is `lidar predict` with the shipped configuration of a model."""

import json
from pathlib import Path

import pytest
import yaml

from lidar_lightning.cli import main
from lidar_lightning.commands.sample import composed, config_of, reward_of
from lidar_lightning.utils.tables import read_csv
from tests.conftest import tiny, tiny_mdlm
from tests.pipelines import build

ROOT = Path(__file__).parents[2]


def shipped(name):
    return yaml.safe_load((ROOT / "configs" / f"{name}.yaml").read_text())


def test_molecules_take_the_recommended_settings(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "outputs" / "sample-1").mkdir(parents=True)
    made = composed(["--model", "udlm-qm9-small", "--reward", "QED", "--samples", "2000", "--seed", "3"])
    own, ours = made["model"]["init_args"], shipped("qm9/lidar")["model"]["init_args"]
    same = ("backbone", "lookahead", "steps", "ess", "restart", "candidates", "rounds")
    assert {key: own[key] for key in same} == {key: ours[key] for key in same}
    assert own["reward"] == {"class_path": "lidar_lightning.rewards.QED"} and own["seed"] == 3
    assert [m["class_path"] for m in own["metrics"]] == ["lidar_lightning.rewards.Validity"]
    assert own["out"] == "outputs/sample-2"
    assert made["data"]["init_args"] == {"prompts": "molecule", "samples": 2000, "batch_size": 2000}
    assert composed(["--model", "udlm-qm9-small"])["data"]["init_args"]["samples"] == 64


def test_tokens_are_kept():
    backbone = composed(["--model", "udlm-qm9-small", "--keep", "C1CC1*O"])["model"]["init_args"]["backbone"]
    assert backbone["init_args"] == {"pretrained_model_name_or_path": "udlm-qm9-small", "keep": "C1CC1*O"}


def test_pictures_take_prompts(tmp_path):
    made = composed(["a red square", "a blue circle", "--model", "shapes-sd", "--out", str(tmp_path)])
    assert made["data"] == {
        "class_path": "datamodules.PromptDataModule",
        "init_args": {"prompts": ["a red square", "a blue circle"], "samples": 4, "batch_size": 64},
    }
    assert made["model"]["init_args"]["scale"] == shipped("shapes/lidar")["model"]["init_args"]["scale"]


def test_the_configuration_is_that_of_the_model_or_of_its_class(tmp_path):
    assert config_of("stable-diffusion-v1-5/stable-diffusion-v1-5@main") == ROOT / "configs" / "sd15" / "lidar.yaml"
    assert config_of("kuleshov-group/udlm-qm9") == ROOT / "configs" / "qm9" / "lidar.yaml"
    assert config_of("shapes-flux") == ROOT / "configs" / "shapes-flux" / "lidar.yaml"
    build("StableDiffusionXL").save_pretrained(tmp_path / "mine")
    tiny().save_pretrained(tmp_path / "molecules")
    tiny_mdlm().save_pretrained(tmp_path / "masks")
    assert config_of("mdlm-qm9-small") == config_of(str(tmp_path / "masks")) == ROOT / "configs/qm9-masks/lidar.yaml"
    assert config_of(str(tmp_path / "mine")) == ROOT / "configs" / "sdxl" / "lidar.yaml"
    assert config_of(str(tmp_path / "molecules")) == ROOT / "configs" / "qm9" / "lidar.yaml"


def test_a_reward_is_a_class_or_a_function():
    assert reward_of("RingCount") == {"class_path": "lidar_lightning.rewards.RingCount"}
    assert reward_of("mine.Reward") == {"class_path": "mine.Reward"}
    assert reward_of("mine:rate")["init_args"] == {"path": "mine:rate"}


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--samples", "4"], "--model is missing: give udlm-qm9-small, mdlm-qm9-small, shapes-sd or shapes-flux"),
        (["--model", ""], "--model is missing"),
        (["a circle", "--model", "shapes_sd"], "did you mean shapes-sd?"),
        ([" ", "--model", "shapes-sd"], "prompt 0 is ' '"),
        (["--model", "some/model"], "no shipped configuration is known for the model 'some/model': say whose"),
        (["--model", "shapes-sd"], "give shapes-sd a prompt"),
        (["--model", "udlm-qm9-small", "--samples", "x"], "invalid int value: 'x'"),
        (["--model", "udlm-qm9-small", "--samples", "0"], "samples and batch_size must be at least 1, got 0"),
        (["--model", "udlm-qm9-small", "--reward", "RingCont"], "did you mean lidar_lightning.rewards.RingCount?"),
        (["--model", "udlm-qm9-small", "--reward", "Nonsense"], "there are ADMET, QED, "),
        (["--model", "udlm-qm9-small", "--reward", ""], "--reward is empty"),
        (["--model", "udlm-qm9-small", "--reward", "ADMET"], "rewards.ADMET needs endpoint: give a class_path"),
        (["--model", "udlm-qm9-small", "--out", ""], "--out is empty"),
        (["--model", "udlm-qm9-small", "--out", "taken"], "taken is a file; give another folder as out"),
        (["--model", "udlm-qm9-small", "--out", "taken/in"], "taken is a file; give another folder as out"),
        (["--model", "udlm-qm9-small", "-c", "taken"], "the configuration taken is no YAML"),
        (["--model", "udlm-qm9-small", "--seed", "-1"], "--seed must be at least 0, got -1"),
        (["--model", "udlm-qm9-small", "-c", "qm9/compare"], "--config qm9/compare draws no samples"),
        (["--model", "udlm-qm9-small", "-c", "qm9/dpo"], "--config qm9/dpo draws no samples"),
        (["--model", "udlm-qm9-smal"], "did you mean udlm-qm9-small?"),
        (["a circle", "--modle", "shapes-sd"], "there is no option --modle: did you mean --model?"),
        (["--model", "udlm-qm9-small", "--sample", "3"], "there is no option --sample: did you mean --samples?"),
    ],
)
def test_bad_input_is_one_line(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("taken").write_text("x: [1")
    assert main(["sample", *arguments]) == 2
    printed = capsys.readouterr().err
    assert message in printed and printed.count("\n") == 1, printed


def test_it_draws_writes_and_says_where(tmp_path, capfd, monkeypatch):
    """Nothing but the table and the paths is printed; what it wrote runs again from its configuration."""
    tiny().save_pretrained(tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    given = ["--model", str(tmp_path / "model"), "--reward", "tests.conftest:carbons", "--samples", "3", "--out", "run"]
    assert main(["sample", *given]) == 0
    printed = capfd.readouterr()
    assert printed.err == "" and len(printed.out.splitlines()) <= 8
    assert "mean of 3 samples" in printed.out and str(Path("run") / "report.html") in printed.out
    numbers = json.loads(Path("run/summary.json").read_text())["methods"]["lidar"]
    assert f"{numbers['reward']:.2f}" in printed.out and f"{numbers['lookahead_reward']:.2f}" in printed.out
    assert len(read_csv(Path("run/samples.csv"))) == 3
    assert main(["predict", "-c", "run/config.yaml"]) == 0
