"""What --help says is true of the classes and parsers that it stands for."""

import inspect
import re

import pytest

from lidar_lightning import LiDARModule, LiDARSettings
from lidar_lightning.cli import main
from lidar_lightning.commands.configs import shipped
from lidar_lightning.commands.sample import options
from lidar_lightning.commands.texts import COMPARE, HELP, PREDICT, ROUNDS, USAGE
from lidar_lightning.runs.comparison import Comparison
from recipes.rounds import Rounds


@pytest.mark.parametrize("command", [*HELP, "sample"])
def test_every_command_of_the_usage_has_help(command, capsys):
    assert f"\n  {command} " in USAGE
    assert main([command, "--help"]) == 0
    assert capsys.readouterr().out.startswith(f"usage: lidar {command}")


def test_the_settings_of_predict_are_those_of_its_module():
    section = PREDICT.split("as --model.init_args.X:")[1].split("Settings of the data")[0]
    named = {name for line in re.findall(r"^  (\w[\w, ]*?)(?:  |$)", section, re.M) for name in line.split(", ")}
    known = {*inspect.signature(LiDARModule).parameters, *inspect.signature(LiDARSettings).parameters}
    assert named == known - {"self", "backbone", "settings"}


def test_the_options_of_compare_are_parameters():
    named = set(re.findall(r"--([a-z]+)\b", COMPARE)) - {"config", "help", "debug"}
    assert named <= {"processes", *inspect.signature(Comparison).parameters}


def test_the_options_of_rounds_are_parameters():
    named = set(re.findall(r"--([a-z_]+)\b", ROUNDS)) - {"config", "help", "debug", "ckpt_path"}
    assert named <= {*inspect.signature(Rounds).parameters}


def test_configurations_that_help_names_ship():
    texts = "\n".join([USAGE, *HELP.values(), options().format_help()])
    assert set(re.findall(r"-c (\w+/[\w-]+)(?![\w.-])", texts)) <= set(shipped())


def test_all_options_are_listed_on_demand(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["predict", "--help-all"])
    assert "--trainer.accelerator" in capsys.readouterr().out
