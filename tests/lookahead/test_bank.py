import errno
import logging
import os
from dataclasses import FrozenInstanceError, replace

import pytest
import torch

from lidar_lightning.lookahead import BankStore, LookaheadBank
from lidar_lightning.rewards import CallableReward
from lidar_lightning.utils.files import write_atomically


def test_round_trip(bank, tmp_path):
    bank.save(tmp_path / "bank.safetensors")
    read = LookaheadBank.load(tmp_path / "bank.safetensors")
    assert torch.equal(read.samples, bank.samples) and read.samples.dtype == bank.samples.dtype
    assert torch.equal(read.rewards["carbons"], bank.rewards["carbons"])
    assert (read.provenance, read.versions, read.seconds) == (bank.provenance, bank.versions, bank.seconds)


def test_bank_is_immutable(bank):
    with pytest.raises(FrozenInstanceError):
        bank.samples = torch.zeros(1)


def test_adding_a_reward_scores_stored_samples_once(bank):
    calls = []

    def length(samples, prompts):
        calls.append(list(samples))
        assert prompts == ["molecule"] * len(samples)
        return [float(len(s)) for s in samples]

    reward = CallableReward(length, name="length")
    decode = lambda x: ["x" * int(row.sum()) for row in x]  # noqa: E731
    scored = bank.scored([reward], decode)
    assert scored.samples is bank.samples and "length" not in bank.rewards
    assert torch.equal(scored.rewards["length"], bank.samples.sum(1).float())
    assert scored.scored([reward], decode) is scored and len(calls) == 1
    newer = CallableReward(length, name="length", version="2")
    again = scored.scored([newer], decode)
    assert again.versions["length"] == newer.identity != reward.identity and len(calls) == 2
    chunked = bank.scored([reward], decode, batch_size=16)
    assert [len(samples) for samples in calls[2:]] == [16, 16, 8]
    assert torch.equal(chunked.rewards["length"], scored.rewards["length"])


def test_key_hashes_provenance_without_rewards(bank, tmp_path):
    store = BankStore(tmp_path)
    other = replace(bank, rewards={}, versions={})
    assert store.path(other.provenance) == store.path(bank.provenance)
    for change in ({"seed": 1}, {"steps": 9}, {"n": 41}, {"prompt": "x"}, {"fingerprint": "abd"}, {"solver": "Other"}):
        assert replace(bank.provenance, **change).key() != bank.provenance.key()


def test_store_finds_what_it_stored(bank, tmp_path):
    store = BankStore(tmp_path / "banks")
    assert store.get(bank.provenance) is None
    store.put(bank)
    assert torch.equal(store.get(bank.provenance).samples, bank.samples)


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "text"])
def test_damaged_file_is_named_and_not_used(bank, tmp_path, damage, caplog):
    store = BankStore(tmp_path)
    path = store.put(bank)
    data = bytearray(path.read_bytes())
    data[-9] ^= 1
    path.write_bytes(
        {"truncated": data[: len(data) // 2], "flipped": data, "empty": b"", "text": b"not a bank at all"}[damage]
    )
    with pytest.raises(ValueError, match=path.name):
        LookaheadBank.load(path)
    with caplog.at_level(logging.ERROR):
        assert store.get(bank.provenance) is None
    assert path.name in caplog.text and "built again" in caplog.text


def test_pickle_is_not_loaded(tmp_path):
    torch.save({"samples": torch.zeros(2)}, tmp_path / "bank.safetensors")
    with pytest.raises(ValueError, match="cannot be read"):
        LookaheadBank.load(tmp_path / "bank.safetensors")


def test_bad_banks_are_refused(bank):
    with pytest.raises(ValueError, match="at least one sample"):
        replace(bank, samples=bank.samples[:0], rewards={})
    with pytest.raises(ValueError, match="'carbons' needs one finite score for each of 40"):
        replace(bank, rewards={"carbons": torch.zeros(39)})
    with pytest.raises(ValueError, match="1 not finite"):
        replace(bank, rewards={"carbons": torch.arange(40.0).log()})


def test_full_disk_leaves_nothing(bank, tmp_path, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"cannot write .*bank.*No space left"):
        bank.save(tmp_path / "bank.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_atomically(path, b"old")
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
    with pytest.raises(OSError, match="cannot write"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old" and len(list(tmp_path.iterdir())) == 1
