"""One random stream per sample, so that batch size, chunking and the number of devices do not change what is drawn."""

import hashlib
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor


def stream_seed(seed: int, prompt: str, index: int) -> int:
    """The seed of one sample's stream: a 63-bit hash of (seed, prompt, sample index)."""
    digest = hashlib.sha256(f"{seed}\0{index}\0{prompt}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


class Generators:
    """The random streams of a batch. They are drawn on the CPU, so that every device gets the same numbers.

    Args:
        seeds: one seed per sample.
        device: the device on which the numbers are put.
    """

    def __init__(self, seeds: Sequence[int], device: torch.device | str = "cpu"):
        self.streams = [torch.Generator().manual_seed(seed) for seed in seeds]
        self.device = device

    def __len__(self) -> int:
        return len(self.streams)

    def take(self, rows: Sequence[int]) -> "Generators":
        """Some of these streams. They are shared, not copied: what is drawn from them is drawn from these."""
        taken = Generators((), self.device)
        taken.streams = [self.streams[row] for row in rows]
        return taken

    def rand(self, *shape: int) -> Tensor:
        """Numbers that are uniform in [0, 1): (B, *shape) float64."""
        return self._filled(torch.empty(len(self), *shape, dtype=torch.float64), Tensor.uniform_)

    def randint(self, high: int, *shape: int) -> Tensor:
        """Whole numbers that are uniform in [0, high): (B, *shape) int64."""
        return self._filled(torch.empty(len(self), *shape, dtype=torch.int64), partial(Tensor.random_, to=high))

    def randn(self, *shape: int) -> Tensor:
        """Standard normal numbers: (B, *shape) float32."""
        return self._filled(torch.empty(len(self), *shape), Tensor.normal_)

    def _filled(self, numbers: Tensor, draw: Callable[..., Tensor]) -> Tensor:
        for row, stream in zip(numbers.unbind(), self.streams, strict=True):
            draw(row, generator=stream)
        return numbers.to(self.device)
