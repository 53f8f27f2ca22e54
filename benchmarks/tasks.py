"""Goal-directed tasks of nine heavy atoms at equal scoring calls: `python -m benchmarks.tasks`.

Every different molecule that a method has scored is one call, as PMO counts (Gao et al., arXiv 2206.12411). What each
cell, a method on a task with a seed, has asked is kept in `--out`, so that a killed run goes on where it stopped, and
its row in TABLE.csv beside this file, from which TABLE.md is written. The genetic algorithm needs `pip install mol-ga`.
"""

import logging
from itertools import product
from pathlib import Path

import pandas as pd
import torch
from jsonargparse import auto_cli
from tqdm.auto import tqdm

from benchmarks.equal import Rows
from benchmarks.task_methods import METHODS, Cell
from lidar_lightning.evaluation.quality import fingerprint_diversity
from lidar_lightning.rewards import GuacaMol
from lidar_lightning.rewards.remembered import Remembered
from lidar_lightning.runs.intervals import interval
from lidar_lightning.utils.files import expand
from lidar_lightning.utils.tables import read_csv, write_csv

TASKS = ("thymine_rediscovery", "median_small", "isomers_c5h5n3o")
COLUMNS = ("top 10", "AUC", "best", "diversity")
NOTES = Path(__file__).with_name("tasks-notes.md")


def top(scores: list[float], count: int = 10) -> float:
    """The mean of the highest scores; those that are not there count as 0, as PMO has it."""
    return sum(sorted(scores, reverse=True)[:count]) / count


def area(scores: list[float], calls: int, count: int = 10, every: int = 10) -> float:
    """The mean, over the calls, of the mean of the ten best until then, by trapezoids: PMO's AUC top-10, in [0, 1]."""
    points = [top(scores[:spent], count) for spent in range(0, calls + 1, every)]
    return sum((a + b) / 2 for a, b in zip(points, points[1:], strict=False)) / (len(points) - 1)


def measured(table: pd.DataFrame, calls: int) -> dict[str, float]:
    """The columns of one cell."""
    scores = table["score"].tolist()
    best = table.sort_values("score", ascending=False, kind="stable").head(100)["sample"].tolist()
    return {
        "top 10": top(scores),
        "AUC": area(scores, calls),
        "best": max(scores),
        "diversity": fingerprint_diversity(best),
    }


def cell(out: Path, task: str, method: str, seed: int, calls: int) -> pd.DataFrame:
    """What a method asked, in order: made unless it is on disk."""
    path = out / task / method / f"{seed}.csv"
    if not path.exists():
        objective = Remembered(GuacaMol(task))
        METHODS[method](Cell(objective, seed, calls, path.with_suffix(""), out / "shared"))
        rows = [(sample, value) for (_, sample), value in objective.asked.items()][:calls]
        write_csv(path, pd.DataFrame(rows, columns=["sample", "score"]))
    return read_csv(path, dtype={"sample": str})


def write(rows: pd.DataFrame, calls: int, path: Path) -> None:
    """The table of all rows so far."""
    text, order = [f"# Goal-directed tasks at {calls:,} scoring calls\n", NOTES.read_text()], (*TASKS, *METHODS)
    rows = rows.sort_values(["task", "method"], key=lambda column: column.map(order.index))
    for task, table in rows.groupby("task", sort=False):
        text += [
            f"\n## {task}\n",
            "| method | seeds | " + " | ".join(COLUMNS) + " |",
            "|---" * (len(COLUMNS) + 2) + "|",
        ]
        for method, found in table.groupby("method", sort=False):
            spans = [interval(found[name].tolist(), [""] * len(found), found["seed"].tolist()) for name in COLUMNS]
            shown = [f"{s.mean:.3f}" + (f" ± {s.half:.3f}" if s.half == s.half else "") for s in spans]
            text.append(f"| {method} | {len(found)} | " + " | ".join(shown) + " |")
    path.write_text("\n".join(text) + "\n")


def main(
    out: str = "outputs/tasks",
    tasks: list[str] = list(TASKS),  # noqa: B006
    methods: list[str] = list(METHODS),  # noqa: B006
    seeds: list[int] = [0, 1, 2],  # noqa: B006
    calls: int = 500,
    table: str = "tasks",
) -> None:
    """Draws every row that is not in the table's CSV file yet, and writes the table, after each one too."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    home = Path(__file__).parent / table
    rows = Rows(home.with_suffix(".csv"), ["task", "method", "seed"])
    for seed, task, method in tqdm(list(product(seeds, tasks, methods)), unit="row"):
        if len(rows.of(task=task, method=method, seed=seed)):
            continue
        found = measured(cell(expand(out), task, method, seed, calls), calls)
        rows.add(pd.DataFrame([{"task": task, "method": method, "seed": seed, **found}]))
        write(rows.table, calls, home.with_suffix(".md"))
    write(rows.table, calls, home.with_suffix(".md"))


if __name__ == "__main__":
    auto_cli(main)
