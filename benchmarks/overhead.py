"""What LiDAR costs beyond its network calls: `python benchmarks/overhead.py`.

One whole run (lookahead, scoring, guided sampling, decoding, scoring again) is timed together with every network call
inside it, so that the ratio does not depend on how fast the machine happens to be. The bar is 1.10.
"""

import time
from typing import Any

import torch
from jsonargparse import auto_cli
from torch import Tensor

from lidar_lightning import UDLM, LiDARGuidance, Lookahead
from lidar_lightning.rewards import RingCount, score
from lidar_lightning.sampling import sample
from lidar_lightning.utils.seeding import Generators, stream_seed


class Timed(UDLM):
    """A UDLM that adds up the seconds of its network calls."""

    seconds = 0.0

    def predict(self, x_t: Tensor, t: Tensor, condition: Any = None) -> Tensor:
        begin = time.perf_counter()
        prediction = super().predict(x_t, t)
        self.seconds += time.perf_counter() - begin
        return prediction


def main(
    model: str = "udlm-qm9-small", samples: int = 256, steps: int = 32, lookahead_steps: int = 8, repeats: int = 3
) -> None:
    """Prints seconds of the run, of its network calls, and their ratio, for banks of several sizes."""
    backbone, reward = Timed.from_pretrained(model), RingCount()
    print(f"{samples} samples of {steps} steps, {torch.get_num_threads()} threads\n")
    print("|    n | total s | network s | ratio |\n|-----:|--------:|----------:|------:|")
    for n in (50, 200, 1000):
        rows = []
        for repeat in range(repeats):
            backbone.seconds, begin = 0.0, time.perf_counter()
            bank = Lookahead(lookahead_steps, n).bank(backbone, "molecule", repeat, [reward])
            guidance = LiDARGuidance.from_banks([bank], [reward.from_scores(bank.rewards)], backbone, ess=0.1, stop=0.3)
            generators = Generators([stream_seed(repeat, "molecule", i) for i in range(samples)])
            decoded = backbone.decode(sample(backbone, backbone.solver(steps), generators, None, guidance).samples)
            score(reward, decoded, ["molecule"] * samples)
            total = time.perf_counter() - begin
            rows.append((total / backbone.seconds, total, backbone.seconds))
        ratio, total, network = sorted(rows)[len(rows) // 2]
        print(f"| {n:4} | {total:7.2f} | {network:9.2f} | {ratio:5.3f} |", flush=True)


if __name__ == "__main__":
    auto_cli(main)
