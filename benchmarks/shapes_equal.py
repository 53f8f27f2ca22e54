"""Methods at their budgets on shapes, with what no reward sees: `python -m benchmarks.shapes_equal --model MODEL`.

Four pictures of each held-out caption, which are pooled over the caption, by the settings of `methods`, which were
chosen on other captions. Each part of a row is kept in `--out`, so that a killed run goes on where it stopped, and each
caption of a finished row in MODEL-equal.csv beside this file, from which MODEL-equal.md is written; ± is half of a 95%
confidence interval over captions and seeds. The tuned model of the DPO rows is made first.
"""

import random
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch
from jsonargparse import auto_cli
from torch import Tensor
from tqdm.auto import tqdm

from benchmarks.equal import Banks, Rows, bfloat16, kept
from lidar_lightning import Lookahead
from lidar_lightning.backbones.pipeline import PipelineBackbone
from lidar_lightning.evaluation.frechet import encoder_features, frechet_distance
from lidar_lightning.evaluation.pictures import diversity_within
from lidar_lightning.rewards import ShapesReward, ShapesVerdict, score
from lidar_lightning.runs.intervals import interval
from lidar_lightning.samplers import BestLookaheads, BestOfN, LiDAR, Sampler, Task
from lidar_lightning.samplers.meter import Meter
from lidar_lightning.shapes.grammar import CATEGORIES, held_out_prompts, parse
from lidar_lightning.shapes.render import compose, render
from recipes import shapes

STEPS, SAMPLES, PART, RENDERED = 25, 4, 10, 16
BANKS: dict[str, Any] = {"preset": "dpm-5", "n": 20, "prompts": 200}
TUNING: dict[str, Any] = {"steps": 200, "fraction": 0.25, "decay": 0.0}
"""Arguments of `recipes.shapes.banks` and `dpo`."""
COLUMNS = ["accuracy", "reward", "diversity"]


class Row(NamedTuple):
    """A method, its network calls for each picture, and whether it samples the tuned model."""

    sampler: Sampler
    calls: int
    tuned: bool = False


def methods(model: str) -> dict[str, Row]:
    """The rows of the table; their budgets set their free numbers."""
    lookahead = Lookahead(5) if model == "shapes-flux" else Lookahead(preset="dpm-5")
    published = LiDAR(lookahead, temperature=5000.0, scale=12.5, stop=0.2)
    moves = LiDAR(lookahead, pooled=False, steps=8, temperature=5000.0, scale=0.0, restart=0.6, moves=4)
    plain = {
        "vanilla": Row(BestOfN(1), STEPS),
        "best-of-N": Row(BestOfN(), 88),
        "best-of-N, 8 steps": Row(BestOfN(steps=8), 88),
        "best lookaheads, 5 steps": Row(BestLookaheads(lookahead), 88),
        "LiDAR as published": Row(published, 88),
        "LiDAR, 4 moves": Row(moves, 75),
    }
    tuned = {f"DPO, {name}": plain[name]._replace(tuned=True) for name in ("vanilla", "best-of-N", "LiDAR, 4 moves")}
    return plain | tuned


def sized(row: Row, backbone: PipelineBackbone) -> Sampler:
    """The sampler of a row within its budget."""
    return row.sampler.within(row.calls, STEPS, SAMPLES, lambda steps: backbone.random_solver(steps).times)


def drawn(row: Row, backbone: PipelineBackbone, banks: Banks, prompts: list[str]) -> dict[str, Tensor]:
    """Pictures (captions, SAMPLES, 3, 64, 64) uint8, their rewards and verdicts, and what a picture cost."""
    pictures, found, calls, sampler = [], [], 0, sized(row, backbone)
    together = len(prompts) if sampler.several else 1
    for start in range(0, len(prompts), together):
        texts = prompts[start : start + together]
        task = Task(
            backbone, backbone.random_solver(STEPS), banks.reward, texts, seed=banks.seed, banks=banks,
            meter=Meter(row.calls * SAMPLES * len(texts)),
        )  # fmt: skip
        with bfloat16(backbone), torch.no_grad():
            images = backbone.decode(sampler(task, SAMPLES * len(texts))).float().clamp(0, 1)
        each = [text for text in texts for _ in range(SAMPLES)]
        pictures.append((255 * images).round().to(torch.uint8).unflatten(0, (-1, SAMPLES)))
        found.append(torch.stack([score(one, images, each) for one in (banks.reward, ShapesVerdict())]))
        calls += task.meter.network
    cost = torch.tensor(calls / len(prompts) / SAMPLES)
    return {"pictures": torch.cat(pictures), "scores": torch.cat(found, 1).unflatten(1, (-1, SAMPLES)), "calls": cost}


def compiled(backbone: PipelineBackbone) -> PipelineBackbone:
    """The model with its network compiled for each batch size, which on a CPU takes half the seconds."""
    torch._dynamo.config.recompile_limit = 64
    backbone.network.compile(dynamic=False)
    return backbone


def real(backbone: PipelineBackbone, prompts: list[str]) -> Tensor:
    """Features of rendered pictures of the captions, `RENDERED` of each."""
    rng = random.Random(0)
    scenes = [compose(parse(prompt), rng) for prompt in prompts for _ in range(RENDERED)]
    return encoder_features(backbone.pipe.vae, render(scenes))


