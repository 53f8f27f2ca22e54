"""What ships with the package: the QM9 strings and small checkpoints."""

import hashlib
from functools import cache
from pathlib import Path

ASSETS = Path(__file__).parent
QM9_SMILES = ASSETS / "qm9_smiles.txt.gz"


def asset_path(name: str) -> Path | None:
    """Folder of the shipped checkpoint of that bare name, or None if none ships under it.

    Raises:
        ValueError: if its weights are damaged.
    """
    folder = ASSETS / name
    found = any((folder / file).is_file() for file in ("config.json", "model_index.json"))
    if not found or "/" in name or "\\" in name:
        return None
    check_shipped(folder)
    return folder


@cache
def check_shipped(folder: Path) -> None:
    """Raises ValueError, naming the file, if a file, or one in a folder, is not that of SHA256SUMS beside it."""
    for line in (folder.parent / "SHA256SUMS").read_text().splitlines():
        expected, name = line.split(maxsplit=1)
        path = folder.parent / name
        if path.is_relative_to(folder) and hashlib.sha256(path.read_bytes()).hexdigest() != expected:
            raise ValueError(f"{path}, which ships with lidar-lightning, is damaged: install the package again")


def shipped_names() -> list[str]:
    """The names of the shipped checkpoints."""
    return sorted(path.parent.name for file in ("config.json", "model_index.json") for path in ASSETS.glob(f"*/{file}"))
