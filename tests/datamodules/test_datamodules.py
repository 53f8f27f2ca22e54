import gzip
import logging

import pandas as pd
import pytest
import torch

from datamodules import PreferenceDataModule, PromptDataModule, QM9DataModule
from lidar_lightning.backbones import smiles
from lidar_lightning.utils.prompts import read_prompts
from lidar_lightning.utils.smiles_io import read_hub, read_smiles

STRINGS = ["C", "CCO", "c1ccccc1", "CC(=O)O"]


def write(path, kind):
    if kind == "csv":
        pd.DataFrame({"id": range(4), "smiles": STRINGS}).to_csv(path, index=False)
    elif kind == "parquet":
        pd.DataFrame({"canonical_smiles": STRINGS}).to_parquet(path)
    elif kind.endswith("gz"):
        path.write_bytes(gzip.compress("\n".join(STRINGS).encode()))
    else:
        path.write_text("\n".join(f"{s} name" if kind == "smi" else s for s in STRINGS))
    return path


@pytest.mark.parametrize("kind", ["txt", "smi", "csv", "parquet", "txt.gz", "smi.gz"])
def test_every_kind_of_file_reads(tmp_path, kind):
    assert read_smiles(write(tmp_path / f"molecules.{kind}", kind)) == STRINGS


def test_shipped_qm9_is_whole_and_encodes():
    strings = read_smiles()
    assert len(strings) == len(set(strings)) == 133_798
    assert not [s for s in strings if smiles.unreadable(s, 24)]


def test_bad_files_are_named(tmp_path):
    with pytest.raises(ValueError, match="no SMILES file at .*nowhere"):
        read_smiles(tmp_path / "nowhere.txt")
    (tmp_path / "a.sdf").write_text("x")
    with pytest.raises(ValueError, match="none of .txt"):
        read_smiles(tmp_path / "a.sdf")
    pd.DataFrame({"x": STRINGS}).to_csv(tmp_path / "a.csv")
    with pytest.raises(ValueError, match="has no column canonical_smiles or smiles"):
        read_smiles(tmp_path / "a.csv")
    for name in ("a.parquet", "a.txt.gz"):
        (tmp_path / name).write_bytes(b"damaged")
        with pytest.raises(ValueError, match=f"cannot read SMILES from .*{name}"):
            read_smiles(tmp_path / name)
    (tmp_path / "b.csv").write_text("")
    with pytest.raises(ValueError, match="cannot read SMILES"):
        read_smiles(tmp_path / "b.csv")


def test_hub_out_of_reach_is_named():
    with pytest.raises(ValueError, match="cannot load the data set 'nobody/nothing'"):
        read_hub("nobody/nothing")


def test_unreadable_rows_are_counted_and_named(tmp_path, caplog):
    path = tmp_path / "a.txt"
    path.write_text("\n".join(["CCO", "CBr", "", "C" * 30, *STRINGS]))
    data = QM9DataModule(str(path), validation=2)
    with caplog.at_level(logging.WARNING):
        data.setup()
    assert len(data.unreadable) == 3 and "left out 3 of 8 rows" in caplog.text and "'CBr'" in caplog.text
    assert len(data.training) == 3 and len(data.held_out) == 2


