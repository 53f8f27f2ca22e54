"""Ring count on QM9, vanilla against LiDAR: the published table and sweeps. `python -m benchmarks.qm9`.

Every row is kept in `--out`, so that a killed run goes on where it stopped. After each row qm9.md, and with
the sweeps qm9.png, beside this file are written from all rows so far.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pandas as pd
import torch
from jsonargparse import auto_cli
from tqdm.auto import tqdm

from benchmarks.equal import bfloat16
from lidar_lightning import UDLM, BankStore, LiDARGuidance, LiDARSettings, Lookahead
from lidar_lightning.evaluation.molecules import molecule_metrics
from lidar_lightning.guidance.mask_kernel import kernel_of
from lidar_lightning.rewards import RingCount, score
from lidar_lightning.runs.intervals import interval
from lidar_lightning.sampling import sample
from lidar_lightning.utils.seeding import Generators, stream_seed
from lidar_lightning.utils.smiles_io import read_smiles

SAMPLES, STEPS, BATCH, LARGEST = 1024, 32, 256, 1000
SHOWN = ["valid", "novel_count", "novel", "canonical_novel_count", "unique"]
SHOWN += ["ring_count", "novel_ring_count", "nfe"]


@dataclass(frozen=True)
class Setting:
    """One row: `n` = 0 is the plain model; `best_of` keeps the best 1,024 of so many times more plain samples."""

    seed: int
    n: int = 200
    delta: int = 8
    ess: float | None = 0.1
    temperature: float | None = None
    stop: float = 0.3
    best_of: float = 1.0

    def label(self) -> str:
        if not self.n:
            return "vanilla" if self.best_of == 1 else f"best of {self.best_of:.2f}x"
        tilt = f"ESS {self.ess:g}" if self.ess is not None else f"lambda {self.temperature:g}"
        return f"LiDAR n={self.n} delta={self.delta} {tilt} stop={self.stop:g}"


def evaluate(setting: Setting, backbone: UDLM, store: BankStore, training: set[str]) -> dict[str, float]:
    """Metrics of one row. Smaller banks are the first samples of the largest one."""
    reward, guidance, calls = RingCount(), None, 0
    if setting.n:
        bank = Lookahead(setting.delta, LARGEST, batch_size=BATCH).bank(
            backbone, "molecule", setting.seed, [reward], store
        )
        guidance = LiDARGuidance(
            bank.samples[: setting.n],
            reward.from_scores(bank.rewards)[: setting.n],
            backbone.schedule,
            LiDARSettings(ess=setting.ess, temperature=setting.temperature, stop=setting.stop),
            kernel_of(backbone.vocab_size),
        )
        calls = setting.n * setting.delta
    drawn = round(SAMPLES * setting.best_of)
    strings: list[str] = []
    for start in range(0, drawn, BATCH):
        seeds = [stream_seed(setting.seed, "molecule", i) for i in range(start, min(start + BATCH, drawn))]
        with bfloat16(backbone):
            drawings = sample(backbone, backbone.solver(STEPS), Generators(seeds), None, guidance)
        strings += backbone.decode(drawings.samples)
    scores = score(reward, strings, ["molecule"] * drawn)
    kept = scores.argsort(descending=True, stable=True)[:SAMPLES].sort().values.tolist()
    metrics = molecule_metrics([strings[i] for i in kept], training, scores[kept])
    return {**metrics, "nfe": (drawn * STEPS + calls) / SAMPLES}


def settings(seeds: Sequence[int]) -> dict[str, list[Setting]]:
    """The rows of each table. Best-of-N has the network calls of LiDAR at the same n and delta."""
    base = Setting(seeds[0])
    equal = 1 + base.n * base.delta / (SAMPLES * STEPS)
    main = [s for seed in seeds for s in (Setting(seed, n=0), Setting(seed, n=0, best_of=equal), Setting(seed))]
    tilts = [replace(base, ess=e) for e in (0.02, 0.05, 0.1, 0.2, 0.5)]
    tilts += [replace(base, ess=None, temperature=value) for value in (0.5, 1.0, 2.0, 5.0)]
    return {
        "main": main,
        "stop": [replace(base, stop=stop) for stop in (0.0, 0.1, 0.3, 0.5, 0.7)],
        "temperature": tilts,
        "n": [replace(base, n=n) for n in (10, 50, 200, 1000)],
        "delta": [replace(base, delta=delta) for delta in (4, 8, 16, 32)],
    }


def main(model: str = "udlm-qm9-small", out: str = "outputs/benchmarks/qm9", seeds: list[int] = [0, 1, 2]) -> None:  # noqa: B006
    """Evaluates every row and writes the tables and the plot."""
    backbone = UDLM.from_pretrained(model)
    backbone.backbone.compile(dynamic=True)
    folder = Path(out) / f"{backbone.fingerprint()}-{backbone.solver(STEPS).name}"
    store, training = BankStore(folder / "banks"), set(read_smiles())
    tables = settings(seeds)
    rows: dict[Setting, dict[str, float]] = {}
    for setting in tqdm(list(dict.fromkeys(s for table in tables.values() for s in table)), unit="row"):
        path = folder / "rows" / f"{'-'.join(str(v) for v in asdict(setting).values())}.json"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(evaluate(setting, backbone, store, training)))
        rows[setting] = json.loads(path.read_text())
        done = {name: [s for s in table if s in rows] for name, table in tables.items()}
        write({name: table for name, table in done.items() if len(table) > 1 or name == "main"}, rows, backbone)


def write(tables: dict[str, list[Setting]], rows: dict[Setting, dict[str, float]], backbone: UDLM) -> None:
    here = Path(__file__).parent
    text = [f"# Ring count on QM9: {SAMPLES} samples, {STEPS} steps, {backbone.name} ({backbone.fingerprint()})\n"]
    text += ["± is half of a 95% confidence interval over seeds.\n"]
    for name, table in tables.items():
        frame = pd.DataFrame([{"setting": s.label(), **{k: rows[s][k] for k in SHOWN}} for s in table])
        grouped = frame.groupby("setting", sort=False)
        seeds = grouped.size().max()
        text += [f"\n## {name} ({seeds} seed{'s' if seeds > 1 else ''})\n", "| setting | " + " | ".join(SHOWN) + " |"]
        text += ["|" + "---|" * (len(SHOWN) + 1)]
        for label, rows_of in grouped:
            cells = [number(rows_of[k].tolist()) for k in SHOWN]
            text.append(f"| {label} | " + " | ".join(cells) + " |")
    (here / "qm9.md").write_text("\n".join(text) + "\n")
    if len(tables) > 1:
        plot(tables, rows, here / "qm9.png")


def number(values: Sequence[float]) -> str:
    """The mean of a number over seeds, of which each has one bank, and half of its interval, to three digits."""
    found = interval(values, [""] * len(values), range(len(values)))
    return found.text(0 if found.mean >= 100 else 1 if found.mean >= 10 else 3)


def plot(tables: dict[str, list[Setting]], rows: dict[Setting, dict[str, float]], path: Path) -> None:
    """Novel molecules and validity along each sweep, with the plain model as a dashed line."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.close("all")
    axes_of = {"n": "n", "delta": "delta", "temperature": "ess", "stop": "stop"}
    plain = rows[next(s for s in tables["main"] if not s.n)]
    figure, axes = plt.subplots(2, len(axes_of), figsize=(13, 5), sharey="row", constrained_layout=True)
    for column, (name, field) in enumerate(axes_of.items()):
        points = [s for s in tables.get(name, []) if getattr(s, field) is not None]
        for row, metric in enumerate(("novel_count", "valid")):
            axis = axes[row][column]
            axis.plot([getattr(s, field) for s in points], [rows[s][metric] for s in points], "o-", label="LiDAR")
            axis.axhline(plain[metric], ls="--", c="grey", label="vanilla")
            axis.set(xlabel={"delta": "lookahead steps", "ess": "target ESS / n"}.get(field, field))
            axis.set_xscale("log" if points and field != "stop" else "linear")
            axis.set_xticks([getattr(s, field) for s in points], [f"{getattr(s, field):g}" for s in points])
            axis.minorticks_off()
            axis.grid(alpha=0.3)
        axes[0][0].set_ylabel("novel valid molecules")
        axes[1][0].set_ylabel("valid fraction")
    axes[0][0].legend()
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    auto_cli(main)
