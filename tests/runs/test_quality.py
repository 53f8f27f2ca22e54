"""What no reward sees of a comparison, from the files that it leaves; plain samples are drawn once and of no budget."""

import json
import math

import pytest
import torch
from rdkit import Chem
from scipy.stats import wasserstein_distance

from lidar_lightning import UDLM
from lidar_lightning.evaluation.quality import excess, fingerprint_diversity, nelbo_of
from lidar_lightning.rewards import CallableReward, Combined, SyntheticAccessibility
from lidar_lightning.runs.comparison import Comparison, compare
from lidar_lightning.runs.parts import load_part
from lidar_lightning.runs.quality import Measured, quality
from lidar_lightning.samplers import BestOfN
from lidar_lightning.utils.tables import read_csv
from lidar_lightning.utils.tensor_files import load_tensors
from tests.runs.test_compare import settings

LENGTH = CallableReward(lambda samples, _: [len(s) for s in samples], name="length")


def given(model, out, **changes):
    small = {"samplers": {"best": BestOfN()}, "budgets": [8], "samples": 24, "metrics": [], "reward": LENGTH}
    return settings(model, out, **{**small, "references": 70, "temperature": 0.3, **changes})


def strings_of(files):
    return [text for file in files for text in load_part(file)[0].decoded]


def valid(text):
    return bool(text) and Chem.MolFromSmiles(text) is not None


@pytest.mark.parametrize("prompts", [["m"], ["a", "b"]])
def test_columns_are_those_of_the_files(model, tmp_path, prompts):
    page = compare(**given(model, tmp_path, prompts=prompts, seeds=[0, 1]))
    summary = json.loads((tmp_path / "summary.json").read_text())
    facts, gaps = summary["settings"], {"vanilla": [], "best @ 8": []}
    assert facts["references"] == 3 * 24 and 1 < facts["target_effective"] < 72
    means = []
    for prompt in prompts:
        plain = strings_of(sorted((tmp_path / "plain").glob(f"*/parts/{prompt}-*/*.safetensors")))
        values = torch.tensor([0.3 * len(text) for text in plain], dtype=torch.float64)
        assert len(plain) == 72 and len(set(plain)) > 30
        means.append((values.softmax(0) * values).sum().item() / 0.3)
        for row in gaps:
            for seed in ("", "seed-1"):
                table = read_csv(tmp_path / seed / row / "samples.csv")
                own = 0.3 * table[table["prompt"] == prompt]["length"]
                gaps[row].append(wasserstein_distance(own, values, None, values.softmax(0)))
    assert facts["target_reward"] == pytest.approx(sum(means) / len(means))
    for row, found in gaps.items():
        numbers = summary["methods"][row]
        assert numbers["w1"] == pytest.approx(sum(found) / len(found))
        cells = [read_csv(tmp_path / seed / row / "samples.csv")["sample"] for seed in ("", "seed-1")]
        spreads = [fingerprint_diversity(list(strings)) for strings in cells]
        assert numbers["diversity"] == pytest.approx(sum(0.0 if math.isnan(s) else s for s in spreads) / 2)
        assert numbers["calls"] == 4 if row == "vanilla" else 7.6 <= numbers["calls"] <= 8
    with open(page) as file:
        text = file.read()
    assert "<th>w1</th>" in text and "<th>excess nelbo</th>" in text and "target_reward" in text


def test_the_excess_is_over_plain_molecules_of_the_same_reward():
    rng = torch.Generator().manual_seed(0)
    values = torch.randint(0, 3, (300,), generator=rng).double()
    valid_ones = torch.rand(300, generator=rng) < 0.7
    bounds = 10 * values[valid_ones] + torch.randn(int(valid_ones.sum()), generator=rng).double()
    plain = {prompt: Measured(values, valid_ones, bounds) for prompt in ("a", "b", "c")}
    few = torch.tensor([True, False, True])
    own = {
        "a": Measured(torch.tensor([1.0, 2.0, 0.0]).double(), few, torch.tensor([12.0, 7.0]).double()),
        "b": Measured(torch.tensor([2.0, 2.0, 2.0]).double(), few, torch.tensor([20.0, 24.0]).double()),
        "c": Measured(torch.zeros(3).double(), torch.zeros(3, dtype=torch.bool), torch.zeros(0).double()),
    }
    known = values[valid_ones]
    each = [
        excess(own["a"].bounds, torch.tensor([1.0, 0.0]), bounds, known).mean(),
        excess(own["b"].bounds, torch.tensor([2.0, 2.0]), bounds, known).mean(),
    ]
    found = quality(own, plain, 1.0)
    assert found["excess_nelbo"] == pytest.approx(sum(each).item() / 2)
    assert quality({"c": own["c"]}, plain, 1.0)["excess_nelbo"] is None
    rare = {"a": Measured(values, torch.arange(300) < 3, bounds[:3])}
    assert quality({"a": own["a"]}, rare, 1.0)["excess_nelbo"] is None
    others = {"a": Measured(values, valid_ones, None)}
    assert quality({"a": Measured(values[:2], few[:2], None)}, others, 1.0).keys() == {"w1"}


