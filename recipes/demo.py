"""The whole workflow in minutes: LiDAR, DPO from its bank, and both together, on the shipped checkpoint."""

import json
from pathlib import Path

from lidar_lightning.files import write_atomically
from lidar_lightning.report import write_report
from recipes import qm9_dpo, qm9_lidar


def main(
    out: str = "outputs/demo",
    model: str = "udlm-qm9-small",
    samples: int = 256,
    n: int = 400,
    lookahead_steps: int = 16,
    dpo_steps: int = 80,
    seed: int = 0,
) -> str:
    """Writes `out`/summary.json and `out`/report.html, and returns the path of the report."""
    folder = Path(out)

    def predict(method: str, checkpoint: str | None = None) -> None:
        qm9_lidar.main(
            str(folder / method), method, checkpoint, model, "lidar" in method, n, lookahead_steps,
            samples=samples, seed=seed,
        )  # fmt: skip

    predict("vanilla")
    predict("lidar")
    checkpoint = qm9_dpo.main(
        str(folder / "lidar" / "banks"), str(folder / "training"), model, dpo_steps, batch_size=32, draws=2, seed=seed
    )
    predict("dpo", checkpoint)
    predict("dpo+lidar", checkpoint)
    methods: dict[str, dict[str, float]] = {}
    for method in ("vanilla", "lidar", "dpo", "dpo+lidar"):
        methods |= json.loads((folder / method / "summary.json").read_text())["methods"]
    summary = {"title": "Molecules with many rings", "reward_name": "ring_count", "methods": methods}
    write_atomically(folder / "summary.json", json.dumps(summary, indent=1).encode())
    for method, row in methods.items():
        print(f"{method:>10}  reward {row['reward']:.3f}  valid {row['valid']:.3f}  novel {row['novel']:.3f}")
    return str(write_report(folder))


if __name__ == "__main__":
    from jsonargparse import auto_cli

    auto_cli(main)
