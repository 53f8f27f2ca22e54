"""What rounds of fine-tuning and guidance leave on disk, and the numbers of all of them.

RUN/run.json               the settings, but for the number of rounds; another run may not continue this one
RUN/stages/STAGE-K.json    the numbers of a finished stage of round K
RUN/scores/REWARD.csv      every sample that was scored, in the order of the calls
RUN/drawn-K                banks by the policy of the round before
RUN/pool-K, RUN/found-K    banks: these with the best of all rounds before; the best after the round
RUN/trained-K/last.ckpt    the policy of round K
RUN/round-K/               its guided samples, a run of their own (see `runs.folder`)
RUN/rounds.csv             a row for each round
RUN/curve.csv              reward, validity and diversity over rounds and scoring calls
RUN/last.ckpt              the last policy, for `lidar predict --ckpt_path`; of image models also RUN/lora for diffusers
RUN/summary.json, report.html
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from lidar_lightning.runs.folder import RunFolder
from lidar_lightning.runs.report import write_report
from lidar_lightning.runs.terminal import table
from lidar_lightning.utils.tables import write_csv

DRAWN, TRAINED, GUIDED = "drawn", "trained", "round"
SHOWN = ("scoring_calls", "policy_reward", "reward", "valid", "diversity", "top_10")
CURVES = ("reward", "valid", "diversity")
FILES = {"report": "report.html", "table": "rounds.csv", "curve": "curve.csv", "weights": "last.ckpt"}

Stages = Mapping[str, Mapping[str, float]]
"""The numbers of each stage of a round by its name; "scoring_calls" are those until its end."""


def round_rows(rounds: Sequence[Stages]) -> dict[str, dict[str, float]]:
    """The row of each round: what its guided samples are worth, what its policy draws by itself in few steps, the mean
    of the ten best samples so far, and calls of the reward, and of the network on single samples, until its end.

    The policy of a round is judged by the bank that the next round draws, that of the last one therefore not at all.
    """
    rows: dict[str, dict[str, float]] = {}
    network = tuning = 0.0
    for number, stages in enumerate(rounds):
        guided, policy = stages[GUIDED], rounds[number + 1][DRAWN] if number + 1 < len(rounds) else {}
        network += stages[DRAWN]["network_calls"] + guided["network_calls"]
        tuning += stages[TRAINED]["tuning_calls"]
        rows[f"{GUIDED}-{number + 1}"] = {
            **guided,
            "network_calls": network,
            **{f"policy_{name}": policy[name] for name in CURVES if name in policy},
            "tuning_calls": tuning,
        }
    return rows


def curve(rounds: Sequence[Stages]) -> pd.DataFrame:
    """Columns round, samples ("policy", as drawn by the policy of the round before, or "guided"), scoring_calls, and
    reward, valid (of molecules), diversity and top_10 of them."""
    points = []
    for number, stages in enumerate(rounds, 1):
        for name, samples in ((DRAWN, "policy"), (GUIDED, "guided")):
            numbers = stages[name]
            shown = {key: numbers[key] for key in (*CURVES, "top_10") if key in numbers}
            points.append({"round": number, "samples": samples, "scoring_calls": numbers["scoring_calls"], **shown})
    return pd.DataFrame(points)


def report_rounds(
    folder: Path, rounds: Sequence[Stages], settings: Mapping[str, Any], reward: str, higher: bool, modality: str
) -> Path:
    """Writes tables, summary and report of all rounds and returns the path of the report."""
    rows, points = round_rows(rounds), curve(rounds)
    write_csv(folder / "rounds.csv", pd.DataFrame.from_dict(rows, orient="index").rename_axis("round").reset_index())
    write_csv(folder / "curve.csv", points)
    lines: dict[str, dict[str, list[list[float | None]]]] = {}
    for name in CURVES:
        for samples, part in points.groupby("samples") if name in points else ():
            pairs = part[["scoring_calls", name]].dropna().itertuples(index=False)
            lines.setdefault(name, {})[str(samples)] = [[calls, value, None, None] for calls, value in pairs]
    tops = points[["scoring_calls", "top_10"]].dropna().itertuples(index=False)
    lines["mean of the best 10"] = {"found": [[calls, value, None, None] for calls, value in tops]}
    RunFolder(folder, {}).write_summary(
        {
            "title": f"{len(rounds)} rounds",
            "methods": rows,
            "curves": lines,
            "curves_over": "scoring calls",
            "reward_name": reward,
            "higher_is_better": higher,
            "modality": modality,
            "settings": dict(settings),
        }
    )
    return write_report(folder)


def closing_rounds(folder: Path, rows: Mapping[str, Mapping[str, Any]]) -> str:
    """What all rounds gained, and where to look at it."""
    places = "\n".join(f"  {name:<9} {folder / file}" for name, file in FILES.items())
    return f"{table(rows, SHOWN)}\n\n{places}"
