"""Budgets of a comparison in seconds: how long a network call of each method takes, with everything that goes with it.

A budget of network calls ignores what a reward costs and what a method does between calls. So each method is timed
once, on a small run of its own with its rewards, decoding and gradients, and seconds are turned into calls at that
rate.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import product
from pathlib import Path

from lidar_lightning.samplers.base import Sampler
from lidar_lightning.samplers.best_of_n import BestOfN
from lidar_lightning.samplers.budget import SPENT
from lidar_lightning.samplers.task import Task
from lidar_lightning.utils.files import locked, write_atomically

Fit = Callable[[Sampler, int], Sampler]
"""A method and network calls per sample to the method that spends them; raises ValueError if it cannot."""

PILOT = (2, 3, 4, 6, 8)
"""Multiples of a plain sample's calls; a method is timed at the first that it can spend."""


def first_fit(fit: Fit, sampler: Sampler, options: Iterable[int]) -> tuple[Sampler, int]:
    """The method with the first number of calls that it can spend, and that number.

    Raises:
        ValueError: if it can spend none of them; the message says why it cannot spend the first.
    """
    problems = []
    for calls in options:
        try:
            return fit(sampler, calls), calls
        except ValueError as error:
            problems.append(error)
    raise problems[0]


def measured_rates(
    path: Path, samplers: Mapping[str, Sampler], fit: Fit, task: Callable[[], Task], steps: int, samples: int
) -> dict[str, float]:
    """Seconds that a network call on one sample takes with each method, measured once and kept in a file.

    Args:
        path: the file.
        samplers: from names to methods.
        fit: gives a method with a number of network calls per sample.
        task: makes a fresh task for each method.
        steps: number of steps of the task's solver.
        samples: number of samples that each method draws to be timed.

    Raises:
        ValueError: if the file is damaged, or if a method cannot spend any of the budgets of these small runs.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path):
        rates = read_rates(path)
        if missing := [name for name in samplers if name not in rates]:
            BestOfN(1)(task(), samples)  # the first run of a process is slower than all others
        for name in missing:
            pilot, given = first_fit(fit, samplers[name], (multiple * steps for multiple in PILOT))[0], task()
            pilot(given, samples)
            rates[name] = given.meter.seconds / given.meter.network
            write_atomically(path, json.dumps(rates, indent=1).encode())
    return rates


def read_rates(path: Path) -> dict[str, float]:
    """The rates that were measured; none if there is no file. Raises ValueError, naming it, if it is damaged."""
    try:
        found = json.loads(path.read_text()) if path.exists() else {}
        if not all(rate > 0 for rate in found.values()):
            raise ValueError(f"seconds are above 0, got {found}")
    except (ValueError, AttributeError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({error}): delete it, to time the methods again") from error
    return found


def afforded(
    samplers: Mapping[str, Sampler], budgets: Sequence[float], fit: Fit, rates: Mapping[str, float] | None
) -> dict[tuple[str, float], tuple[Sampler, int]]:
    """Each method at each budget, and the network calls per sample for which the budget pays.

    Args:
        rates: seconds of a network call of each method; None if budgets are network calls.

    Raises:
        ValueError: if a budget is too small for a method, if the method cannot spend it, or if a budget of network
            calls is not a whole number.
    """
    if rates is None and (broken := [budget for budget in budgets if budget != int(budget)]):
        raise ValueError(f"budgets are whole numbers of network calls, got {broken[0]}: or set budget_unit: seconds")
    return {
        (name, budget): (fit(sampler, int(budget)), int(budget))
        if rates is None
        else within_seconds(fit, name, sampler, budget, rates[name])
        for budget, (name, sampler) in product(budgets, samplers.items())
    }


def within_seconds(fit: Fit, name: str, sampler: Sampler, seconds: float, rate: float) -> tuple[Sampler, int]:
    """The method with the network calls per sample for which so many seconds pay, or up to 5% fewer.

    Raises:
        ValueError: if it cannot spend such a number of calls.
    """
    most = int(seconds / rate)
    try:
        return first_fit(fit, sampler, range(most, int(SPENT * most) - 1, -1))
    except ValueError as error:
        raise ValueError(f"{seconds:g} seconds a sample pay for {most} network calls of {name}: {error}") from error
