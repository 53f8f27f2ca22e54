"""Reading SMILES strings from files and from the hub."""

import gzip
from pathlib import Path

import pandas as pd

from lidar_lightning.assets import QM9_SMILES
from lidar_lightning.utils.files import expand
from lidar_lightning.utils.hub import at_revision
from lidar_lightning.utils.tables import read_csv

COLUMNS = ("canonical_smiles", "smiles", "SMILES")


def read_smiles(path: str | Path | None = None, column: str | None = None) -> list[str]:
    """Reads the SMILES strings of a file (.txt, .smi, .csv, .parquet), in its order, blank lines included.

    Text files may be gzipped. Of each line of a .txt or .smi file the first word is taken.

    Args:
        path: the file; None reads the 133,798 canonical strings of QM9 that ship with the package.
        column: the column of a table; by default the first of canonical_smiles, smiles and SMILES that it has.

    Raises:
        ValueError: if the file is missing, empty, unreadable or of another kind, or if it has no such column.
    """
    path = expand(path or QM9_SMILES)
    if not path.is_file():
        raise ValueError(f"no SMILES file at {path}: give a .txt, .smi, .csv or .parquet file, or leave the path out")
    kind = next((suffix for suffix in reversed(path.suffixes) if suffix != ".gz"), "")
    try:
        if kind in {".txt", ".smi"}:
            with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8") as file:
                strings = [(line.split() or [""])[0] for line in file]
        elif kind in {".csv", ".parquet"}:
            table = read_csv(path) if kind == ".csv" else pd.read_parquet(path)
            strings = _column(table, column, path)
        else:
            raise ValueError("it is none of .txt, .smi, .csv, .parquet (text may be gzipped)")
    except (OSError, EOFError, ValueError) as error:
        raise ValueError(f"cannot read SMILES from {path}: {error}") from error
    if not any(strings):
        held = f"it has {len(strings)} lines, all empty" if strings else "it has no rows"
        raise ValueError(f"{path} holds no SMILES strings: {held}")
    return strings


def _column(table: pd.DataFrame, column: str | None, source: object) -> list[str]:
    name = column or next((name for name in COLUMNS if name in table), None)
    if name not in table:
        raise ValueError(f"{source} has no column {column or ' or '.join(COLUMNS)}: it has {', '.join(table)}")
    wrong = [value for value in table[name] if not isinstance(value, str)]
    if wrong:
        raise ValueError(f"column {name} of {source} holds {wrong[0]!r}, which is no SMILES: name another column")
    return table[name].tolist()


def read_hub(dataset: str, column: str | None = None) -> list[str]:
    """Reads the SMILES column of a hub data set, such as `yairschiff/qm9`, or OWNER/DATASET@REVISION.

    Raises:
        ValueError: if it cannot be reached or has no such column.
    """
    import datasets

    try:
        name, revision = at_revision(dataset)
        table = datasets.load_dataset(name, split="train", revision=revision).to_pandas()
    except (OSError, RuntimeError, ValueError) as error:
        raise ValueError(f"cannot load the data set {dataset!r} from the hub: {error}") from error
    return _column(table, column, dataset)
