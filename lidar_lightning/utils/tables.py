"""Tables as CSV files that a spreadsheet may open: no cell is a formula."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from lidar_lightning.utils.files import write_atomically


def escape(text: str) -> str:
    """The text with an apostrophe before it if a spreadsheet would take it for a formula; `unescape` is the inverse."""
    return f"'{text}" if re.match(r"'*[=+\-@\t\r]", text) else text


def unescape(text: str) -> str:
    """The text that `escape` was given."""
    return text[1:] if re.match(r"'+[=+\-@\t\r]", text) else text


def write_csv(path: Path, table: pd.DataFrame) -> None:
    """Writes a table, whole or not at all, with names and cells that are text escaped."""
    write_atomically(path, _texts(table, escape).to_csv(index=False).encode())


def read_csv(path: Path, **options: Any) -> pd.DataFrame:
    """A table that `write_csv` or anyone else wrote, an empty cell as "". Raises ValueError naming a damaged file."""
    try:
        return _texts(pd.read_csv(path, keep_default_na=False, **options), unescape)
    except (OSError, ValueError) as error:
        raise ValueError(f"{str(path)!r} is damaged, not a readable CSV file ({error})") from error


def _texts(table: pd.DataFrame, change: Callable[[str], str]) -> pd.DataFrame:
    """The table with its names and textual cells changed."""

    def changed(cell: Any) -> Any:
        return change(cell) if isinstance(cell, str) else cell

    columns = {
        name: column if pd.api.types.is_numeric_dtype(column) else column.map(changed) for name, column in table.items()
    }
    return pd.DataFrame(columns, index=table.index).rename(columns=changed)