def test_too_few_plain_molecules_are_told(model, tmp_path, caplog):
    compare(**given(model, tmp_path, seeds=[0], references=64))
    plain = strings_of(sorted((tmp_path / "plain").glob("*/parts/m-*/*.safetensors")))
    molecules = sum(map(valid, plain))
    numbers = json.loads((tmp_path / "summary.json").read_text())["methods"]["vanilla"]
    assert molecules < 64 and numbers["excess_nelbo"] is None
    assert f"only {molecules} of 72 plain samples of 'm' are molecules" in caplog.text


def test_lower_is_better_turns_the_tilt_and_not_the_reward(model, tmp_path):
    low = CallableReward(lambda samples, _: [len(s) for s in samples], name="length", higher_is_better=False)
    found = {}
    for reward in (LENGTH, low):
        compare(**given(model, tmp_path / str(reward.higher_is_better), reward=reward, seeds=[0]))
        summary = json.loads((tmp_path / str(reward.higher_is_better) / "summary.json").read_text())
        found[reward.higher_is_better] = summary["settings"]["target_reward"], summary["methods"]["vanilla"]["reward"]
    assert found[True][1] == found[False][1] and found[False][0] < found[True][1] < found[True][0]


def test_nothing_is_drawn_or_bounded_twice(model, tmp_path, monkeypatch, caplog):
    changes = {"seeds": [0]}
    compare(**given(model, tmp_path, **changes, references=0))
    before = json.loads((tmp_path / "summary.json").read_text())["methods"]
    assert not {"w1", "excess_nelbo"} & before["vanilla"].keys() and not (tmp_path / "plain").exists()
    drawn, plain = [], Comparison.draw
    monkeypatch.setattr(Comparison, "draw", lambda self, cell, prompt: drawn.append(cell) or plain(self, cell, prompt))
    compare(**given(model, tmp_path, **changes))
    after = json.loads((tmp_path / "summary.json").read_text())["methods"]
    assert len(drawn) == 3 and all(cell.method == "vanilla" for cell in drawn)
    assert all(after[row][name] == before[row][name] for row in before for name in before[row])
    bounded = []
    monkeypatch.setattr(
        "lidar_lightning.runs.quality.nelbo_of", lambda *given: bounded.append(given) or nelbo_of(*given)
    )
    compare(**given(model, tmp_path, **changes))
    assert len(drawn) == 3 and not bounded
    (file,) = (tmp_path / "vanilla" / "nelbo").glob("*")
    file.write_bytes(file.read_bytes()[:-3])
    compare(**given(model, tmp_path, **changes))
    assert len(bounded) == 1 and f"{file} is damaged" in caplog.text
    assert json.loads((tmp_path / "summary.json").read_text())["methods"] == after
    (part,) = (tmp_path / "best @ 8" / "parts").glob("m-*/*.safetensors")
    (kept,) = (tmp_path / "best @ 8" / "nelbo").glob("*")
    samples = load_part(part)[0].samples
    torch.testing.assert_close(load_tensors(kept)[0]["nelbo"], nelbo_of(model, samples.long()))


def test_other_models_have_no_bound(model, tmp_path, monkeypatch):
    monkeypatch.setattr("lidar_lightning.runs.quality.MoleculeBackbone", type("Other", (UDLM,), {}))
    compare(**given(model, tmp_path, seeds=[0]))
    numbers = json.loads((tmp_path / "summary.json").read_text())["methods"]["vanilla"]
    assert "w1" in numbers and "excess_nelbo" not in numbers


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"references": 63}, "references are plain samples of each prompt, at least 64, or 0, got 63"),
        ({"references": -1}, "at least 64, or 0, got -1"),
        ({"reward": Combined([LENGTH, SyntheticAccessibility()])}, "'sum.length,sa.' is relative to the samples"),
    ],
)
def test_bad_references_are_refused(model, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        Comparison(**given(model, tmp_path, **changes))
