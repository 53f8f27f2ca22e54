"""LiDAR guidance as matrix products against the broadcast form: time and memory of one guided step.

    python -m benchmarks.guidance [--device cuda] [--threads 1]

The broadcast form builds the (B, n, D) tensor x[:, None] - alpha * bank[None], squares it, takes both softmaxes and
sums change[..., None] * bank[None] over the bank, in float32. "sum as product" is the same with that last sum as a
matrix product. All are timed in turns in one process, and the medians compared. Extra memory is, on CUDA, the peak
above what was allocated before the step; on the CPU, the largest single tensor that any operation made.
"""

import argparse
import math
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from lidar_lightning.guidance import LiDARGuidance, LiDARSettings

SIZES = ((4, 50, 16_384), (4, 100, 65_536), (4, 100, 262_144))
BARS = (10, 20, 20)
TIME, LAMBDA = 0.5, 1.0


def cosine(t: Tensor) -> tuple[Tensor, Tensor]:
    return torch.cos(t * math.pi / 2), torch.sin(t * math.pi / 2)


def broadcast(x: Tensor, x0_hat: Tensor, bank: Tensor, rewards: Tensor, product: bool = False) -> Tensor:
    """The guided prediction by its definition."""
    alpha, sigma = math.cos(TIME * math.pi / 2), math.sin(TIME * math.pi / 2)
    logits = -(x[:, None] - alpha * bank[None]).square().sum(-1) / (2 * sigma**2)
    change = (logits + LAMBDA * rewards).softmax(-1) - logits.softmax(-1)
    return x0_hat + (change @ bank if product else (change[..., None] * bank[None]).sum(1))


class Largest(TorchDispatchMode):
    """Records the largest tensor, in bytes, that an operation allocates; views are not counted."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        known = {a.untyped_storage().data_ptr() for a in tree_leaves((args, kwargs)) if isinstance(a, Tensor)}
        result = func(*args, **(kwargs or {}))
        for made in tree_leaves(result):
            if isinstance(made, Tensor) and made.untyped_storage().data_ptr() not in known:
                self.bytes = max(self.bytes, made.untyped_storage().nbytes())
        return result


def extra_memory(step: Callable[[], Tensor], device: torch.device) -> float:
    """MiB, as the docstring of this file defines it."""
    if device.type == "cuda":
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        step()
        torch.cuda.synchronize()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    with Largest() as largest:
        step()
    return largest.bytes / 2**20


def seconds(step: Callable[[], Tensor], device: torch.device, calls: int) -> float:
    """Mean time of `calls` calls in a row."""
    start = time.perf_counter()
    for _ in range(calls):
        step()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - start) / calls


def compare(size: tuple[int, int, int], device: torch.device, repetitions: int) -> tuple[list[float], list[float]]:
    """Median seconds and extra MiB of guidance, the broadcast form, and that with the sum as a product."""
    batch, n, dim = size
    g = torch.Generator().manual_seed(0)
    x, x0_hat, bank, rewards = (torch.randn(s, generator=g).to(device) for s in [(batch, dim)] * 2 + [(n, dim), (n,)])
    guidance = LiDARGuidance(bank, rewards, cosine, LiDARSettings(temperature=LAMBDA))
    steps: list[Callable[[], Tensor]] = [
        lambda: guidance(x, TIME, TIME - 0.01, x0_hat),
        lambda: broadcast(x, x0_hat, bank, rewards),
        lambda: broadcast(x, x0_hat, bank, rewards, product=True),
    ]
    for row, guided in enumerate(steps[0]()):
        own = slice(row, row + 1)
        exact = broadcast(x[own].double(), x0_hat[own].double(), bank.double(), rewards.double())[0]
        torch.testing.assert_close(guided.double(), exact, rtol=0, atol=1e-4)
    memory = [extra_memory(step, device) for step in steps]
    calls = max(1, 20_000_000 // (n * dim))
    times = [[seconds(step, device, calls) for step in steps] for _ in range(repetitions)]
    return [statistics.median(column) for column in zip(*times, strict=True)], memory


def main(device: str = "cpu", repetitions: int = 9, sizes: tuple[tuple[int, int, int], ...] = SIZES) -> list[float]:
    """Prints the table and returns how many times faster than the broadcast form each size is."""
    ratios = []
    print(f"torch {torch.__version__}, {device}, {torch.get_num_threads()} threads, medians of {repetitions}")
    print(f"{'B, n, D':>18} | {'guidance':>18} | {'broadcast':>18} | {'sum as product':>18} | faster by (bar)")
    for size, bar in zip(sizes, BARS, strict=False):
        times, memory = compare(size, torch.device(device), repetitions)
        cells = [f"{1e3 * t:7.2f} ms {m:4.0f} MiB" for t, m in zip(times, memory, strict=True)]
        ratios.append(times[1] / times[0])
        row = " | ".join(f"{cell:>18}" for cell in [", ".join(map(str, size)), *cells])
        print(f"{row} | {ratios[-1]:.1f}x ({bar}x), {times[2] / times[0]:.1f}x")
    return ratios


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repetitions", type=int, default=9)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    main(options.device, options.repetitions)