def measured(parts: list[dict[str, Tensor]], prompts: list[str], features: Tensor, vae: Any) -> pd.DataFrame:
    """What is to be said of a drawing: a line for each caption."""
    pictures = torch.cat([part["pictures"] for part in parts]).float() / 255
    scores = torch.cat([part["scores"] for part in parts], 1).mean(2)
    return pd.DataFrame({
        "prompt": prompts,
        "category": [parse(prompt).category for prompt in prompts],
        "accuracy": scores[1],
        "reward": scores[0],
        "diversity": [diversity_within([""] * SAMPLES, some) for some in pictures],
        "Frechet": frechet_distance(encoder_features(vae, pictures.flatten(0, 1)), features),
        "calls": torch.stack([part["calls"] for part in parts]).mean().item(),
    })  # fmt: skip


def write(rows: pd.DataFrame, model: str, path: Path) -> None:
    """The table of all rows so far."""
    captions, seeds = rows["prompt"].nunique(), rows.groupby("method")["seed"].nunique()
    text = [
        f"# {model}: {captions} held-out captions, {SAMPLES} pictures of each, pooled over the caption\n",
        "Accuracy is by the program's verdict, which no method sees. The Fréchet distance is to rendered pictures of "
        "the same captions, in features of the autoencoder's encoder, which no reward uses. ± is half of a 95% "
        "confidence interval over captions; all rows share these, so that differences to best-of-N are known better.\n",
        "| method | seeds | "
        + " | ".join([*COLUMNS, "accuracy over best-of-N", *CATEGORIES, "Fréchet", "calls"])
        + " |",
        "|---" * (len(COLUMNS) + len(CATEGORIES) + 5) + "|",
    ]
    best = rows[rows["method"] == "best-of-N"].set_index(["seed", "prompt"])["accuracy"]
    groups = dict(list(rows.groupby("method")))
    for method in [name for name in methods(model) if name in groups]:
        found = groups[method]
        who = found["prompt"].tolist(), found["seed"].tolist()
        spans = [interval(found[name].tolist(), *who).text() for name in COLUMNS]
        gains = found.set_index(["seed", "prompt"])["accuracy"].sub(best).dropna()
        where = [gains.index.get_level_values(level).tolist() for level in ("prompt", "seed")]
        gain = interval(gains.tolist(), *where).text(sign=True) if len(gains) and method != "best-of-N" else ""
        kinds = found.groupby("category")["accuracy"].mean()
        cells = [*spans, gain, *(f"{kinds[name]:.3f}" for name in CATEGORIES if name in kinds)]
        numbers = [f"{found['Frechet'].mean():.2f}", f"{found['calls'].mean():.1f}"]
        text.append(f"| {method} | {seeds[method]} | " + " | ".join([*cells, *numbers]) + " |")
    path.write_text("\n".join(text) + "\n")


def main(
    model: str = "shapes-sd",
    out: str = "outputs/benchmarks/shapes-equal",
    seeds: list[int] = [0, 1, 2],  # noqa: B006
    prompts: int = 200,
    only: list[str] | None = None,
    reward: str = "shapes-reward",
) -> None:
    """Draws every row, or those of `only`, that is not in the CSV file of the table yet, and writes the table."""
    folder, texts, scorer = Path(out) / model, held_out_prompts()[:prompts], ShapesReward(reward)
    place = Path(__file__).parent / f"{model}-equal"
    rows, chosen = Rows(place.with_suffix(".csv"), ["method", "seed", "prompt"]), methods(model)
    wanted = [key for key in product(seeds, only or chosen) if len(rows.of(seed=key[0], method=key[1])) < prompts]
    backbones = {False: compiled(shapes.load(model))}
    if any(chosen[name].tuned for _, name in wanted):
        pairs = shapes.banks(str(folder / "pairs"), model, reward=reward, **BANKS)
        shapes.dpo(pairs, str(folder / "dpo"), model, reward=reward, **TUNING)
        backbones[True] = compiled(shapes.load(model, lora=str(folder / "dpo" / "lora")))
    features = real(backbones[False], texts)
    needed = [sized(row, backbones[False]).lookahead for row in chosen.values()]
    most = max(lookahead.n * lookahead.steps for lookahead in needed if lookahead)
    for seed, name in tqdm(wanted, unit="row"):
        row = chosen[name]
        backbone = backbones[row.tuned]
        banks = Banks(backbone, scorer, seed, folder / "banks", most)
        parts = [
            kept(
                folder / f"{name} @ {row.calls}" / f"{seed}-{start}.safetensors",
                lambda some=texts[start : start + PART], row=row, one=backbone, banks=banks: drawn(
                    row, one, banks, some
                ),
            )
            for start in range(0, len(texts), PART)
        ]
        found = measured(parts, texts, features, backbones[False].pipe.vae).assign(method=name, seed=seed)
        rows.table = rows.table[(rows.table["method"] != name) | (rows.table["seed"] != seed)]
        rows.add(found)
        write(rows.table, model, place.with_suffix(".md"))
    write(rows.table, model, place.with_suffix(".md"))
    print(rows.table.groupby("method")[[*COLUMNS, "Frechet", "calls"]].mean().round(3).to_string())


if __name__ == "__main__":
    auto_cli(main)
