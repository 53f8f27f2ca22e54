"""Files that hold something else than they should."""

import gzip
import json

import pytest

from datamodules import PreferenceDataModule, PromptDataModule, QM9DataModule
from lidar_lightning import UDLM, LookaheadBank
from lidar_lightning.rewards import QED
from lidar_lightning.runs.report import write_report
from tests.conftest import tiny

PROMPTS, SMILES, PAIRS, BANK = (
    lambda path: PromptDataModule(str(path)),
    lambda path: QM9DataModule(str(path), validation=1).setup(),
    lambda path: PreferenceDataModule(str(path), QED()).setup(),
    LookaheadBank.load,
)
ROWS = [
    (PROMPTS, "a.txt", b"", "prompts must not be empty"),
    (PROMPTS, "b.txt", b"\xff\xfe\x00", "cannot read prompts from"),
    (PROMPTS, "c.txt", b"a\na\n", "stand twice, e.g. 'a'"),
    (PROMPTS, "d.jsonl", b'{"prompt": ""}', "line 1 has no text under 'prompt'"),
    (PROMPTS, "e.jsonl", b'{"prompt": ["a"]}', "line 1 has no text under 'prompt'"),
    (PROMPTS, "f.jsonl", b'{"prompts": "a"}', "line 1 has no text under 'prompt'"),
    (PROMPTS, "g.jsonl", b'"a"', "line 1 has no text under 'prompt'"),
    (PROMPTS, "h.jsonl", b"3", "line 1 has no text under 'prompt'"),
    (PROMPTS, "i.jsonl", b"a photo", "cannot read prompts from"),
    (PROMPTS, "j.csv", b"a,b\n1,2\n", "it has no column 'prompt', but a, b"),
    (PROMPTS, "k.csv", b"prompt\n", "prompts must not be empty"),
    (PROMPTS, "l.csv", b'prompt\n"unclosed\n', "cannot read prompts from"),
    (PROMPTS, "m.yaml", b"- a", "it is none of .txt, .jsonl, .csv"),
    (PROMPTS, "n.parquet", b"PAR1", "it is none of .txt, .jsonl, .csv"),
    (PROMPTS, "o.tsv", b"prompt\na", "it is none of .txt, .jsonl, .csv"),
    (SMILES, "a.csv", b"smiles\n", "it has no rows"),
    (SMILES, "b.csv", b"smiles\n1.5\n2\n", "which is no SMILES"),
    (SMILES, "c.csv", b"smile\nC\n", "has no column canonical_smiles or smiles or SMILES: it has smile"),
    (SMILES, "d.csv", b"smiles\nTrue\nFalse\n", "which is no SMILES"),
    (SMILES, "e.smi", b"", "holds no SMILES strings"),
    (SMILES, "f.smi", b"\xff\xfe\x00\n", "cannot read SMILES from"),
    (SMILES, "g.smi.gz", b"CCO\n", "cannot read SMILES from"),
    (SMILES, "h.smi.gz", gzip.compress(b"CCO\nCC\n" * 99)[:20], "cannot read SMILES from"),
    (SMILES, "i.parquet", b"PAR1PAR1", "cannot read SMILES from"),
    (SMILES, "j.sdf", b"CCO", "it is none of .txt, .smi, .csv, .parquet"),
    (SMILES, "k.smi", b"Br\nI\n", "cannot hold out validation=1 of 0 readable rows"),
    (SMILES, "l.smi", b"CCO\n", "cannot hold out validation=1 of 1 readable rows"),
    (PAIRS, "a.csv", b"chosen\nC\n", "lacks the columns rejected"),
    (PAIRS, "b.csv", b"", "cannot read preferences from"),
    (PAIRS, "c.csv", b"chosen,rejected\nC,C\n", "prefers a sample to itself"),
    (PAIRS, "d.csv", b"chosen,rejected\nC,\n", "is incomplete"),
    (PAIRS, "e.jsonl", b"{", "cannot read preferences from"),
    (PAIRS, "f.txt", b"C N", "give a .csv, .jsonl or .parquet file"),
    (PAIRS, "g.parquet", b"PAR1", "cannot read preferences from"),
    (PAIRS, "h.safetensors", b"", "cannot be read"),
    (BANK, "a.safetensors", b"", "cannot be read"),
    (BANK, "b.safetensors", b"\xff" * 64, "cannot be read"),
    (BANK, "c.safetensors", b"\x02\x00\x00\x00\x00\x00\x00\x00{}", "its format is None"),
    (BANK, "d.safetensors", b"hello world", "cannot be read"),
]


@pytest.mark.parametrize(("read", "name", "content", "message"), ROWS, ids=[f"{row[1]}-{row[3][:30]}" for row in ROWS])
def test_files(tmp_path, read, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError) as refused:
        read(tmp_path / name)
    assert message in str(refused.value) and "\n" not in str(refused.value)
    assert (tmp_path / name).read_bytes() == content


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_blocks": 0}, "sizes of a UDLM must be at least 1"),
        ({"hidden_dim": -32}, "sizes of a UDLM must be at least 1"),
        ({"n_heads": 5}, "hidden_dim must be a multiple of 2 * n_heads"),
        ({"n_heads": None}, "does not describe a UDLM"),
        ({"cond_dim": "16"}, "does not describe a UDLM"),
        ({"dropout": -1}, "dropout in [0, 1)"),
        ({"vocab_size": 4}, "35 tokens of QM9"),
        ({"cfg": True}, "class-conditional"),
        ({"hiden_dim": 32}, "did you mean hidden_dim?"),
    ],
    ids=str,
)
def test_configurations(tmp_path, changes, message):
    tiny().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, **changes}))
    with pytest.raises(ValueError) as refused:
        UDLM.from_pretrained(tmp_path)
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("summary", "message"),
    [
        ("", "is damaged, not valid JSON"),
        ("[]", "lists no methods"),
        ("{}", "lists no methods"),
        ('{"methods": {}}', "lists no methods"),
        ('{"methods": {"a": 3}}', "lists no methods"),
        ('{"methods": {"a": {}}, "settings": 3}', "must be a dict, got int"),
        ('{"methods": {"a": {}}, "modality": "sound"}', "no report for samples of modality 'sound'"),
    ],
)
def test_summaries(tmp_path, summary, message):
    (tmp_path / "summary.json").write_text(summary)
    with pytest.raises(ValueError) as refused:
        write_report(tmp_path)
    assert message in str(refused.value) and not (tmp_path / "report.html").exists()
