"""A finished `lidar compare` as a table: `python benchmarks/compare.py outputs/shapes/compare shapes`.

Writes compare-shapes.md beside this file: at each budget first the rows that seek the highest reward, then those that
draw from the target, either in order of the reward, with 95% confidence intervals (`lidar_lightning.runs.intervals`).
"""

import json
import math
from pathlib import Path

import pandas as pd
from jsonargparse import auto_cli

from lidar_lightning.runs.intervals import Interval, interval
from lidar_lightning.runs.tabulate import VANILLA
from lidar_lightning.utils.tables import read_csv

HIDDEN = ["samples", "reward_ci95", "keep"]


def comparison_table(summary: dict) -> pd.DataFrame:
    """The rows of a comparison, every reward with the half-width of its confidence interval."""
    rows = pd.DataFrame(summary["methods"]).T
    frame = pd.DataFrame({"method": rows.index, "keep": rows["keep"]}, index=rows.index)
    for name, curves in summary["curves"].items():
        # The points of a method are in the order of its rows.
        points = {method: iter(curve) for method, curve in curves.items()}
        found = [next(points[row.split(" @ ")[0]]) for row in rows.index]
        frame[name] = [shown(*point[1:]).text() for point in found]
    for column in rows.columns.difference([*summary["curves"], summary["reward_name"], *HIDDEN], sort=False):
        frame[column] = ["" if pd.isna(value) else f"{value:.4g}" for value in rows[column]]
    budget = pd.Series([float(name.split(" @ ")[1]) if "@" in name else 0 for name in rows.index], rows.index)
    best_first = rows["reward"].astype(float) * (-1 if summary["higher_is_better"] else 1)
    order = pd.DataFrame({"budget": budget, "keep": rows["keep"], "reward": best_first})
    return frame.loc[order.sort_values(["budget", "keep", "reward"]).index]


def shown(mean: float, low: float | None, high: float | None) -> Interval:
    """A point of a curve; ends that are not known are None there."""
    return Interval(*(math.nan if value is None else value for value in (low, mean, high)))


def over_vanilla(folder: Path, rewards: list[str]) -> pd.DataFrame:
    """By row, how far the mean rewards of a prompt lie above those of the plain model with the same seed."""
    means = {path.parent: read_csv(path).groupby("prompt")[rewards].mean() for path in folder.rglob("samples.csv")}
    gains = {home: mean - means[home.parent / VANILLA] for home, mean in means.items()}
    rows: dict[str, pd.Series] = {}
    for row in sorted({home.name for home in gains} - {VANILLA}):
        found = {home.parent.name: gain for home, gain in gains.items() if home.name == row}
        table = pd.concat(found, names=["seed"]).reset_index()
        seeds, prompts = table["seed"].tolist(), table["prompt"].tolist()
        spans = {reward: interval(table[reward].tolist(), prompts, seeds) for reward in rewards}
        rows[row] = pd.Series({reward: span.text(sign=True) for reward, span in spans.items()})
    return pd.DataFrame(rows).T.add_suffix(" over vanilla")


def main(folder: Path, name: str) -> None:
    """Writes compare-`name`.md from the comparison in `folder`, and prints it."""
    summary = json.loads((folder / "summary.json").read_text())
    frame, settings = comparison_table(summary), summary["settings"]
    lines = [
        f"# Samplers at equal {settings.get('budget_unit', 'calls')}: {name}\n",
        f"Reward {summary['reward_name']}, {', '.join(f'{key} {value}' for key, value in settings.items())}; "
        f"{summary['methods'][VANILLA]['samples']:g} samples a row and seed. ± is half of a 95% confidence interval "
        "over prompts, or of a single prompt over seeds. Rows that keep the best seek the highest reward, those that "
        "keep draws sample the target. "
        "Seconds are comparable only if nothing else ran on the machine.\n",
    ]
    if settings["prompts"] > 1:
        lines.append("What lies over vanilla is compared caption by caption and seed by seed.\n")
        rewards = [summary["reward_name"], *(other for other in summary["curves"] if other != "reward")]
        gains = over_vanilla(folder, rewards).reindex(frame.index).fillna("")
        for place, column in enumerate(gains, 1):
            frame.insert(2 * place + 1, column, gains[column])
    lines += [
        "| " + " | ".join(frame) + " |",
        "|---" * len(frame.columns) + "|",
        *("| " + " | ".join(row) + " |" for row in frame.itertuples(index=False)),
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    (Path(__file__).parent / f"compare-{name}.md").write_text(text)


if __name__ == "__main__":
    auto_cli(main)
