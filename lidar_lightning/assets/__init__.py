"""What ships with the package: the QM9 strings and small checkpoints."""

from pathlib import Path

ASSETS = Path(__file__).parent
QM9_SMILES = ASSETS / "qm9_smiles.txt.gz"


def asset_path(name: str) -> Path | None:
    """Folder of the shipped checkpoint of that bare name, or None if none ships under it."""
    folder = ASSETS / name
    found = any((folder / file).is_file() for file in ("config.json", "model_index.json"))
    return folder if found and "/" not in name and "\\" not in name else None
