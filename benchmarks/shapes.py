"""The shapes task: vanilla, best-of-N, DPO, LiDAR and both on held-out captions. `python benchmarks/shapes.py`.

Every row is a run in `--out`, so that a killed benchmark goes on where it stopped; DPO is trained there first. After
each row shapes-sd.md or shapes-flux.md beside this file is written from all rows so far. Accuracy is the share of
pictures that a program reads as their caption says; the guidance sees a learned reward only, or where it says so
JPEGCompressibility as well, which is shown of all rows as "jpeg".
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from jsonargparse import auto_cli
from tqdm.auto import tqdm

from lidar_lightning import Lookahead, Reward
from lidar_lightning.evaluation.pictures import diversity_within
from lidar_lightning.rewards import Combined, JPEGCompressibility, ShapesReward, ShapesVerdict
from lidar_lightning.runs.intervals import interval
from lidar_lightning.samplers import Meter
from lidar_lightning.shapes.grammar import CATEGORIES, held_out_prompts, parse
from lidar_lightning.utils.pictures import read_picture
from lidar_lightning.utils.tables import read_csv
from recipes import shapes
from recipes.text_to_image import sample

PROMPTS, SWEPT, SAMPLES, STEPS = 200, 48, 4, 25
DPO: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "shapes-flux": ({"n": 20, "prompts": 200}, {"steps": 200, "fraction": 0.25, "decay": 0.0})
}
"""Of a model, the arguments of `recipes.shapes.banks` and `dpo` with which it was tuned, if not those of the recipe."""
SHOWN = ["accuracy", *CATEGORIES, "reward", "jpeg", "diversity", "calls", "seconds", "peak MiB"]


@dataclass(frozen=True)
class Setting:
    """One row. A preset of None is the plain model; the best `samples` of `drawn` pictures of each caption are kept."""

    seed: int = 0
    preset: str | None = "dpm-5"
    n: int = 50
    scale: float = 12.5
    ess: float | None = None
    temperature: float | None = 5000.0
    stop: float = 0.2
    dpo: bool = False
    jpeg: bool = False
    samples: int = SAMPLES
    drawn: int = SAMPLES
    prompts: int = PROMPTS

    def label(self) -> str:
        if self.preset is None:
            plain = "DPO" if self.dpo else "vanilla"
            return plain if self.drawn == self.samples else f"{plain}, best {self.samples} of {self.drawn}"
        tilt = f"ESS {self.ess:g}" if self.ess is not None else f"lambda {self.temperature:g}"
        extra = " + JPEG" * self.jpeg
        kind = f"{'DPO+' * self.dpo}LiDAR {self.preset} n={self.n}"
        return f"{kind} s={self.scale:g} {tilt} stop={self.stop:g}{extra}"

    def folder(self) -> str:
        """Name of the row's run."""
        kept = f", {self.samples} samples" * (self.samples != SAMPLES)
        return f"{self.label()}, seed {self.seed}, {self.prompts} prompts{kept}".replace(" ", "-")


def run(setting: Setting, model: str, out: Path, checkpoint: str, dtype: str) -> None:
    """Draws the pictures of a row."""
    reward: Reward = ShapesReward()
    if setting.jpeg:
        reward = Combined([reward, JPEGCompressibility()])
    meter = Meter()
    with meter.running():
        sample(
            shapes.load(model, dtype), reward, held_out_prompts()[: setting.prompts], str(out),
            Lookahead(n=setting.n, preset=setting.preset) if setting.preset else None, setting.drawn, 64,
            checkpoint if setting.dpo else None, steps=STEPS, scale=setting.scale, ess=setting.ess,
            temperature=setting.temperature, stop=setting.stop, seed=setting.seed, metrics=[ShapesVerdict()],
        )  # fmt: skip
    (out / "peak.json").write_text(json.dumps(meter.peak_mib))


def kept_samples(setting: Setting, out: Path) -> pd.DataFrame:
    """The pictures of each caption that have the highest guiding reward."""
    table = read_csv(out / "samples.csv")
    return table.sort_values("shapes_reward", ascending=False).groupby("prompt", sort=False).head(setting.samples)


def measure(setting: Setting, out: Path) -> dict[str, float]:
    """The numbers of a row."""
    (summary,) = json.loads((out / "summary.json").read_text())["methods"].values()
    kept = kept_samples(setting, out)
    category = kept["prompt"].map(lambda text: parse(text).category)
    shown, sizes = [], []
    for prompt, names in kept.groupby("prompt")["sample"]:
        pictures = torch.stack([read_picture(out / name) for name in names])
        sizes.append(JPEGCompressibility()(pictures, [prompt] * len(pictures)))
        shown += [(prompt, picture) for picture in pictures]
    return {
        "accuracy": kept["shapes_verdict"].mean(),
        **kept["shapes_verdict"].groupby(category).mean(),
        "reward": kept["shapes_reward"].mean(),
        "jpeg": torch.cat(sizes).mean().item(),
        "diversity": diversity_within([prompt for prompt, _ in shown], torch.stack([picture for _, picture in shown])),
        "calls": summary["calls"] * setting.drawn / setting.samples,
        "seconds": summary["seconds"],
        "peak MiB": json.loads((out / "peak.json").read_text()),
    }


