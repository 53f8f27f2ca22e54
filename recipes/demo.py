"""The whole workflow in minutes, on the shipped models: LiDAR, DPO on its banks, and both together."""

import json
import logging
from pathlib import Path
from typing import Any

from lidar_lightning.runs.report import write_report
from lidar_lightning.runs.terminal import table
from lidar_lightning.utils.files import check_folder, expand, write_atomically
from lidar_lightning.utils.progress import working
from recipes import qm9_dpo, qm9_lidar, shapes
from recipes.picture import before_after

logger = logging.getLogger(__name__)
METHODS = ("vanilla", "lidar", "dpo", "dpo+lidar")


def molecules(
    out: str = "outputs/demo",
    model: str = "udlm-qm9-small",
    samples: int = 256,
    n: int = 400,
    lookahead_steps: int = 8,
    dpo_steps: int = 80,
    seed: int = 0,
) -> str:
    """Draws molecules with many rings; writes `out`/summary.json and `out`/report.html; returns the report's path."""
    folder = expand(out)

    logger.info("molecules: %s ...", ", ".join(METHODS))

    def predict(method: str, checkpoint: str | None = None) -> None:
        qm9_lidar.main(
            str(folder / method), method, checkpoint, model, "lidar" in method, n, lookahead_steps,
            samples=samples, seed=seed,
        )  # fmt: skip

    predict("vanilla")
    predict("lidar")
    banks, training = str(folder / "lidar" / "banks"), str(folder / "training")
    with working("dpo: training", dpo_steps):
        checkpoint = qm9_dpo.main(banks, training, model, dpo_steps, batch_size=32, draws=2, seed=seed)
    predict("dpo", checkpoint)
    predict("dpo+lidar", checkpoint)
    header = {"title": "Molecules with many rings", "reward_name": "ring_count"}
    return collect(folder, header, ("reward", "valid", "novel", "calls"))


def pictures(
    out: str = "outputs/demo/shapes",
    model: str = shapes.MODEL,
    prompts: int = 24,
    n: int = 40,
    steps: int = 25,
    banks: int = 80,
    dpo_steps: int = 100,
    reward: str = "shapes-reward",
    seed: int = 0,
) -> str:
    """Draws pictures of coloured shapes; writes `out`/summary.json and `out`/report.html; returns the report's path."""
    folder = expand(out)
    logger.info("pictures: banks to learn from, then %s ...", ", ".join(METHODS))
    drawn = shapes.banks(str(folder / "training" / "banks"), model, "dpm-5", 16, banks, seed, reward)
    training = str(folder / "training" / "dpo")
    with working("dpo: training", dpo_steps):
        checkpoint = shapes.dpo(drawn, training, model, dpo_steps, fraction=0.25, reward=reward)
    for method in METHODS:
        shapes.lidar(
            str(folder / method), model, "dpm-5" if "lidar" in method else None, n, steps, prompts=prompts, seed=seed,
            method=method, checkpoint=checkpoint if "dpo" in method else None, reward=reward,
        )  # fmt: skip
    title = {"title": "Coloured shapes", "reward_name": "shapes_reward", "modality": "image"}
    return collect(folder, title, ("reward", "shapes_verdict", "calls"))


def collect(folder: Path, header: dict[str, Any], shown: tuple[str, ...]) -> str:
    """Writes one summary and one report of the runs of all methods, and prints the columns `shown`."""
    methods: dict[str, dict[str, float]] = {}
    for method in METHODS:
        methods |= json.loads((folder / method / "summary.json").read_text())["methods"]
    write_atomically(folder / "summary.json", json.dumps({**header, "methods": methods}, indent=1).encode())
    print(f"\n{header['title']} (reward: {header['reward_name']})\n{table(methods, shown)}", flush=True)
    return str(write_report(folder))


def main(out: str = "outputs/demo", seed: int = 0) -> str:
    """Draws molecules into `out`, then pictures into `out`/shapes; returns a text that says where to look."""
    folder = check_folder(expand(out))
    reports = molecules(out, seed=seed), pictures(str(folder / "shapes"), seed=seed)
    drawn = before_after(folder, folder / "shapes", folder / "before-after.png")
    return "\nLook at " + "\n        ".join((*reports, str(drawn)))


if __name__ == "__main__":
    from jsonargparse import auto_cli

    auto_cli(main)
