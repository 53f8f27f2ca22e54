import os

import pytest
import torch
import yaml

from lidar_lightning import cli
from lidar_lightning.utils.errors import one_line
from tests.conftest import tiny
from tests.modules.test_lidar_module import configuration


def failing(capsys, *arguments: str) -> str:
    """The line of a command that must end with exit code 2, and with one line."""
    code = cli.main(arguments)
    printed = capsys.readouterr().err
    error = printed[printed.index("lidar: error: ") :]
    assert code == 2 and "Traceback" not in printed and error.count("\n") == 1, printed
    return error


def test_usage(capsys):
    assert cli.main([]) == 0 and "lidar predict -c" in capsys.readouterr().out
    assert "unknown command 'fly'" in failing(capsys, "fly")


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (["--model.init_args.lookahead.init_args.n=0"], "n must be at least 1, got 0"),
        (["--model.init_args.temperature=-2"], "temperature (lambda) must be finite and at least 0, got -2"),
        (["--model.init_args.reward.init_args.path=tests.conftest:nothing"], "nothing to import at"),
        (
            ["--model.init_args.reward=lidar_lightning.rewards.Unknown"],
            "model.reward: no class 'lidar_lightning.rewards.Unk",
        ),
        (["--model.init_args.reward=RingCont"], "did you mean lidar_lightning.rewards.RingCount?"),
        (
            ["--model.init_args.stps=3"],
            "model: lidar_lightning.LiDARModule takes no 'stps': did you mean steps or stop?",
        ),
        (["--model.init_args.lookahead.init_args.n=x"], "error: model.lookahead.n: expected int, got x"),
        (
            ["--model.init_args.lookahead.init_args.n=-1"],
            "error: model.lookahead: lookahead n must be at least 1, got -1",
        ),
        (["--model.init_args.temperature=x"], "error: model.temperature: expected float or null, got x"),
        (["--model=os.getcwd"], "os.getcwd does not correspond to a subclass of LightningModule"),
        (["--trainer.acelerator=cpu"], "no option --trainer.acelerator: did you mean --trainer.accelerator"),
        (["--trainer.devices=0"], "the trainer cannot run with these settings (accelerator cpu, devices 0"),
        (["--model.init_args.training_data=nowhere.txt"], "no SMILES file at nowhere.txt"),
        (["--data.init_args.prompts= "], "prompts must not be empty"),
        (["--data.init_args.samples=0"], "samples and batch_size must be at least 1"),
        (
            ["--model.init_args.backbone.init_args.pretrained_model_name_or_path=nowhere"],
            "no UDLM checkpoint at 'nowhere'",
        ),
        (["--ckpt_path=nowhere.ckpt"], "nowhere.ckpt"),
        (["--model.init_args.steps=0"], "at least 1 step, got 0"),
    ],
)
def test_bad_input_has_a_message_and_exit_code_2(capsys, tmp_path, option, message):
    assert message in failing(capsys, "predict", "-c", str(configuration(tmp_path, "run", samples=4)), *option)


