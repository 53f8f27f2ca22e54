"""What a sampler spends, counted in the same way for every sampler."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from lidar_lightning.utils.progress import advance


class BudgetSpentError(RuntimeError):
    """The next network call would exceed the budget."""


@dataclass
class Meter:
    """Counts per sample, not per batch: a network call on 8 samples counts 8.

    Attributes:
        budget: number of network calls that are allowed; None sets no limit. Backward passes do not count towards it.
        network: network calls; one with classifier-free guidance counts once.
        lookahead: the network calls among these that drew banks.
        nfe: evaluations of the network; classifier-free guidance evaluates it twice in each call.
        backward: backward passes through the network.
        rewards: number of samples scored.
        decodes: number of samples decoded.
        pilot: network calls that chose settings, once for all prompts; neither `network` nor the budget includes them.
        seconds, peak_mib: time and peak memory of the code under `running`. The memory is that of the CUDA device, or
            without one that of this process (on Linux).
    """

    budget: int | None = None
    network: int = 0
    lookahead: int = 0
    nfe: int = 0
    backward: int = 0
    rewards: int = 0
    decodes: int = 0
    pilot: int = 0
    seconds: float = 0.0
    peak_mib: float = 0.0

    def spend(self, calls: int, evaluations: int = 1) -> None:
        """Counts network calls that are about to be made, each of which takes `evaluations` evaluations.

        Raises:
            BudgetSpentError: if the budget does not allow them; then nothing is counted.
        """
        if self.budget is not None and self.network + calls > self.budget:
            raise BudgetSpentError(f"{calls} more network calls after {self.network} exceed the budget {self.budget}")
        self.network += calls
        self.nfe += calls * evaluations
        advance(calls)

    def spend_on_banks(self, calls: int, evaluations: int = 1) -> None:
        """Counts network calls that draw a bank. Raises BudgetSpentError as `spend` does."""
        self.spend(calls, evaluations)
        self.lookahead += calls

    @property
    def left(self) -> float:
        """The number of network calls that the budget still allows."""
        return float("inf") if self.budget is None else self.budget - self.network

    @contextmanager
    def running(self) -> Iterator[None]:
        """Measures the time and the peak memory of the block that runs within it."""
        begin = time.perf_counter()
        _reset_peak()
        try:
            yield
        finally:
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            self.seconds += time.perf_counter() - begin
            self.peak_mib = max(self.peak_mib, _peak())

    def row(self, samples: int) -> dict[str, float]:
        """The counts per sample, and the pilot's calls, seconds and peak MiB of all samples together."""
        counts = {key: value for key, value in asdict(self).items() if key != "budget"}
        whole = ("pilot", "seconds", "peak_mib")
        return {key: value if key in whole else value / samples for key, value in counts.items()}


def _reset_peak() -> None:
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    elif (path := Path("/proc/self/clear_refs")).exists():
        path.write_text("5")


def _peak() -> float:
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), 0.0)
