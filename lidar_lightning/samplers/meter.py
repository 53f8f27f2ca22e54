"""What a sampler spends, counted in the same way for every method."""

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
    """Counts of samples, not of batches: a network call on 8 samples counts 8.

    Attributes:
        budget: network calls allowed; None is without limit. Backward passes do not count towards it.
        network: network calls; classifier-free guidance counts once.
        lookahead: those of them that drew banks.
        nfe: evaluations of the network; where classifier-free guidance runs it twice a call, they are twice as many.
        backward: backward passes through the network.
        rewards: samples scored.
        decodes: samples decoded.
        pilot: network calls that chose settings, once for all prompts and beside the budget; `network` is without them.
        seconds, peak_mib: of the code under `running`; memory is the CUDA device's, else this process's (Linux).
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
        """Counts network calls that are about to be made, each of so many evaluations.

        Raises:
            BudgetSpentError: if the budget does not hold them; nothing is counted then.
        """
        if self.budget is not None and self.network + calls > self.budget:
            raise BudgetSpentError(f"{calls} more network calls after {self.network} exceed the budget {self.budget}")
        self.network += calls
        self.nfe += calls * evaluations
        advance(calls)

    def spend_on_banks(self, calls: int, evaluations: int = 1) -> None:
        """Counts network calls that draw a bank. Raises BudgetSpentError as `spend`."""
        self.spend(calls, evaluations)
        self.lookahead += calls

    @property
    def left(self) -> float:
        """Network calls left."""
        return float("inf") if self.budget is None else self.budget - self.network

    @contextmanager
    def running(self) -> Iterator[None]:
        """Adds the time and takes the peak memory of what runs within."""
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
        """The counts per sample, and pilot, seconds and peak MiB in all."""
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
