"""Time and memory of samplers that differentiate the reward, beside LiDAR's: `python benchmarks/gradients.py`.

The Stable Diffusion of the shapes task draws, decodes and scores pictures of one prompt, each method in a process of
its own. Memory is the highest resident memory of that process less what it held once model and reward were loaded
(Linux); with `--device cuda` it is the most that was allocated on the device, weights included, as published.
Writes gradients.md beside this file: medians, and ratios over the plain model beside those of arXiv 2602.03211.
"""

import ctypes
import multiprocessing
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from statistics import median

import torch
from jsonargparse import auto_cli
from torch import Tensor
from tqdm.auto import tqdm

from lidar_lightning import BankStore, LiDARGuidance, Lookahead
from lidar_lightning.rewards import ShapesReward, score
from lidar_lightning.samplers import DAS, DATE, DPS, Task, UniversalGuidance
from lidar_lightning.sampling import sample
from recipes import shapes

PROMPT = "a red circle left of a blue square"
PRESET, N = "dpm-5", 50
BEST = 1.52
"""Of ShapesReward, for a cosine of 1 between picture and caption."""
PUBLISHED = {"vanilla": (7.07, 8.90), "UG": (58.36, 28.16), "DATE": (32.89, 24.71), "LiDAR": (13.41, 8.90)}
"""Seconds and GiB of SD 1.5 on an A100: 4 pictures of 100 steps, ImageReward, DPM-5 with n=50."""


def draw(task: Task, count: int, lookahead: Lookahead | None = None, folder: str = "") -> Tensor:
    """Samples of the plain model, or of LiDAR as published, with the banks in a folder; those it lacks are drawn."""
    backbone, guidance = task.backbone, None
    if lookahead:
        bank = lookahead.bank(backbone, PROMPT, task.seed, [task.reward], BankStore(folder))
        rewards = bank.rewards[task.reward.name]
        guidance = LiDARGuidance.from_banks([bank], [rewards], backbone, scale=12.5, temperature=5000.0, stop=0.2)
    condition = backbone.encode([PROMPT] * count)
    return sample(backbone, task.solver, task.generators(count), condition, guidance).samples


def methods(folder: str, batch_size: int) -> dict[str, Callable[[Task, int], Tensor]]:
    """The rows, in order: the last one finds the banks that the one before it has drawn."""
    lidar = partial(draw, lookahead=Lookahead(n=N, preset=PRESET, batch_size=batch_size), folder=folder)
    return {
        "vanilla": draw,
        "UG": UniversalGuidance(),
        "DPS": DPS(best=BEST),
        "DATE": DATE(),
        "DATE, an update each step": DATE(every=1),
        "DAS, 1 particle": DAS(1),
        "DAS, 4 particles": DAS(4),
        "LiDAR": lidar,
        "LiDAR, bank at hand": lidar,
    }


def resident(name: str) -> float:
    """MiB of this process: VmRSS, what it holds, or VmHWM, the most since the last reset."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(name))


def measure(
    method: str, folder: str, device: str, samples: int, steps: int, repeats: int, threads: int
) -> tuple[float, float]:
    """Median seconds of the runs but the first, which warms up, and MiB of all of them."""
    torch.set_num_threads(threads)
    backbone, reward = shapes.load().to(device).requires_grad_(False), ShapesReward()
    score(reward, torch.zeros(samples, 3, 64, 64, device=device), [PROMPT] * samples)
    drawn, cuda, seconds = methods(folder, samples)[method], device.startswith("cuda"), []
    before = 0.0
    if cuda:
        torch.cuda.reset_peak_memory_stats(device)
    else:
        # What loading has freed would hide as much of what the method takes.
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
        before = resident("VmRSS")
    for seed in range(-1, repeats):
        task = Task(backbone, backbone.random_solver(steps), reward, PROMPT, 4.0, seed, batch_size=samples)
        begin = time.perf_counter()
        with torch.no_grad():
            score(reward, backbone.decode(drawn(task, samples)), [PROMPT] * samples)
        if cuda:
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - begin)
    peak = torch.cuda.max_memory_allocated(device) / 2**20 if cuda else resident("VmHWM")
    return median(seconds[1:]), peak - before


def main(device: str = "cpu", samples: int = 4, steps: int = 100, repeats: int = 3, threads: int = 1) -> None:
    """Runs all methods and writes the table, which it prints as well.

    Args:
        device: of model and reward.
        samples: pictures that are drawn at once.
        steps: network calls per picture.
        repeats: timed runs of each method, at least 1.
        threads: of each process.
    """
    rows: dict[str, tuple[float, float]] = {}
    fresh = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        for method in tqdm(methods(folder, samples)):
            with ProcessPoolExecutor(1, fresh) as process:
                work = process.submit(measure, method, folder, device, samples, steps, repeats, threads)
                rows[method] = work.result()
    where = torch.cuda.get_device_name(device) if device.startswith("cuda") else "CPU"
    text = [
        "# Gradient methods and LiDAR over the plain model\n",
        f"shapes-sd with ShapesReward, {samples} pictures of {steps} steps, {PRESET} with n={N}; {where}, torch "
        f"{torch.__version__}, {threads} thread{'s' * (threads > 1)}; medians of {repeats}. "
        "Published: SD 1.5 on an A100, 4 pictures of 100 steps; how often DATE updated there is not known here.\n",
        "| method | s | x vanilla | published | MiB | x vanilla | published |",
        "|---" * 7 + "|",
    ]
    for method, row in rows.items():
        cells = [method]
        for place, digits in ((0, 2), (1, 0)):
            published = PUBLISHED.get(method)
            ratio = f"{published[place] / PUBLISHED['vanilla'][place]:.2f}" if published else ""
            cells += [f"{row[place]:.{digits}f}", f"{row[place] / rows['vanilla'][place]:.2f}", ratio]
        text.append(f"| {' | '.join(cells)} |")
    print("\n".join(text))
    Path(__file__).with_suffix(".md").write_text("\n".join(text) + "\n")


if __name__ == "__main__":
    auto_cli(main)
