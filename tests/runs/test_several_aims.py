"""A run whose reward weighs several: its columns, its molecules by Pareto front, and its rewards before and after."""

import json
import re

import pandas as pd
import pytest
import torch

from lidar_lightning.lookahead import LookaheadBank
from lidar_lightning.rewards import QED, Combined, HeavyAtoms, LogP, Mean, Ramp, RingCount, Substructure, score
from lidar_lightning.runs.finish import finish
from lidar_lightning.runs.folder import RunFolder
from lidar_lightning.runs.parts import Part
from lidar_lightning.runs.report import write_report
from lidar_lightning.runs.summary import all_scores, sample_metrics
from lidar_lightning.utils.tables import read_csv
from tests.conftest import tiny

SAMPLES = ["CCO", "CC(N)=O", "CCCC(N)=O", "C1CC", "CCO"]
BANK = ["CC", "CCN", "CC(N)=O", "CCC"]


def scored(reward, strings):
    return {part.name: score(part, strings, [""] * len(strings)) for part in reward.parts}


def run(folder, reward):
    """The end of a run of five samples from a bank of four."""
    model, home = tiny(length=16), RunFolder(folder, {"modality": "molecule"})
    bank = LookaheadBank.from_smiles(model, BANK, scores=scored(reward, BANK))
    tokens = torch.zeros(5, 16, dtype=torch.int64)
    part = Part(["molecule"] * 5, list(range(5)), tokens, SAMPLES, scored(reward, SAMPLES), 1.0, 8)
    numbers = finish(home, [part], reward, [bank], model, (1, 1), {"method": "lidar"})
    return numbers, (folder / "report.html").read_text()


def test_of_a_mean(tmp_path):
    reward = Mean([Ramp(HeavyAtoms(), 0, 10, name="large"), Substructure("C(N)=O", name="amide")], name="both")
    numbers, page = run(tmp_path, reward)
    table = read_csv(tmp_path / "samples.csv")
    assert list(table)[3:] == ["both", "large", "heavy_atoms", "validity", "amide"]
    assert table["both"].tolist() == pytest.approx([0, 0.4**0.5, 0.6**0.5, 0, 0])
    assert numbers["heavy_atoms"] == pytest.approx((3 + 4 + 6 + 3) / 4), "of valid molecules"
    assert numbers["large"] == pytest.approx(0.4) and "validity" not in numbers
    assert json.loads((tmp_path / "summary.json").read_text())["objectives"] == {"large": True, "amide": True}
    before = read_csv(tmp_path / "lookahead_scores.csv")
    assert before["sample"].tolist() == BANK and before["both"].tolist() == pytest.approx([0, 0, 0.4**0.5, 0])
    (title,) = re.findall("<h4>(By Pareto front.*?)</h4>", page)
    assert title == "By Pareto front of large, amide: 3 of 3, 1 in the first front"
    tiles = page.split(title)[1].split("<h4>")[0]
    assert re.findall(r"front \d", tiles) == ["front 1", "front 2", "front 3"]
    assert re.findall('<code title="(.*?)"', tiles) == ["CCCC(N)=O", "CC(N)=O", "CCO"]
    assert "front 1 · large 0.6 · amide 1" in tiles
    assert page.count(">lookaheads</text>") == 4, "a row above each column's that is not the same everywhere"
    assert len(re.findall(r'<figcaption>validity</figcaption><p class="note">All \d are 1.</p>', page)) == 1
    assert write_report(tmp_path).read_text() == page, "from what is on disk"


def test_of_z_scores(tmp_path):
    """Numbers that are relative to the bank are not shown as of before."""
    _, page = run(tmp_path, Combined([LogP(), RingCount()]))
    assert list(read_csv(tmp_path / "lookahead_scores.csv")) == ["prompt", "sample", "logp", "ring_count"]
    assert page.count(">lookaheads</text>") == 1 and "By Pareto front of logp, ring_count" in page
    assert re.search(r'<figcaption>ring_count</figcaption><p class="note">All \d are 0.</p>', page)


def test_a_single_reward_has_no_front(tmp_path):
    _, page = run(tmp_path, QED())
    assert "By Pareto front" not in page and page.count(">lookaheads</text>") == 1
    assert json.loads((tmp_path / "summary.json").read_text())["objectives"] == {}


def test_a_shape_is_stored_by_what_it_shapes():
    reward = Ramp(LogP(), -1, 1)
    found = all_scores(scored(reward, SAMPLES), reward)
    assert list(found) == ["ramp(logp,-1,1)", "logp", "validity"] and found["ramp(logp,-1,1)"][3] == 0
    parts = [Part(["m"] * 5, list(range(5)), torch.zeros(5, 2), SAMPLES, scored(reward, SAMPLES), 1.0, 1)]
    numbers = sample_metrics(parts, reward)
    assert numbers["reward"] == pytest.approx(found["ramp(logp,-1,1)"].mean().item())
    assert {"filters", "scaffold_diversity", "snn", "logp"} <= numbers.keys() and "kl_score" not in numbers


def test_damaged_objectives_are_named(tmp_path):
    pd.DataFrame({"prompt": ["p"], "index": [0], "sample": ["C"], "qed": [1.0]}).to_csv(
        tmp_path / "samples.csv", index=False
    )
    summary = {"methods": {"a": {"reward": 1.0}}, "reward_name": "qed", "objectives": {"logp": True}}
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    with pytest.raises(ValueError, match='"objectives" in summary.json must be columns of the samples'):
        write_report(tmp_path)


def test_the_lowest_is_best_where_lower_is_better(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "samples.csv").write_text("prompt,index,sample,qed,sa\np,0,C,1,2\n")
    rows = {"a": {"reward": 1.0, "sa": 2.5, "fcd": 3.0}, "b": {"reward": 2.0, "sa": 1.5, "fcd": 4.0}}
    summary = {"methods": rows, "reward_name": "qed", "lower_is_better": ["sa"]}
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    table = write_report(tmp_path).read_text().split("</table>")[0]
    assert [float(text) for text in re.findall("<b>(.*?)</b>", table)] == [3, 2, 1.5]
