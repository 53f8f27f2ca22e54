"""The figures and the table of the goal-directed tasks, and that a cell on disk is not made again."""

import pandas as pd
import pytest
import torch

from benchmarks import task_methods, tasks
from benchmarks.reinvent_style import Recurrent, optimise
from lidar_lightning.backbones.smiles import BOS, EOS, PAD, decode, tokens_of


def test_the_area_under_the_curve_of_the_best_ten():
    assert tasks.top([0.5, 1.0], 10) == pytest.approx(0.15) and tasks.top([0.0] * 90 + [1.0] * 10) == 1.0
    # Ten molecules of score 1 within the first ten calls: from 0 to 1 over a tenth of the calls, then 1.
    assert tasks.area([1.0] * 10, 100) == pytest.approx(0.95)
    assert tasks.area([0.0] * 50 + [1.0] * 10, 100) == pytest.approx(0.45)


def test_cells_are_cut_at_the_budget_kept_and_tabulated(tmp_path, monkeypatch):
    made = []

    def method(cell):
        made.append(cell.seed)
        strings = ["C" * (1 + n % 7) + "O" * (n // 7 % 5) for n in range(60)]
        while cell.left():
            assert len(cell.score(strings)) == 60

    monkeypatch.setitem(task_methods.METHODS, "chains", method)
    monkeypatch.setattr(tasks, "TASKS", ["qed"])
    arguments = dict(tasks=["qed"], methods=["chains"], calls=30, table=str(tmp_path / "table"))
    for seeds, out in (([0], "out"), ([0, 1], "out"), ([0, 1], "elsewhere")):
        tasks.main(out=str(tmp_path / out), seeds=seeds, **arguments)
    table = pd.read_csv(tmp_path / "out" / "qed" / "chains" / "1.csv")
    assert made == [0, 1] and len(table) == 30 and table["sample"].is_unique
    rows = pd.read_csv(tmp_path / "table.csv")
    assert rows["seed"].tolist() == [0, 1]
    assert rows["best"].tolist() == pytest.approx(2 * [table["score"].max()], rel=1e-4)
    assert "| chains | 2 |" in (tmp_path / "table.md").read_text()


def test_the_recurrent_model_samples_what_it_is_sure_of_and_learns_what_scores():
    torch.manual_seed(0)
    model, wanted = Recurrent(), tokens_of(["CCO", "CC"], 24)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(40):
        loss = -model.log_probs(wanted).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    drawn = model.sample(64, torch.Generator().manual_seed(0))
    assert (drawn[:, 0] == BOS).all() and ((drawn == EOS).sum(1) == 1).all() and (drawn[:, -1] == PAD).all()
    assert {"CCO", "CC"} >= set(decode(drawn)) and model.log_probs(wanted).exp().sum() > 0.9
    seen = []

    def score(strings):
        seen.append(sum(text == "CC" for text in strings) / len(strings))
        return torch.tensor([float(text == "CC") for text in strings])

    optimise(model, score, lambda: len(seen) < 30, 0)
    assert sum(seen[-5:]) / 5 > sum(seen[:5]) / 5 + 0.2
