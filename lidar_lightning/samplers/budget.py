"""How a sampler fits its settings to a budget of network calls, or refuses the budget."""

from bisect import bisect_right
from collections.abc import Callable, Iterable
from typing import Protocol, TypeVar

import torch
from torch import Tensor

Grid = Callable[[int], Tensor]
"""A function of the number of solver steps that returns their decreasing times (steps + 1,)."""

SPENT = 0.95
"""The least share of its budget that a sampler spends: with less, a comparison would not be at equal calls."""


class Priced(Protocol):
    """A sampler that knows beforehand what it costs."""

    steps: int | None

    def cost(self, steps: int, count: int, times: Grid) -> int: ...


S = TypeVar("S", bound=Priced)


def equal_times(steps: int) -> Tensor:
    """The equally spaced times 1, 1 - 1 / steps, ..., 0: (steps + 1,) float64."""
    return torch.linspace(1, 0, steps + 1, dtype=torch.float64)


def spending(options: Iterable[S], calls: int, steps: int, count: int, times: Grid = equal_times) -> S:
    """The first option that spends at least `SPENT` of a budget, with as many solver steps as that pays for.

    Args:
        options: copies of one sampler with other settings, in order of preference; their `cost` rises with the steps.
        calls, count, times: see `Sampler.within`.
        steps: least number of solver steps.

    Raises:
        ValueError: if no option spends that much within the budget.
    """
    total, most, name = calls * count, 0, ""
    for option in options:
        name = type(option).__name__
        longest = bisect_right(range(total + 1), total, key=lambda number: option.cost(number, count, times)) - 1
        if longest < steps:
            continue
        spent = option.cost(longest, count, times)
        if spent >= SPENT * total:
            option.steps = longest
            return option
        most = max(most, spent)
    raise unspent(name, most, calls, count)


def check_spent(name: str, spent: int, calls: int, count: int) -> None:
    """Raises ValueError if `spent` network calls for `count` samples are below `SPENT` of `calls` for each."""
    if spent < SPENT * calls * count:
        raise unspent(name, spent, calls, count)


def unspent(name: str, most: int, calls: int, count: int) -> ValueError:
    """The error of a sampler that can spend no more than `most` network calls."""
    return ValueError(
        f"{name} can spend no more than {most // count} of {calls} network calls per sample, which is below "
        f"{SPENT:.0%}: give it a budget of {most // count}, or other settings"
    )


def check_budget(name: str, calls: int, least: int, what: str) -> None:
    """Raises ValueError if a budget of network calls per sample is below `least`, which pays for `what`."""
    if calls < least:
        raise ValueError(
            f"{name} needs at least {least} network calls per sample ({what}), got a budget of {calls}: raise the "
            "budget or use fewer solver steps"
        )
