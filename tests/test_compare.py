"""`lidar compare`: equal budgets, resume, shared work, tables, and a new sampler in a few lines."""

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch

from lidar_lightning import UDLM, Lookahead
from lidar_lightning.backbones import smiles
from lidar_lightning.cli import main
from lidar_lightning.compare import Comparison, compare, interval
from lidar_lightning.rewards import QED, RingCount
from lidar_lightning.samplers import SMC, BestOfN, LiDAR, PlannedLiDAR

SAMPLERS = {"best-of-n": BestOfN(), "smc": SMC(every=2), "lidar": LiDAR(Lookahead(2, 4))}


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return UDLM(len(smiles.VOCABULARY), 12, hidden_dim=16, n_blocks=1, n_heads=2, cond_dim=16, name="tiny").eval()


def settings(model, out, **changes):
    given = {"samplers": SAMPLERS, "prompts": "m", "samples": 3, "steps": 4, "budgets": [8, 16], "seeds": [0, 1]}
    return {"backbone": model, "reward": RingCount(), "out": str(out), "metrics": [QED()], **given, **changes}


def test_every_row_keeps_its_budget(model, tmp_path):
    report = compare(**settings(model, tmp_path))
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert list(summary["methods"]) == ["vanilla"] + [f"{name} @ {b}" for b in (8, 16) for name in SAMPLERS]
    assert summary["methods"]["vanilla"]["nfe"] == 4
    for row, numbers in summary["methods"].items():
        if row != "vanilla":
            assert 0.6 * int(row.split("@ ")[1]) <= numbers["nfe"] <= int(row.split("@ ")[1])
        assert {"reward", "qed_mean"} & numbers.keys() and numbers["backward"] == 0 and numbers["peak_mib"] > 0
        table = pd.read_csv(tmp_path / row / "samples.csv")
        assert len(table) == 3 and {"ring_count", "qed"} <= set(table)
    assert len(summary["curves"]["reward"]["smc"]) == 2 and "qed" in summary["curves"]
    page = Path(report).read_text()
    assert "Equal compute" in page and "smc @ 16" in page


def test_it_goes_on_where_it_stopped(model, tmp_path, monkeypatch):
    left = Comparison(**settings(model, tmp_path))
    plain, drawn = Comparison.draw, []

    def stopped(self, cell, prompt):
        if len(drawn) == 3:
            raise KeyboardInterrupt
        drawn.append(cell)
        return plain(self, cell, prompt)

    monkeypatch.setattr(Comparison, "draw", stopped)
    with pytest.raises(KeyboardInterrupt):
        left.work()
    monkeypatch.undo()
    again = []
    monkeypatch.setattr(Comparison, "draw", lambda self, cell, prompt: again.append(cell) or plain(self, cell, prompt))
    compare(**settings(model, tmp_path))
    assert len(again) == len(left.cells) - 3 and not set(drawn) & set(again)
    compare(**settings(model, tmp_path / "whole"))
    rows = [json.loads((tmp_path / at / "summary.json").read_text())["methods"] for at in (".", "whole")]
    assert all(rows[0][row]["reward"] == rows[1][row]["reward"] for row in rows[0])
    with pytest.raises(ValueError, match="holds a run of other settings .*temperature"):
        compare(**settings(model, tmp_path, temperature=2.0))


def test_pilots_are_reported_and_do_not_depend_on_what_is_drawn_first(model, tmp_path):
    rows = {}
    for seeds in ((0, 1), (1, 0)):
        lookaheads = [Lookahead(1), Lookahead(2)]
        planned = PlannedLiDAR(lookaheads, [2, 4], ["pilot"], samples=2, repetitions=1, references=4)
        given = {"samplers": {"planned": planned}, "budgets": [8], "seeds": list(seeds), "metrics": []}
        compare(**settings(model, tmp_path / str(seeds), **given))
        rows[seeds] = json.loads((tmp_path / str(seeds) / "summary.json").read_text())["methods"]["planned @ 8"]
    assert all(rows[0, 1][key] == rows[1, 0][key] for key in ("reward", "nfe", "pilot_calls"))
    assert rows[0, 1]["nfe"] <= 8 and rows[0, 1]["pilot_calls"] > 4 * 4


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


def readme_example():
    """The sampler that the README adds."""
    text = (Path(__file__).parent.parent / "README.md").read_text()
    return next(part.split("```")[0] for part in text.split("```python\n") if part.startswith("# restart.py"))


@pytest.mark.slow
def test_processes_share_a_comparison_with_an_own_sampler(model, tmp_path):
    (tmp_path / "restart.py").write_text(readme_example())
    model.save_pretrained(tmp_path / "model")
    for out, processes in (("one", "1"), ("two", "2")):
        text = CONFIG.format(model=tmp_path / "model", out=tmp_path / out, own="restart.Restart")
        (tmp_path / "compare.yaml").write_text(text)
        command = [sys.executable, "-m", "lidar_lightning.cli", "compare", "--config", "compare.yaml"]
        environment = {"PYTHONPATH": f"{Path(__file__).parent.parent}:{tmp_path}", "OMP_NUM_THREADS": "1"}
        subprocess.run([*command, "--processes", processes], cwd=tmp_path, env=environment, check=True, timeout=300)
    rows = [json.loads((tmp_path / out / "summary.json").read_text())["methods"] for out in ("one", "two")]
    assert list(rows[0]) == ["vanilla", "best-of-n @ 8", "own @ 8"]
    assert all(rows[0][row][key] == rows[1][row][key] for row in rows[0] for key in ("reward", "nfe"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"samplers": {}}, "needs samplers"),
        ({"samplers": {"vanilla": BestOfN()}}, "none of them called 'vanilla'"),
        ({"budgets": []}, "budgets and seeds"),
        ({"budgets": [3]}, "best-of-N needs at least 4 network calls per sample .* got a budget of 3"),
        ({"prompts": [""]}, "prompts must not be empty"),
    ],
)
def test_bad_input_is_named(model, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        compare(**settings(model, tmp_path, **changes))


def test_command_line_reports_bad_input(tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["compare", "--config", str(tmp_path / "missing.yaml")])
    assert stopped.value.code == 2 and "File does not exist" in capsys.readouterr().err


def test_interval_is_the_normal_one():
    values = torch.tensor([1.0, 2.0, 3.0, 6.0])
    low, mean, high = interval(values)
    assert mean == 3 and high - mean == pytest.approx(mean - low) == pytest.approx(1.96 * values.std().item() / 2)
    assert interval(values[:1]) == (1, 1, 1)
