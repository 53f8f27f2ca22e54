"""Tables hold what was written, and no cell is a formula."""

import pandas as pd

from datamodules import PreferenceDataModule
from lidar_lightning.utils.prompts import read_prompts
from lidar_lightning.utils.smiles_io import read_smiles
from lidar_lightning.utils.tables import escape, read_csv, unescape, write_csv

FORMULAS = [
    "=cmd|' /C calc'!A0",
    "+C",
    "-C=O",
    "@SUM(A1)",
    "\t=1",
    "'=C",
    "''-C",
    "=C",
    "C=C",
    "'C",
    "",
    "NA",
    'a,"b\nc',
]


def test_escaping_is_undone_and_leaves_no_formula():
    for text in FORMULAS:
        assert unescape(escape(text)) == text and escape(text)[:1] not in list("=+-@\t\r")
    assert [text for text in FORMULAS if escape(text) != text] == FORMULAS[:8]


def test_tables_return_what_was_written(tmp_path):
    table = pd.DataFrame({"prompt": FORMULAS, "index": range(13), "=r()": [-float(i) for i in range(13)]})
    write_csv(tmp_path / "t.csv", table)
    pd.testing.assert_frame_equal(read_csv(tmp_path / "t.csv", dtype={"prompt": str}), table)
    text = (tmp_path / "t.csv").read_text()
    assert "'=r()" in text.splitlines()[0] and ",-3.0" in text and "\n=" not in text and '\n"=' not in text


def test_readers_take_the_escape_away(tmp_path):
    write_csv(tmp_path / "s.csv", pd.DataFrame({"smiles": ["=C", "-C"], "prompt": ["+a", "b"]}))
    write_csv(tmp_path / "p.csv", pd.DataFrame({"prompt": ["=p"], "chosen": ["=C"], "rejected": ["@C"]}))
    assert read_smiles(tmp_path / "s.csv") == ["=C", "-C"] and read_prompts(tmp_path / "s.csv") == ["+a", "b"]
    data = PreferenceDataModule(str(tmp_path / "p.csv"), validation=0)
    data.setup()
    assert data.training[0] == {"prompt": "=p", "chosen": "=C", "rejected": "@C"}
