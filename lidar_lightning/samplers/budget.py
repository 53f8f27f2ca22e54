"""How a method comes to spend the budget of network calls that it is given, or refuses it."""

from bisect import bisect_right
from collections.abc import Iterable
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from lidar_lightning.samplers.base import Sampler

S = TypeVar("S", bound="Sampler")

SPENT = 0.95
"""Least share of its budget that a method spends: less would not be a comparison at equal calls."""


def spending(options: Iterable[S], calls: int, steps: int, count: int) -> S:
    """The first option that spends at least `SPENT` of a budget, with as many solver steps as that pays for.

    Args:
        options: settings of one method, in order of preference; theirs is the `cost`, which rises with the steps.
        calls, count: see `Sampler.within`.
        steps: of the solver, at least.

    Raises:
        ValueError: if none does.
    """
    total, most, name = calls * count, 0, ""
    for option in options:
        name = type(option).__name__
        longest = bisect_right(range(total + 1), total, key=lambda number: option.cost(number, count)) - 1
        if longest < steps:
            continue
        spent = option.cost(longest, count)
        if spent >= SPENT * total:
            option.steps = longest
            return option
        most = max(most, spent)
    raise ValueError(
        f"{name} can spend no more than {most // count} of {calls} network calls per sample, which is below "
        f"{SPENT:.0%}: give it a budget of {most // count}, or other settings"
    )


def check_budget(name: str, calls: int, least: int, what: str) -> None:
    """Raises ValueError if a budget of network calls per sample is below the least that a method can use."""
    if calls < least:
        raise ValueError(
            f"{name} needs at least {least} network calls per sample ({what}), got a budget of {calls}: raise the "
            "budget or use fewer solver steps"
        )
