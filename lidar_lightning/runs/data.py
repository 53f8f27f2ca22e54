"""The files of a finished run, read for its report."""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rdkit import Chem

from lidar_lightning.rewards.molecules import parse
from lidar_lightning.utils.files import check_name
from lidar_lightning.utils.tables import read_csv


@dataclass(frozen=True)
class Method:
    """One method of a run.

    Attributes:
        numbers: its row of the table.
        samples: a table with the columns prompt, index, sample and one per reward; it is empty if the run has no
            samples.csv.
        molecules: the parsed samples, None for each invalid one; empty for pictures.
        folder: the folder to which the names of picture files in `samples` are relative.
        diagnostics: a table with at least the columns step and ess, or None.
        colour: its CSS colour in every plot.
        before: the lookaheads of its banks, with one column per reward and, of molecules, the sample; None without any.
    """

    name: str
    numbers: dict[str, Any]
    samples: pd.DataFrame
    molecules: list[Chem.Mol | None]
    folder: Path
    diagnostics: pd.DataFrame | None
    colour: str
    before: pd.DataFrame | None = None

    @property
    def valid(self) -> np.ndarray:
        """Which samples (n,) are valid; every picture is."""
        if not self.molecules:
            return np.ones(len(self.samples), dtype=bool)
        return np.array([molecule is not None for molecule in self.molecules], dtype=bool)

    def earlier(self, reward: str) -> np.ndarray | None:
        """The scores (n,) of the valid lookaheads by this reward, or None without any."""
        if self.before is None or reward not in self.before:
            return None
        values = column_values(self.before, reward)
        if "sample" in self.before:
            values = values[[parse(text) is not None for text in self.before["sample"]]]
        return values[~np.isnan(values)]


@dataclass(frozen=True)
class Run:
    """What a report is made of. `reward` is the column of the guiding reward in the samples; None if there are none."""

    title: str
    methods: list[Method]
    settings: dict[str, Any]
    reward: str | None
    higher_is_better: bool
    curves: dict[str, dict[str, list[list[float]]]] = field(default_factory=dict)
    """Of a comparison: reward to method to points (network calls, mean, lower and upper end of its interval)."""
    over: str = "network calls per sample"
    """What the points of the curves are over."""
    objectives: dict[str, bool] = field(default_factory=dict)
    """The rewards that the guiding one weighs, by column, and whether higher is better; none if it is a single one."""
    lower: frozenset[str] = frozenset()
    """The rewards of which lower is better."""


def read_run(folder: Path, summary: dict[str, Any], modality: str = "molecule") -> Run:
    """Reads the run of a folder with this summary. Raises ValueError as `report.write_report` does."""
    rows = summary["methods"]
    methods, colours = [], method_colours(rows)
    for name, numbers in rows.items():
        places = [folder / name, folder] if len(rows) == 1 else [folder / name]
        texts = ["sample", "prompt"] if modality == "image" else ["sample"]
        samples = _read_csv([at / "samples.csv" for at in places], texts)
        samples = pd.DataFrame({"sample": []}) if samples is None else samples
        diagnostics = _read_csv([at / "diagnostics.csv" for at in places], ["step", "ess"])
        molecules = [parse(text) for text in samples["sample"]] if modality == "molecule" else []
        home = next((at for at in places if (at / "samples.csv").is_file()), folder)
        outside = [name for name in samples["sample"] if ".." in Path(name).parts or Path(name).is_absolute()]
        if modality == "image" and outside:
            raise ValueError(
                f"the picture {outside[0]!r} lies outside the run: samples.csv in {str(home)!r} is damaged"
            )
        before = _read_csv([at / "lookahead_scores.csv" for at in places], [])
        methods.append(Method(name, numbers, samples, molecules, home, diagnostics, colours[name], before))
    columns = reward_columns(methods)
    reward = summary.get("reward_name", columns[0] if columns else None)
    if columns and reward not in columns:
        raise ValueError(f"reward_name {reward!r} in summary.json is no column of the samples, which have {columns}")
    title = str(summary.get("title") or f"Run {folder.resolve().name}")
    higher = bool(summary.get("higher_is_better", True))
    settings, curves = summary.get("settings") or {}, summary.get("curves") or {}
    weighed = summary.get("objectives") or {}
    if not isinstance(weighed, dict) or not set(weighed) <= set(columns):
        raise ValueError(f'"objectives" in summary.json must be columns of the samples, {columns}, got {weighed!r}')
    lower = frozenset(map(str, summary.get("lower_is_better") or ()))
    over = str(summary.get("curves_over", Run.over))
    named, weighed = (reward, weighed) if columns else (None, {})
    return Run(title, methods, settings, named, higher, curves, over, weighed, lower)


