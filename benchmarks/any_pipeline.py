"""`AnyPipeline` beside the backbones of the models' own classes: `nice python -m benchmarks.any_pipeline`.

Four pictures of each held-out caption of the shipped models, drawn by each method through either backbone, with equal
seeds; then the CPU seconds of the stock call and of `AnyPipeline` with the same network calls, in turn. It writes
any-pipeline.md beside this file. ± is half of a 95% confidence interval over captions; differences are by caption.
"""

import time
from collections.abc import Iterator
from functools import cache
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

import pandas as pd
import torch
from jsonargparse import auto_cli
from tqdm.auto import tqdm

from lidar_lightning import AnyPipeline, Lookahead
from lidar_lightning.backbones import Backbone
from lidar_lightning.rewards import ShapesReward, ShapesVerdict, score
from lidar_lightning.runs.intervals import interval
from lidar_lightning.samplers import BestOfN, LiDAR, Sampler, Task
from lidar_lightning.shapes.grammar import held_out_prompts
from lidar_lightning.utils.files import expand
from lidar_lightning.utils.seeding import Generators
from lidar_lightning.utils.tables import write_csv
from recipes import shapes

SAMPLES, STEPS = 4, 25
SIZE = {"height": 64, "width": 64}
CALLS = {"shapes-sd": {"guidance_scale": 1.0, **SIZE}, "shapes-flux": {"max_sequence_length": 16, **SIZE}}
NAMES = {True: "AnyPipeline", False: "own class"}


def methods(n: int) -> dict[str, Sampler]:
    """Plain samples, the published form, and the restart with moves that the configurations take."""
    lookahead = Lookahead(n=n, preset="dpm-5")
    return {
        "plain": BestOfN(1),
        "LiDAR from noise": LiDAR(lookahead, temperature=5000.0, scale=12.5, stop=0.2),
        "LiDAR, restart": LiDAR(lookahead, temperature=5000.0, scale=12.5, restart=0.6),
        "LiDAR, 4 moves": LiDAR(lookahead, temperature=5000.0, scale=0.0, restart=0.6, moves=4, steps=8, pooled=False),
    }


def drawn(backbone: Backbone, reward: ShapesReward, caption: str, n: int) -> Iterator[dict[str, Any]]:
    """Of each method the mean reward, mean verdict and network calls of the pictures of a caption, by one bank."""
    banks = cache(lambda lookahead, prompt: lookahead.bank(backbone, prompt, 0, [reward]))
    for method, sampler in methods(n).items():
        solver = backbone.random_solver(STEPS) if sampler.random else backbone.solver(STEPS)
        task = Task(backbone, solver, reward, caption, banks=banks)  # type: ignore[arg-type]
        pictures = backbone.decode(sampler(task, SAMPLES))
        found = [score(one, pictures, [caption] * SAMPLES).mean().item() for one in (reward, ShapesVerdict())]
        yield {"method": method, "reward": found[0], "as asked for": found[1], "calls": task.meter.network / SAMPLES}


def overhead(whole: AnyPipeline, captions: list[str], repeats: int) -> float:
    """Median CPU seconds of `AnyPipeline` over those of the stock call, for `SAMPLES` pictures of `STEPS` steps."""
    solver, seconds = whole.solver(STEPS), {True: [], False: []}  # type: ignore[var-annotated]
    whole.pipe.scheduler = whole.scheduler
    for number in range(repeats + 1):
        prompt = captions[number % len(captions)]
        for ours in (True, False) if number % 2 else (False, True):
            streams, begin = Generators(range(SAMPLES)), time.process_time()
            if ours:
                whole.decode(whole.run(solver, streams, [prompt]))
            else:
                told = {"num_inference_steps": STEPS, "generator": streams.streams, "output_type": "pt"}
                whole.pipe(prompt=[prompt] * SAMPLES, **told, **whole.call)
            seconds[ours].append(time.process_time() - begin)
    return median(seconds[True][1:]) / median(seconds[False][1:])


def table(rows: pd.DataFrame) -> list[str]:
    """A line for each method and backbone, with differences by caption."""
    lines = [
        "| model | method | backbone | reward | over plain | AnyPipeline over own class | as asked for | calls |",
        "|---|---|---|---|---|---|---|---|",
    ]

    def text(values: pd.Series, sign: bool = False) -> str:
        return interval(values.tolist(), values.index.tolist(), [0] * len(values)).text(sign=sign)

    for (model, method, whole), some in rows.groupby(["model", "method", "whole"], sort=False):
        here = rows[rows["model"] == model]
        one = some.set_index("caption")
        plain = here[(here["method"] == "plain") & (here["whole"] == whole)].set_index("caption")["reward"]
        own = here[(here["method"] == method) & ~here["whole"]].set_index("caption")["reward"]
        gain = text(one["reward"] - plain, True) if method != "plain" else ""
        beside = text(one["reward"] - own, True) if whole else ""
        cells = [text(one["reward"]), gain, beside, text(one["as asked for"]), f"{one['calls'].mean():.1f}"]
        lines.append(f"| {model} | {method} | {NAMES[bool(whole)]} | {' | '.join(cells)} |")
    return lines


def main(
    models: list[str] = ["shapes-sd", "shapes-flux"],  # noqa: B006
    captions: int = 16,
    n: int = 20,
    repeats: int = 15,
    rows: str = "outputs/benchmarks/any-pipeline.csv",
    out: str = str(Path(__file__).with_name("any-pipeline.md")),
) -> None:
    """Draws, times, and writes the tables; captions that `rows` holds are not drawn again."""
    torch.set_num_threads(1)
    texts, reward, path = held_out_prompts()[:captions], ShapesReward(), expand(rows)
    own = {model: shapes.load(model) for model in models}
    whole = {
        model: AnyPipeline(one.pipe, CALLS[model], type(one.scheduler).__name__, name=model)
        for model, one in own.items()
    }
    found = pd.read_csv(path) if path.exists() else pd.DataFrame()
    for caption, model in tqdm(list(product(texts, models))):
        if len(found) and ((found["caption"] == caption) & (found["model"] == model)).any():
            continue
        told = {"model": model, "caption": caption}
        new = [{**told, "whole": False, **row} for row in drawn(own[model], reward, caption, n)]
        new += [{**told, "whole": True, **row} for row in drawn(whole[model], reward, caption, n)]
        found = pd.concat([found, pd.DataFrame(new)], ignore_index=True)
        write_csv(path, found)
    ratios = {model: overhead(one, texts, repeats) for model, one in whole.items()}
    timed = [f"| {model} | {ratio:.3f} |" for model, ratio in ratios.items()]
    lines = [
        f"# AnyPipeline beside the models' own backbones: {captions} held-out captions, {SAMPLES} pictures of each\n",
        f"`python -m benchmarks.any_pipeline --captions {captions} --repeats {repeats}`: {STEPS} steps "
        f"(moves: 8), n={n} lookaheads of dpm-5, one seed, one thread. ± is half of a 95% confidence interval over "
        "captions; differences are by caption.\n",
        *table(found[found["caption"].isin(texts)].sort_values("model", ascending=False, kind="stable")),
        f"\nSeconds of CPU over those of the stock call with as many network calls, medians of {repeats} runs in turn "
        f"of {SAMPLES} pictures, on a machine with other work:\n",
        "| model | AnyPipeline / stock call |\n|---|---|",
        *timed,
    ]
    Path(out).write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    auto_cli(main)
