"""What LiDAR costs with an image model: `python benchmarks/image_overhead.py`.

Vanilla sampling, LiDAR, and LiDAR with a bank at hand are timed in turn, each with decoding and scoring, and so is
every call of network, decoder and reward inside them. The bars: LiDAR takes at most 1.10 of its own calls, and with a
bank at hand at most 1.05 of vanilla. The floor is the ratio of network calls, (n delta + B tau) / (B tau).
"""

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from jsonargparse import auto_cli

from lidar_lightning import LiDARGuidance, Lookahead, LookaheadBank, Reward
from lidar_lightning.backbones.latent import LatentBackbone
from lidar_lightning.rewards import ShapesReward, score
from lidar_lightning.sampling import sample
from lidar_lightning.utils.seeding import Generators, stream_seed
from recipes import shapes

PROMPT = "a red circle left of a blue square"


class Clock:
    """Adds up the seconds of the functions it wraps."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **options: Any) -> Any:
            begin = time.perf_counter()
            try:
                return function(*args, **options)
            finally:
                self.seconds += time.perf_counter() - begin

        return wrapped


def draw(
    backbone: LatentBackbone, reward: Reward, samples: int, steps: int, seed: int, bank: LookaheadBank | None = None
) -> float:
    """Seconds of drawing, decoding and scoring pictures of the prompt, guided by the bank if there is one."""
    begin, guidance = time.perf_counter(), None
    if bank is not None:
        guidance = LiDARGuidance.from_banks([bank], [bank.rewards[reward.name]], backbone, ess=0.1)
    generators = Generators([stream_seed(seed, PROMPT, i) for i in range(samples)])
    condition = backbone.encode([PROMPT] * samples)
    latents = sample(backbone, backbone.solver(steps), generators, condition, guidance).samples
    score(reward, backbone.decode(latents), [PROMPT] * samples)
    return time.perf_counter() - begin


def main(
    models: list[str] = ["shapes-sd"],  # noqa: B006
    n: int = 50,
    preset: str = "dpm-5",
    samples: int = 4,
    steps: int = 25,
    repeats: int = 5,
) -> None:
    """Prints the medians over the repeats."""
    print(f"{samples} pictures of {steps} steps, {preset}, n={n}, {torch.get_num_threads()} threads\n")
    print("| model | vanilla s | LiDAR s | LiDAR / vanilla | floor | LiDAR / own calls | bank at hand / vanilla |")
    print("|---|---|---|---|---|---|---|")
    for model in models:
        clock, lookahead, reward = Clock(), Lookahead(n=n, preset=preset), ShapesReward()
        backbone: Any = shapes.load(model)
        source: Any = lookahead.source(backbone)
        for timed in (backbone, source):
            timed.predict, timed.decode = clock.timed(timed.predict), clock.timed(timed.decode)
        reward.forward = clock.timed(reward.forward)  # type: ignore[method-assign]
        rows = []
        for seed in range(repeats):
            vanilla = draw(backbone, reward, samples, steps, seed)
            clock.seconds, begin = 0.0, time.perf_counter()
            bank = lookahead.bank(backbone, PROMPT, seed, [reward])
            draw(backbone, reward, samples, steps, seed, bank)
            lidar, own = time.perf_counter() - begin, clock.seconds
            cached = draw(backbone, reward, samples, steps, seed, bank)
            rows.append((vanilla, lidar, lidar / vanilla, lidar / own, cached / vanilla))
        seconds, guided, ratio, overhead, again = (median(column) for column in zip(*rows, strict=True))
        floor = 1 + n * lookahead.steps / (samples * steps)
        cells = (f"{seconds:.2f}", f"{guided:.2f}", f"{ratio:.2f}", f"{floor:.2f}", f"{overhead:.3f}", f"{again:.3f}")
        print(f"| {model} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    auto_cli(main)
