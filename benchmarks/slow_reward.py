"""Methods at equal seconds where a score is slow: `python -m benchmarks.slow_reward`.

Ring counts of QM9 as before, but each takes `delay` seconds, as a docking program or a judge over HTTP would. A network
call of the small model takes about a millisecond, so nearly all that a method spends is what it has scored. Writes
compare-slow.md beside this file; a run that was killed goes on.
"""

import time
from collections.abc import Sequence
from pathlib import Path

from jsonargparse import auto_cli
from torch import Tensor

from benchmarks.compare import main as table
from lidar_lightning import UDLM, Lookahead
from lidar_lightning.rewards import RingCount
from lidar_lightning.runs.comparison import Comparison
from lidar_lightning.samplers import SMC, BestOfN, DraftThenFinish, LiDAR, LiDARSMC, Sampler


class SlowRingCount(RingCount):
    """The ring count, after `delay` seconds for each molecule."""

    name = "slow_ring_count"

    def __init__(self, delay: float = 0.05):
        super().__init__()
        self.delay = delay

    def __call__(self, samples: Sequence[str], prompts: Sequence[str]) -> Tensor:
        time.sleep(self.delay * len(samples))
        return super().__call__(samples, prompts)


def methods() -> dict[str, Sampler]:
    """The rows; lambda is 1."""
    climb = LiDAR(Lookahead(8), restart=0.4, steps=8, rounds=4, temperature=0.25)
    return {
        "best-of-N": BestOfN(),
        "best-of-N, 8 steps": BestOfN(steps=8),
        "draft-then-finish": DraftThenFinish(draft_steps=4, at=0.2, steps=8),
        "SMC, 8 steps": SMC(potential="diff", every=4, keep="best", steps=8),
        "LiDAR+SMC, 8 steps": LiDARSMC(Lookahead(8, 50), stop=0.3, keep="best", steps=8),
        "LiDAR, 4 rounds": climb,
    }


def main(
    out: str = "outputs/benchmarks/slow-reward",
    delay: float = 0.05,
    budgets: list[float] = [1.0, 2.0],  # noqa: B006
    seeds: list[int] = [0, 1, 2, 3, 4, 5],  # noqa: B006
    samples: int = 16,
) -> None:
    """Compares all methods at budgets of seconds for each sample."""
    comparison = Comparison(
        UDLM.from_pretrained("udlm-qm9-small"), SlowRingCount(delay), methods(), ["molecule"], out,
        samples=samples, steps=32, budgets=budgets, budget_unit="seconds", seeds=seeds,
    )  # fmt: skip
    comparison.work()
    comparison.finish()
    table(Path(out), "slow")


if __name__ == "__main__":
    auto_cli(main)
