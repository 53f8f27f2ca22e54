import json
from pathlib import Path

import pytest
import torch

from lidar_lightning import UDLM, BankStore, Lookahead, ValueModule
from lidar_lightning.utils.progress import working
from lidar_lightning.utils.smiles_io import read_smiles
from recipes import demo, qm9_dpo, qm9_pretrain, qm9_value
from tests.conftest import tiny


def test_pretraining_runs_resumes_and_exports(tmp_path):
    (tmp_path / "some.smi").write_text("\n".join(read_smiles()[::20]))
    settings = {"out": str(tmp_path), "width": 32, "layers": 1, "batch_size": 32, "compile": False, "save_every": 4}
    settings |= {"data": str(tmp_path / "some.smi")}
    qm9_pretrain.main(**settings, steps=4)
    first = torch.load(tmp_path / "last.ckpt", weights_only=True)
    folder = qm9_pretrain.main(**settings, steps=8)
    second = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert (first["global_step"], second["global_step"]) == (4, 8)
    assert (folder / "model.safetensors").stat().st_size < 1e6
    assert UDLM.from_pretrained(folder).model_length == 24


def test_a_value_is_learned_from_molecules(tmp_path):
    tiny().save_pretrained(tmp_path / "model")
    path = qm9_value.main(str(tmp_path), str(tmp_path / "model"), samples=6, steps=3, epochs=1)
    value = ValueModule.from_checkpoint(path)(torch.zeros(2, 12, dtype=torch.int64), torch.tensor([0.3, 0.6]))
    assert value.shape == (2,) and value[0] != value[1]


def test_a_training_counts_its_steps_in_the_line_around_it_and_alone_has_a_bar(
    tmp_path, carbon_reward, monkeypatch, capfd
):
    monkeypatch.setattr(qm9_dpo, "RingCount", lambda: carbon_reward)
    counted = []
    monkeypatch.setattr("lidar_lightning.modules.training.advance", counted.append)
    tiny().save_pretrained(tmp_path / "model")
    Lookahead(steps=2, n=16).bank(tiny(), "molecule", 0, [carbon_reward], BankStore(tmp_path / "banks"))

    def train(out, steps):
        folders = [str(tmp_path / name) for name in ("banks", out, "model")]
        qm9_dpo.main(*folders, steps=steps, pairs=8, batch_size=4, draws=1)
        return capfd.readouterr().out

    assert "Epoch" in train("alone", 3) and counted == [1, 1, 1]
    with working("dpo: training", 3):
        assert train("within", 3) == "" and counted[3:] == [1, 1, 1]
        assert train("within", 5) == "" and sum(counted[6:]) == 5  # goes on: the line begins where the run did


@pytest.mark.slow
def test_demo_shows_the_whole_workflow(tmp_path, capfd):
    report = demo.molecules(str(tmp_path / "demo"), samples=24, n=48, lookahead_steps=8, dpo_steps=4)
    printed = capfd.readouterr()
    assert "Epoch" not in printed.out and len(printed.out.splitlines()) <= 9  # the table of four methods
    summary = json.loads((tmp_path / "demo" / "summary.json").read_text())
    assert list(summary["methods"]) == ["vanilla", "lidar", "dpo", "dpo+lidar"]
    for row in summary["methods"].values():
        assert {"reward", "valid", "unique", "novel", "nfe", "seconds"} <= row.keys()
    assert summary["methods"]["lidar"]["nfe"] == 48 * 8 / 24 + 6 * 5 and summary["methods"]["vanilla"]["nfe"] == 32
    assert "dpo+lidar" in Path(report).read_text()
