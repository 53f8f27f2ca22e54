import lightning as L
import pytest

from datamodules import PromptDataModule
from lidar_lightning import LiDARModule, LookaheadBank
from lidar_lightning.lookahead.stored import StoredBanks
from lidar_lightning.rewards import Validity
from tests.conftest import tiny

SMILES = ["CC", "CCO", "CCCC", "O"]


def test_a_run_guided_by_a_bank_of_ones_own(tmp_path, carbon_reward):
    model = tiny()
    bank = LookaheadBank.from_smiles(model, SMILES, {"carbons": [2.0, 2.0, 4.0, 0.0]})
    bank.save(tmp_path / "banks" / "mine.safetensors")
    stored = StoredBanks(str(tmp_path / "banks"))
    assert (stored.n, stored.steps) == (4, 0)
    lidar = LiDARModule(
        model, carbon_reward, stored, steps=4, restart=0.0, temperature=100.0, metrics=[Validity()],
        out=str(tmp_path / "run"), training_data=None,
    )  # fmt: skip
    trainer = L.Trainer(logger=False, enable_progress_bar=False, enable_model_summary=False)
    (part,) = trainer.predict(lidar, PromptDataModule("molecule", 1, 8))
    assert list(part.decoded) == ["CCCC"] and lidar.bank("molecule").rewards.keys() == {"carbons", "validity"}
    assert LookaheadBank.load(tmp_path / "banks" / "mine.safetensors").rewards.keys() == {"carbons"}


def test_what_tells_banks_apart(tmp_path):
    model = tiny()
    for name, scores in (("a", [1.0, 2.0, 3.0, 4.0]), ("b", [1.0, 2.0, 3.0, 5.0])):
        LookaheadBank.from_smiles(model, SMILES, scores).save(tmp_path / name / "bank.safetensors")
    a, b = (StoredBanks(str(tmp_path / name)) for name in "ab")
    assert a.origin(model) != b.origin(model) and a.origin(model) == StoredBanks(str(tmp_path / "a")).origin(model)
    assert a.of_size(4) is a
    with pytest.raises(ValueError, match="stored banks have 4 samples, and cannot be made of 5"):
        a.of_size(5)
    with pytest.raises(ValueError, match=r"no stored bank is of 'other', only of \['molecule'\]"):
        a.bank(model, "other", 0, [])
    with pytest.raises(ValueError, match="lie in the space"):
        a.bank(tiny(length=16), "molecule", 0, [])


def test_folders_that_are_no_banks(tmp_path):
    model = tiny()
    with pytest.raises(ValueError, match="no banks in .*: give a folder of the .safetensors files"):
        StoredBanks(str(tmp_path))
    LookaheadBank.from_smiles(model, SMILES, [1.0] * 4).save(tmp_path / "a.safetensors")
    LookaheadBank.from_smiles(model, SMILES, [2.0] * 4).save(tmp_path / "b.safetensors")
    with pytest.raises(ValueError, match="are of one prompt"):
        StoredBanks(str(tmp_path))
    LookaheadBank.from_smiles(model, SMILES[:2], [2.0] * 2, "b").save(tmp_path / "b.safetensors")
    with pytest.raises(ValueError, match="must have the same shape"):
        StoredBanks(str(tmp_path))