def methods(lidar: Setting) -> list[Setting]:
    """Vanilla, best-of-N with the network calls of LiDAR, DPO, LiDAR, and DPO with either."""
    plain = replace(lidar, preset=None, drawn=lidar.samples)
    best = replace(
        plain, drawn=round(lidar.samples + lidar.n * Lookahead(n=lidar.n, preset=lidar.preset).steps / STEPS)
    )
    return [plain, best, lidar, *(replace(row, dpo=True) for row in (plain, best, lidar))]


def settings(seeds: Sequence[int]) -> dict[str, list[Setting]]:
    """The rows of each table."""
    base = Setting(seeds[0], prompts=SWEPT)
    tilts = [replace(base, ess=ess, temperature=None) for ess in (0.05, 0.1, 0.3)]
    tilts += [replace(tilts[1], scale=50.0)] + [replace(base, scale=scale) for scale in (1.0, 4.0, 12.5, 25.0)]
    return {
        "main": [row for seed in seeds for row in methods(Setting(seed))],
        "scale": [
            Setting(seed, scale=scale, dpo=dpo) for dpo in (False, True) for scale in (12.5, 25.0) for seed in seeds
        ],
        "16 pictures of each caption, which share a bank": methods(replace(base, samples=16, drawn=16)),
        "n": [replace(base, n=n) for n in (3, 9, 50, 100)],
        "lookahead steps": [replace(base, preset=preset) for preset in ("dpm-3", "dpm-5", "dpm-8")],
        "tilt": tilts,
        "stop": [replace(base, stop=stop) for stop in (0.0, 0.2, 0.5)],
        "rewards": [base, replace(base, jpeg=True), replace(base, preset=None)],
    }


def main(
    model: str = "shapes-sd",
    out: str = "outputs/benchmarks",
    seeds: list[int] = [0, 1, 2],  # noqa: B006
    only: list[str] | None = None,
    dtype: str = "float32",
) -> None:
    """Draws every row of the tables, or of those that `only` names, and writes the tables of all rows there are."""
    folder = Path(out) / Path(model).name
    tables = settings(seeds)
    if only and (unknown := set(only) - set(tables)):
        raise ValueError(f"no tables {sorted(unknown)}: choose from {list(tables)}")
    drawn, tuned = DPO.get(folder.name, ({}, {}))
    banks = shapes.banks(str(folder / "banks"), model, **drawn)
    checkpoint = shapes.dpo(banks, str(folder / "dpo"), model, **tuned)
    wanted = {setting for name, table in tables.items() if only is None or name in only for setting in table}
    rows: dict[Setting, dict[str, float]] = {}
    for setting in tqdm(list(dict.fromkeys(setting for table in tables.values() for setting in table)), unit="row"):
        home = folder / setting.folder()
        if setting in wanted and not (home / "peak.json").exists():
            run(setting, model, home, checkpoint, dtype)
        if (home / "peak.json").exists():
            rows[setting] = measure(setting, home)
            write(tables, rows, Path(model).name, folder)


def spans(settings: Sequence[Setting], folder: Path) -> dict[str, str]:
    """Accuracy and reward of one row over its seeds, with intervals over captions."""
    found = {setting.seed: kept_samples(setting, folder / setting.folder()) for setting in settings}
    table = pd.concat(found, names=["seed"]).reset_index()
    prompts, seeds = table["prompt"].tolist(), table["seed"].tolist()
    columns = {"accuracy": "shapes_verdict", "reward": "shapes_reward"}
    return {name: interval(table[column].tolist(), prompts, seeds).text() for name, column in columns.items()}


def write(tables: dict[str, list[Setting]], rows: dict[Setting, dict[str, float]], model: str, folder: Path) -> None:
    """The tables of the rows there are, means over seeds and intervals over captions."""
    text = [
        f"# {model}: pictures of held-out captions, {SAMPLES} of each if no other number is given, {STEPS} steps\n",
        "Means over seeds ± half of a 95% confidence interval over captions. All rows share these, so that two of them",
        "differ by less than their intervals say. Seconds are comparable only if nothing else ran on the machine;",
        "image_overhead.py measures times side by side.",
    ]
    for name, table in tables.items():
        done = [setting for setting in table if setting in rows]
        if len(done) < 2:  # a row that another table has
            continue
        frame = pd.DataFrame([{"setting": s.label(), **rows[s]} for s in done]).groupby("setting", sort=False)
        means, seeds = frame.mean(), frame.size()
        text += [f"\n## {name} ({done[0].prompts} captions)\n"]
        text += ["| setting | seeds | " + " | ".join(SHOWN) + " |", "|" + "---|" * (len(SHOWN) + 2)]
        for label in means.index:
            known = spans([setting for setting in done if setting.label() == label], folder)
            plain = {k: f"{means[k][label]:.{0 if means[k][label] >= 100 else 3}f}" for k in SHOWN}
            cells = [known.get(k, plain[k]) for k in SHOWN]
            text.append(f"| {label} | {seeds[label]} | " + " | ".join(cells) + " |")
    (Path(__file__).parent / f"{model}.md").write_text("\n".join(text) + "\n")


if __name__ == "__main__":
    auto_cli(main)
