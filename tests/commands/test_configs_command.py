"""`lidar config`, and `-c NAME`."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from lidar_lightning.cli import main
from lidar_lightning.commands.configs import described, find_config, shipped, with_paths

ROOT = Path(__file__).parents[2]


def test_it_lists_every_configuration_with_the_command_that_takes_it(capsys):
    files = sorted((ROOT / "configs").rglob("*.yaml"))
    assert list(shipped().values()) == files and len(files) > 15
    assert main(["config"]) == 0
    listed = capsys.readouterr().out
    for name, path in shipped().items():
        shown, command, text = described(name, path)
        assert command in ("fit", "predict", "compare", "rounds") and 5 < len(text) < 110 and f"  {shown}" in listed, (
            name
        )


def test_it_prints_one_as_it_is(capsys):
    assert main(["config", "qm9/lidar"]) == 0
    printed = capsys.readouterr().out
    assert printed == (ROOT / "configs" / "qm9" / "lidar.yaml").read_text() and yaml.safe_load(printed)["model"]


def test_a_file_comes_before_a_name_and_both_before_a_message(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_config("qm9/lidar") == ROOT / "configs" / "qm9" / "lidar.yaml"
    (tmp_path / "qm9").mkdir()
    (tmp_path / "qm9" / "lidar").write_text("own: 1")
    assert find_config("qm9/lidar") == Path("qm9/lidar")
    with pytest.raises(ValueError, match="did you mean shapes/lidar"):
        find_config("configs/shapes/lidar.yaml")
    with pytest.raises(ValueError, match=r"no configuration 'qm9/lidr'.* did you mean qm9/lidar"):
        find_config("qm9/lidr")


def test_names_become_paths_wherever_they_stand(tmp_path):
    path = str(find_config("qm9/dpo"))
    given = ["-c", "qm9/dpo", "--trainer.max_steps", "3", "--config=qm9/dpo", "--config", "qm9/dpo", "-c"]
    want = ["-c", path, "--trainer.max_steps", "3", f"--config={path}", "--config", path, "-c"]
    assert list(with_paths(given)) == want


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["nothing"], "no configuration 'nothing'"),
        (["a", "b"], "takes one name, got a b"),
        (["qm9-masks"], "did you mean qm9-masks/"),
    ],
)
def test_bad_names_are_one_line(arguments, message, capsys):
    assert main(["config", *arguments]) == 2
    printed = capsys.readouterr().err
    assert message in printed and printed.count("\n") == 1


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["predict", "qm9/lidar"], "give a configuration as `lidar predict -c qm9/lidar`"),
        (
            ["rounds", "-c", "qm9/lidar"],
            "qm9/lidar is a configuration of `lidar predict`: run `lidar predict -c qm9/lid",
        ),
        (["predict", "--config", "qm9/rounds"], "run `lidar rounds -c qm9/rounds`"),
        (["fit", "-c", "shapes/compare"], "run `lidar compare -c shapes/compare`"),
        (["validate", "-c", "qm9/lidar"], "run `lidar predict -c qm9/lidar`"),
    ],
)
def test_a_configuration_of_another_command_is_named(arguments, message, capsys):
    assert main(arguments) == 2
    printed = capsys.readouterr().err
    assert message in printed and printed.count("\n") == 1


LIGHT = """
import sys
from lidar_lightning.cli import main
assert main(sys.argv[1:]) == 0
heavy = {"torch", "lightning", "jsonargparse", "transformers"} & set(sys.modules)
assert not heavy, heavy
"""


def test_usage_and_help_import_nothing_heavy_and_take_less_than_half_a_second():
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for arguments in (["--help"], ["predict", "--help"], ["sample", "--help"], ["config"], ["config", "sd15/lidar"]):
        before = os.times()
        subprocess.run(
            [sys.executable, "-c", LIGHT, *arguments], env=environment, check=True, stdout=subprocess.DEVNULL
        )
        after = os.times()
        spent = after.children_user + after.children_system - before.children_user - before.children_system
        assert spent < 0.5, (arguments, spent)