def method_colours(names: Iterable[str]) -> dict[str, str]:
    """A CSS colour of the page for each name. Names that differ only by " @ budget" share it; twelve colours differ."""
    methods = {name: name.split(" @ ")[0] for name in names}
    places = {method: place for place, method in enumerate(dict.fromkeys(methods.values()))}
    return {name: f"var(--c{places[method] % 12})" for name, method in methods.items()}


def read_summary(folder: Path) -> dict[str, Any]:
    """Reads the summary.json of a run.

    Raises:
        ValueError: if the folder or the file is missing, damaged, or not a summary.
    """
    path = folder / "summary.json"
    if not folder.is_dir():
        raise ValueError(f"no run to report on: {str(folder)!r} is not a folder")
    if not path.is_file():
        raise ValueError(f"{str(folder)!r} holds no summary.json: give the output folder of a predict or compare run")
    try:
        summary = json.loads(path.read_text(encoding="utf-8"), parse_int=_whole)
    except ValueError as error:
        raise ValueError(f"{str(path)!r} is damaged, not valid JSON ({error}): run the experiment again") from error
    methods = summary.get("methods") if isinstance(summary, dict) else None
    if not isinstance(methods, dict) or not methods or not all(isinstance(row, dict) for row in methods.values()):
        raise ValueError(f'{str(path)!r} lists no methods: it needs {{"methods": {{name: {{"reward": ...}}}}}}')
    for name in methods:
        check_name(f"a method in {str(path)!r}", name)
    if not isinstance(summary.get("settings") or {}, dict):
        raise ValueError(f'"settings" in {str(path)!r} must be a dict, got {type(summary["settings"]).__name__}')
    if not _are_curves(summary.get("curves") or {}):
        raise ValueError(f'"curves" in {str(path)!r} is damaged: it maps rewards to methods to points of four numbers')
    return summary


def _whole(text: str) -> float:
    """A whole number of JSON, as far as it can be shown."""
    return int(text) if len(text) < 19 else float(text)


def _are_curves(curves: Any) -> bool:
    """Whether these are rewards to methods to points (network calls above 0, mean, lower and upper end or None)."""
    if not isinstance(curves, dict) or not all(isinstance(lines, dict) and lines for lines in curves.values()):
        return False
    lines = [line for lines in curves.values() for line in lines.values()]
    if not all(isinstance(line, list) and line for line in lines):
        return False
    points = [point for line in lines for point in line]
    return all(
        isinstance(point, list)
        and len(point) == 4
        and all(isinstance(value, int | float) and math.isfinite(value) for value in point[:2])
        and all(end is None or isinstance(end, int | float) and math.isfinite(end) for end in point[2:])
        and point[0] > 0
        for point in points
    )


def _read_csv(places: Sequence[Path], required: Sequence[str]) -> pd.DataFrame | None:
    """The table at the first path that exists, else None; samples and prompts stay text, whatever they spell."""
    path = next((path for path in places if path.is_file()), None)
    if path is None:
        return None
    frame = read_csv(path, dtype={"sample": str, "prompt": str})
    missing = [column for column in required if column not in frame]
    if missing:
        raise ValueError(f"{str(path)!r} lacks the columns {missing}, it has {list(frame.columns)}")
    for column in frame.columns.difference(["sample", "prompt"], sort=False):
        numbers = pd.to_numeric(frame[column], errors="coerce")
        garbled = frame[column][numbers.isna() & ~frame[column].astype(str).str.lower().isin(["", "nan"])]
        if len(garbled):
            raise ValueError(f"{str(path)!r} is damaged: {garbled.iloc[0]!r} in column {column!r} is no number")
        frame[column] = numbers
    return frame


def reward_columns(methods: Sequence[Method]) -> list[str]:
    """The names of the reward columns of all samples, each once, in the order of the files."""
    columns = dict.fromkeys(str(column) for method in methods for column in method.samples.columns)
    return [column for column in columns if column not in ("prompt", "index", "sample")]


def column_values(frame: pd.DataFrame, column: str | None) -> np.ndarray:
    """A column as float64 (n,), NaN where it holds no finite number."""
    if column is None or column not in frame:
        return np.full(len(frame), math.nan)
    values = pd.to_numeric(frame[column], errors="coerce").to_numpy(float)
    return np.where(np.isfinite(values), values, math.nan)
