"""`lidar rounds`, killed at a random moment, ends as an undisturbed run. `--kills 5` kills it that often."""

import random

import pytest
import torch

from lidar_lightning.cli import main
from tests.conftest import tiny
from tests.modules.test_kills import disturb, kills, weights  # noqa: F401

ROUNDS = """
backbone:
  class_path: lidar_lightning.UDLM.from_pretrained
  init_args: {{pretrained_model_name_or_path: {model}}}
reward:
  class_path: lidar_lightning.rewards.CallableReward
  init_args: {{path: tests.conftest:carbons}}
lookahead:
  class_path: lidar_lightning.Lookahead
  init_args: {{steps: 4, n: 40}}
guidance: {{restart: 0.6, ess: 0.5}}
rounds: {rounds}
samples: 40
steps: 8
keep: 20
tuning_steps: 30
pairs: 64
batch_size: 8
training_data: {training}
out: {out}
"""


@pytest.mark.slow
def test_rounds_killed_at_random_moments(tmp_path, kills, record_property):  # noqa: F811
    tiny().save_pretrained(tmp_path / "tiny")
    (tmp_path / "training.txt").write_text("CCO\n")
    for name in ("whole", "killed"):
        places = {"model": tmp_path / "tiny", "out": tmp_path / name, "training": tmp_path / "training.txt"}
        (tmp_path / f"{name}.yaml").write_text(ROUNDS.format(rounds=1 + kills, **places))
    assert main(["rounds", "-c", str(tmp_path / "whole.yaml")]) == 0
    out, command = tmp_path / "killed", ["rounds", "-c", str(tmp_path / "killed.yaml")]
    count = disturb(lambda: command, out, 12.0, kills, random.Random(3))
    assert main(command) == 0
    for name in ("scores/carbons.csv", "curve.csv"):
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    for name, value in weights(tmp_path / "whole" / "last.ckpt").items():
        torch.testing.assert_close(weights(out / "last.ckpt")[name], value, rtol=1e-5, atol=1e-7)
    record_property("killed", count)