@pytest.mark.parametrize(
    ("body", "message"),
    [("[float('nan')] * len(samples)", "NaN or infinite"), ("[1.0]", "returned 1 scores for 30 samples")],
)
def test_bad_rewards(capsys, tmp_path, monkeypatch, body, message):
    (tmp_path / "my_rewards.py").write_text(f"def bad(samples, prompts):\n    return {body}\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "my_rewards", raising=False)
    option = "--model.init_args.reward.init_args.path=my_rewards:bad"
    assert message in failing(capsys, "predict", "-c", str(configuration(tmp_path, "run", samples=4)), option)


def test_checkpoint_of_another_architecture(capsys, tmp_path):
    state = {f"backbone.{k}": v for k, v in tiny(dim=16).state_dict().items()}
    torch.save({"state_dict": state, "pytorch-lightning_version": "2.6.0"}, tmp_path / "other.ckpt")
    config = str(configuration(tmp_path, "run", samples=4))
    assert "another architecture" in failing(capsys, "predict", "-c", config, f"--ckpt_path={tmp_path}/other.ckpt")


def test_full_disk(capsys, tmp_path, monkeypatch):
    config = str(configuration(tmp_path, "run", samples=4))

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    error = failing(capsys, "predict", "-c", config)
    assert "cannot write" in error and "No space left on device" in error


@pytest.mark.parametrize(
    ("text", "message"), [(None, "no SMILES file"), ("", "holds no SMILES"), ("\n\n", "all empty")]
)
def test_bad_training_files(capsys, tmp_path, text, message):
    path = tmp_path / "molecules.smi"
    if text is not None:
        path.write_text(text)
    config = {
        "model": {"class_path": "lidar_lightning.PretrainModule", "init_args": {"backbone": "lidar_lightning.UDLM"}},
        "data": {"class_path": "datamodules.QM9DataModule", "init_args": {"path": str(path)}},
        "trainer": {"max_steps": 1, "logger": False, "enable_checkpointing": False, "enable_progress_bar": False},
    }
    config["model"]["init_args"]["backbone"] = {
        "class_path": "lidar_lightning.UDLM", "init_args": {"hidden_dim": 32, "n_blocks": 1, "n_heads": 2}
    }  # fmt: skip
    (tmp_path / "fit.yaml").write_text(yaml.safe_dump(config))
    assert message in failing(capsys, "fit", "-c", str(tmp_path / "fit.yaml"))


def test_report_of_nothing(capsys, tmp_path):
    assert "summary.json" in failing(capsys, "report", str(tmp_path))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("trainer: {acelerator: cpu}", "the command takes no 'trainer.acelerator': did you mean trainer.accelerator"),
        ("modle: {class_path: lidar_lightning.LiDARModule}", "the command takes no 'modle': did you mean model"),
        ("model: [unclosed", "run.yaml: Problems parsing config"),
        ("", "run.yaml: a configuration is a YAML of keys and values, got nothing"),
        ("\x00", "run.yaml: Problems parsing config"),
    ],
)
def test_bad_yaml_is_named(capsys, tmp_path, text, message):
    (tmp_path / "run.yaml").write_text(text)
    assert message in failing(capsys, "predict", "-c", str(tmp_path / "run.yaml"))


def test_a_fault_of_the_software_is_one_line_and_exit_code_1(capsys, tmp_path, monkeypatch):
    def broken(_):
        raise KeyError("what")

    monkeypatch.setattr("lidar_lightning.runs.report.read_summary", broken)
    assert cli.main(["report", str(tmp_path)]) == 1
    printed = capsys.readouterr().err
    assert (
        printed.startswith("lidar: error: unexpected KeyError: 'what'; this looks like a fault")
        and "--debug" in printed
    )
    assert printed.count("\n") == 1


@pytest.mark.parametrize("arguments", [["--debug", "report"], ["report", "--debug"]])
def test_debug_shows_the_traceback(capsys, tmp_path, arguments):
    assert cli.main([*arguments, str(tmp_path)]) == 2
    printed = capsys.readouterr().err
    assert "Traceback" in printed and printed.splitlines()[-1].startswith("lidar: error: ")


def test_a_long_message_keeps_its_cause_and_its_remedy():
    line, guilty = one_line(ValueError("the cause" + " and more\n" * 1000 + "the remedy"))
    assert guilty and len(line) < 800 and line.startswith("the cause and more") and line.endswith("the remedy")


def test_null_of_a_nested_setting_is_null(tmp_path, monkeypatch):
    seen, lookahead = [], "--model.init_args.lookahead"
    monkeypatch.setattr("lightning.Trainer.predict", lambda self, model, **options: seen.append((model, options)))
    config = str(configuration(tmp_path, "run"))
    nulls = [f"{lookahead}.init_args.preset=null", f"{lookahead}.decoder", "null"]
    assert cli.main(["predict", "-c", config, *nulls]) == 0
    ((module, options),) = seen
    assert module.lookahead.preset is None and module.lookahead.decoder is None
    assert options["weights_only"] is True
