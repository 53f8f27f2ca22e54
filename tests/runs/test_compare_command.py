"""`lidar compare`: YAML, own samplers, several processes, bad input."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lidar_lightning import ValueModule
from lidar_lightning.cli import main
from lidar_lightning.utils.describe import describe

CONFIG = """
backbone: {{class_path: lidar_lightning.UDLM.from_pretrained, init_args: {{pretrained_model_name_or_path: {model}}}}}
reward: {{class_path: lidar_lightning.rewards.RingCount}}
prompts: m
samples: 2
steps: 4
budgets: [8]
seeds: [0, 1]
out: {out}
samplers:
  best-of-n: {{class_path: lidar_lightning.samplers.BestOfN}}
  own: {{class_path: {own}}}
"""


VALUE = """
  svdd-mc:
    class_path: lidar_lightning.samplers.SVDD
    init_args:
      value: {{class_path: lidar_lightning.ValueModule.from_checkpoint, init_args: {{path: {path}}}}}
"""


def test_a_fitted_value_serves_svdd_from_yaml(model, tmp_path, monkeypatch):
    """`lidar fit -c qm9/value`, then the entry that its first lines show."""
    model.save_pretrained(tmp_path / "model")
    config = Path(__file__).parents[2] / "configs" / "qm9" / "value.yaml"
    options = {
        "model.init_args.shape": "[12]",
        "data.init_args.backbone.init_args.pretrained_model_name_or_path": tmp_path / "model",
        "data.init_args.samples": 4,
        "data.init_args.steps": 4,
        "trainer.max_epochs": 1,
        "trainer.accelerator": "cpu",
        "trainer.logger": "false",
        "trainer.enable_progress_bar": "false",
    }
    monkeypatch.chdir(tmp_path)
    assert main(["fit", "-c", str(config), *(f"--{name}={value}" for name, value in options.items())]) == 0
    text = CONFIG.format(model=tmp_path / "model", out=tmp_path / "out", own="lidar_lightning.samplers.SMC")
    text += VALUE.format(path="outputs/qm9/value/last.ckpt")[1:]
    (tmp_path / "compare.yaml").write_text(text)
    assert main(["compare", "--config", "compare.yaml"]) == 0
    rows = json.loads((tmp_path / "out" / "summary.json").read_text())["methods"]
    assert rows["svdd-mc @ 8"]["calls"] == 8 and rows["svdd-mc @ 8"]["reward_calls"] == 20
    module = ValueModule.from_checkpoint("outputs/qm9/value/last.ckpt")
    settings = json.loads((tmp_path / "out" / "svdd-mc @ 8" / "run.json").read_text())
    assert settings["sampler"]["value"] == describe(module)
    torch.save({"state_dict": {}}, tmp_path / "other.ckpt")
    for path, message in (("nowhere.ckpt", "no checkpoint"), ("other.ckpt", "no checkpoint of `lidar fit`")):
        with pytest.raises(ValueError, match=message):
            ValueModule.from_checkpoint(path)


def readme_example():
    """The sampler that the docs add."""
    text = (Path(__file__).parents[2] / "docs" / "how-to" / "own-sampler.md").read_text()
    return next(part.split("```")[0] for part in text.split("```python\n") if part.startswith("# batches.py"))


@pytest.mark.slow
def test_processes_share_a_comparison_with_an_own_sampler(model, tmp_path, monkeypatch):
    (tmp_path / "batches.py").write_text(readme_example())
    model.save_pretrained(tmp_path / "model")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "batches", raising=False)
    environment = {"PYTHONPATH": f"{Path(__file__).parents[2]}:{tmp_path}", "OMP_NUM_THREADS": "1"}
    for out in ("one", "two"):
        text = CONFIG.format(model=tmp_path / "model", out=tmp_path / out, own="batches.Batches")
        (tmp_path / f"{out}.yaml").write_text(text)
    assert main(["compare", "--config", str(tmp_path / "one.yaml"), "--processes", "1"]) == 0
    command = [sys.executable, "-m", "lidar_lightning.cli", "compare", "--config", "two.yaml", "--processes", "2"]
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, timeout=300)
    rows = [json.loads((tmp_path / out / "summary.json").read_text())["methods"] for out in ("one", "two")]
    assert list(rows[0]) == ["vanilla", "best-of-n @ 8", "own @ 8"]
    assert all(rows[0][row][key] == rows[1][row][key] for row in rows[0] for key in ("reward", "nfe"))


def test_command_line_reports_bad_input(tmp_path, capsys):
    assert main(["compare", "--config", str(tmp_path / "missing.yaml")]) == 2
    assert "missing.yaml': it is neither a file nor the name of one that ships" in capsys.readouterr().err
