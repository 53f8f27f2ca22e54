"""The numbers of a run as a small table for a terminal, and the paths of its files."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lidar_lightning.runs.data import read_summary

SHOWN = ("reward", "lookahead_reward", "valid", "novel", "diversity", "calls", "seconds")
FILES = {"report": "report.html", "pictures": "grids", "table": "samples.csv"}


def table(methods: Mapping[str, Mapping[str, Any]], columns: Sequence[str]) -> str:
    """An aligned table with a row for each method and those of the columns that any method has."""
    kept = [column for column in columns if any(column in row for row in methods.values())]
    rows = [["", *(column.replace("_", " ") for column in kept)]]
    rows += [[name, *(_number(row.get(column)) for column in kept)] for name, row in methods.items()]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  "
        + "  ".join([row[0].ljust(widths[0]), *(text.rjust(w) for text, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    )


def closing(folder: Path) -> str:
    """The text after a finished run: its numbers, and where to look at its samples."""
    summary = read_summary(folder)
    metrics = [name for row in summary["methods"].values() for name in row if name.endswith("_verdict")]
    what = f"Reward: {summary.get('reward_name', 'reward')}, the mean of {_samples(summary)} samples."
    places = "\n".join(f"  {name:<9} {folder / file}" for name, file in FILES.items() if _filled(folder / file))
    return f"{what}\n\n{table(summary['methods'], [SHOWN[0], *dict.fromkeys(metrics), *SHOWN[1:]])}\n\n{places}"


def _samples(summary: Mapping[str, Any]) -> str:
    return ", ".join(f"{row.get('samples', 0):.0f}" for row in summary["methods"].values())


def _filled(path: Path) -> bool:
    return path.is_file() or path.is_dir() and any(path.iterdir())


def _number(value: Any) -> str:
    if value is None:
        return "–"
    return (
        f"{value:.0f}"
        if isinstance(value, int) or abs(value) >= 1000
        else f"{value:.1f}"
        if abs(value) >= 100
        else f"{value:.2f}"
    )
