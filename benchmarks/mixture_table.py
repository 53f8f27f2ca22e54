"""The tables of the mixture benchmark."""

from collections.abc import Callable
from statistics import mean
from typing import NamedTuple

from lidar_lightning.runs.intervals import interval


class Row(NamedTuple):
    """What a method did: E[r] and TV of each seed, TV of all seeds together, and its costs."""

    rewards: list[float]
    distances: list[float]
    pooled: float
    calls: float = 0
    shared: float = 0
    backward: float = 0


def error(row: Row, exact: float) -> float:
    """Mean distance of a seed's E[r] from the exact one."""
    return mean(abs(reward - exact) for reward in row.rewards)


def table(rows: dict[str, Row], exact: float) -> list[str]:
    """Lines of markdown."""

    def pair(values: list[float], digits: int) -> str:
        return interval(values, [""] * len(values), range(len(values))).text(digits)

    lines = ["| method | E[r] | error | TV, one seed | TV, all seeds | network calls | shared | backward |"]
    lines.append("|---" * 8 + "|")
    for name, row in rows.items():
        cells = [name, pair(row.rewards, 2), f"{error(row, exact):.2f}", pair(row.distances, 3)]
        cells += [f"{row.pooled:.3f}", *(f"{number:.0f}" for number in (row.calls, row.shared, row.backward))]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def places(rows: dict[str, Row], draws: Row, exact: float) -> list[str]:
    """Who is nearest to the exact law, and where the rows of LiDAR stand."""
    measures: dict[str, Callable[[Row], float]] = {
        "error of E[r]": lambda row: error(row, exact),
        "TV of one seed": lambda row: mean(row.distances),
    }
    lines = []
    for what, distance in measures.items():
        order = sorted(rows, key=lambda name: distance(rows[name]))
        first = "; ".join(f"{name} ({distance(rows[name]):.3f})" for name in order[:8])
        lidar = "; ".join(f"{name} {place}" for place, name in enumerate(order, 1) if name.startswith("LiDAR"))
        plainly = "" if order[0].startswith("LiDAR") else "LiDAR is not first. "
        lines.append(f"- By {what}: {plainly}The nearest of {len(order)} are {first}; draws of the exact law have")
        lines.append(f"  {distance(draws):.3f}. Places of LiDAR: {lidar}.")
    return lines