def test_split_is_a_partition_and_repeats(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("\n".join("C" * k for k in range(1, 20)))
    first, second = QM9DataModule(str(path), validation=5), QM9DataModule(str(path), validation=5)
    first.setup()
    second.setup()
    assert torch.equal(first.held_out, second.held_out)
    rows = smiles.decode(torch.cat([first.held_out, first.training]))
    assert sorted(map(len, rows)) == list(range(1, 20))
    with pytest.raises(ValueError, match="cannot hold out validation=19 of 19"):
        QM9DataModule(str(path), validation=19).setup()
    with pytest.raises(ValueError, match="not both"):
        QM9DataModule(str(path), dataset="x")


def test_prompt_batches_cover_every_sample_once():
    for samples, batch_size in ((10, 4), (3, 8), (8, 8), (1, 1)):
        seen = []
        for batch in PromptDataModule(["a", "b", "c"], samples, batch_size).predict_dataloader():
            assert len(batch["prompts"]) * len(batch["indices"]) <= batch_size
            seen += [(prompt, index) for prompt in batch["prompts"] for index in batch["indices"]]
        assert sorted(seen) == [(p, i) for p in "abc" for i in range(samples)]


def test_prompts_from_files(tmp_path):
    (tmp_path / "a.txt").write_text("one\ntwo\n")
    (tmp_path / "a.jsonl").write_text('{"prompt": "one"}\n{"prompt": "two"}\n')
    (tmp_path / "a.csv").write_text("prompt\none\ntwo\n")
    for kind in ("txt", "jsonl", "csv"):
        items = PromptDataModule(str(tmp_path / f"a.{kind}"), 1, 1).dataset
        assert [item["prompts"] for item in items] == [["one"], ["two"]]
    (tmp_path / "b.jsonl").write_text('{"text": "one"}\n')
    with pytest.raises(ValueError, match="cannot read prompts"):
        PromptDataModule(str(tmp_path / "b.jsonl"))
    with pytest.raises(ValueError, match="no prompt file"):
        PromptDataModule(str(tmp_path / "c.txt"))


@pytest.mark.parametrize(
    ("prompts", "message"), [([], "empty"), (["a", " "], "prompt 1 is"), (["a", "a"], "stand twice")]
)
def test_bad_prompts(prompts, message):
    with pytest.raises(ValueError, match=message):
        PromptDataModule(prompts)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.jsonl", '{"prompt": "one"}\n{"prompt": null}\n', "line 2 has no text under 'prompt', got {'prompt': None}"),
        ("a.jsonl", '{"prompt": 3}\n', "line 1 has no text"),
        ("a.jsonl", '["one"]\n', "line 1 has no text under 'prompt', got \\['one'\\]"),
        ("a.jsonl", "{one}\n", "cannot read prompts from .*a.jsonl"),
        ("a.csv", "text\none\n", "it has no column 'prompt', but text"),
        ("a.csv", "prompt,x\n,1\n", "line 2 has no text"),
        ("a.csv", "", "cannot read prompts from .*a.csv"),
        ("a.json", '["one"]', "it is none of .txt, .jsonl, .csv"),
        ("a.txt", "\n\n", "prompts must not be empty: give a list with at least one"),
        ("a.txt", "one\ntwo\none\n", "1 prompts stand twice, e.g. 'one'"),
    ],
)
def test_bad_prompt_files(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        PromptDataModule(str(tmp_path / name))


def test_blank_lines_of_prompts_are_left_out_counted_and_named(tmp_path, caplog):
    (tmp_path / "a.txt").write_text("one\n\n  \ntwo\n")
    assert read_prompts(tmp_path / "a.txt") == ["one", "two"]
    assert f"left out 2 blank lines of {tmp_path / 'a.txt'}" in caplog.text


@pytest.mark.parametrize(
    ("text", "message"),
    [("smiles,x\n", "it has no rows"), ("smiles\n1\n2\n", "column smiles of .* holds 1, which is no SMILES")],
)
def test_tables_without_smiles(tmp_path, text, message):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_smiles(tmp_path / "a.csv")


def test_bank_pairs_prefer_the_better(tmp_path, bank, carbon_reward):
    bank.save(tmp_path / "bank.safetensors")
    for path in (tmp_path, tmp_path / "bank.safetensors"):
        data = PreferenceDataModule(str(path), carbon_reward, pairs=200, fraction=0.25, validation=0.1)
        data.setup()
        rows = {tuple(row.tolist()): score for row, score in zip(bank.samples, range(40), strict=True)}
        pairs = [(rows[tuple(i["chosen"].tolist())], rows[tuple(i["rejected"].tolist())]) for i in data.training]
        assert len(pairs) == 180 and len(data.held_out) == 20
        assert min(w for w, _ in pairs) >= 30 and max(lo for _, lo in pairs) < 10
        assert len({w for w, _ in pairs}) == 10


def test_ties_make_no_pairs(tmp_path, bank, carbon_reward):
    bank.rewards["carbons"].fill_(1.0)
    bank.save(tmp_path / "bank.safetensors")
    with pytest.raises(ValueError, match="score the same in 'carbons'"):
        PreferenceDataModule(str(tmp_path), carbon_reward).setup()


def test_pairs_from_files(tmp_path):
    table = pd.DataFrame({"chosen": ["CCO", "CC"], "rejected": ["C", "N"]})
    table.to_csv(tmp_path / "a.csv", index=False)
    table.to_parquet(tmp_path / "a.parquet")
    table.to_json(tmp_path / "a.jsonl", orient="records", lines=True)
    for kind in ("csv", "parquet", "jsonl"):
        data = PreferenceDataModule(str(tmp_path / f"a.{kind}"), validation=0, batch_size=2)
        data.setup()
        (batch,) = data.train_dataloader()
        assert sorted(zip(batch["chosen"], batch["rejected"], strict=True)) == [("CC", "N"), ("CCO", "C")]


def test_bad_pairs_are_named(tmp_path, bank):
    with pytest.raises(ValueError, match="no preference file"):
        PreferenceDataModule(str(tmp_path / "a.csv")).setup()
    pd.DataFrame({"chosen": ["C"]}).to_csv(tmp_path / "a.csv")
    with pytest.raises(ValueError, match="lacks the columns rejected"):
        PreferenceDataModule(str(tmp_path / "a.csv")).setup()
    pd.DataFrame({"chosen": ["C", "N"], "rejected": ["N", "N"]}).to_csv(tmp_path / "a.csv")
    with pytest.raises(ValueError, match="row 1 of .* itself"):
        PreferenceDataModule(str(tmp_path / "a.csv")).setup()
    bank.save(tmp_path / "bank.safetensors")
    with pytest.raises(ValueError, match="need a reward"):
        PreferenceDataModule(str(tmp_path / "bank.safetensors")).setup()
    with pytest.raises(ValueError, match=r"fraction must be in \(0, 0.5\]"):
        PreferenceDataModule("a.csv", fraction=0.6)
