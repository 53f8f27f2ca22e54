"""A finished `lidar compare` as a table: `python benchmarks/compare.py outputs/shapes/compare shapes`.

Writes compare-shapes.md beside this file: rows in order of the reward at each budget, with 95% confidence intervals.
"""

import json
from pathlib import Path

import pandas as pd
from jsonargparse import auto_cli

HIDDEN = ["samples", "reward_ci95"]


def comparison_table(summary: dict) -> pd.DataFrame:
    """The rows of a comparison, every reward with the half-width of its confidence interval."""
    rows = pd.DataFrame(summary["methods"]).T
    frame = pd.DataFrame({"method": rows.index}, index=rows.index)
    for name, curves in summary["curves"].items():
        # The points of a method are in the order of its rows.
        points = {method: iter(curve) for method, curve in curves.items()}
        found = [next(points[row.split(" @ ")[0]]) for row in rows.index]
        frame[name] = [f"{mean:.3f} ± {high - mean:.3f}" for _, mean, _, high in found]
    for column in rows.columns.difference([*summary["curves"], summary["reward_name"], *HIDDEN], sort=False):
        frame[column] = [f"{value:.4g}" if value == value else "" for value in rows[column]]
    budget = pd.Series([int(name.split(" @ ")[1]) if "@" in name else 0 for name in rows.index], rows.index)
    best_first = rows["reward"] * (-1 if summary["higher_is_better"] else 1)
    return frame.loc[pd.DataFrame({"budget": budget, "reward": best_first}).sort_values(["budget", "reward"]).index]


def main(folder: Path, name: str) -> None:
    """Writes compare-`name`.md from the comparison in `folder`, and prints it."""
    summary = json.loads((folder / "summary.json").read_text())
    frame, settings = comparison_table(summary), summary["settings"]
    lines = [
        f"# Samplers at equal network calls: {name}\n",
        f"Reward {summary['reward_name']}, {', '.join(f'{key} {value}' for key, value in settings.items())}; "
        f"{summary['methods']['vanilla']['samples']:g} samples a row and seed. ± is half of a 95% confidence interval. "
        "Seconds are those of a machine that was busy with other work.\n",
        "| " + " | ".join(frame) + " |",
        "|---" * len(frame.columns) + "|",
        *("| " + " | ".join(row) + " |" for row in frame.itertuples(index=False)),
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    (Path(__file__).parent / f"compare-{name}.md").write_text(text)


if __name__ == "__main__":
    auto_cli(main)
