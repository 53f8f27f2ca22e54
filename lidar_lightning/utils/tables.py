"""Tables as CSV files that a spreadsheet may open: no cell is a formula."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from lidar_lightning.utils.files import write_atomically


def escape(text: str) -> str:
    """Puts an apostrophe before a text that a spreadsheet would take for a formula; `unescape` is the inverse."""
    return f"'{text}" if re.match(r"'*[=+\-@\t\r]", text) else text


def unescape(text: str) -> str:
    """The text that `escape` was given."""
    return text[1:] if re.match(r"'+[=+\-@\t\r]", text) else text


def write_csv(path: Path, table: pd.DataFrame) -> None:
    """Writes a table, whole or not at all. The names of columns and the cells that are text are escaped."""
    write_atomically(path, _texts(table, escape).to_csv(index=False).encode())


def read_csv(path: Path, **options: Any) -> pd.DataFrame:
    """Reads a CSV file, whoever wrote it; an empty cell is "". Raises ValueError, naming the file, if it is damaged."""
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
