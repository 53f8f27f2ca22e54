"""Access to what the scheduler of a stock pipeline receives and returns while the pipeline runs."""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from lidar_lightning.parametrisation import slope
from lidar_lightning.solvers.scheduler import kind_of, scale_of, schedule_of, time_of

Change = Callable[[Tensor, float], Tensor | None]
"""A function of x_t (B, *S) and t that returns what is added to the clean prediction (B, *S); None adds nothing."""


@contextmanager
def replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """While the block runs, an object has another method or attribute; afterwards it has its own again."""
    plain, own = getattr(owner, name), name in vars(owner)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, plain)
        if not own:
            delattr(owner, name)


def moved(scheduler: Any, change: Change, output: Tensor, timestep: Any, sample: Tensor) -> Tensor:
    """The network's prediction (B, *S), moved by `slope * change`, so that the clean sample that it means moves by
    `change`. Where there is no change it is returned as it is.

    Args:
        scheduler: one of `SUPPORTED`, which is about to step the sample (B, *S) from the timestep.
    """
    t = time_of(scheduler, timestep)
    # Schedulers whose samples are scaled have set their step_index in scale_model_input.
    found = change(sample.float() / scale_of(scheduler, getattr(scheduler, "step_index", 0)), t)
    if found is None:
        return output
    coefficients = schedule_of(scheduler)(torch.tensor(t, dtype=torch.float64))
    return output + (float(slope(*coefficients, kind_of(scheduler))) * found).to(output.dtype)


@contextmanager
def edited(scheduler: Any, change: Change) -> Iterator[None]:
    """While the block runs, `scheduler.step` receives the network's prediction `moved` by the change."""
    plain = scheduler.step

    @functools.wraps(plain)
    def step(model_output: Tensor, timestep: Any, sample: Tensor, *args: Any, **kwargs: Any) -> Any:
        return plain(moved(scheduler, change, model_output, timestep, sample), timestep, sample, *args, **kwargs)

    with replaced(scheduler, "step", step):
        yield


@contextmanager
def recorded(scheduler: Any) -> Iterator[list[Tensor]]:
    """While the block runs, the list that it yields holds the result of the last `scheduler.step`.

    At the end of a run that is the clean samples.
    """
    plain = scheduler.step
    found: list[Tensor] = []

    @functools.wraps(plain)
    def step(*args: Any, **kwargs: Any) -> Any:
        answer = plain(*args, **kwargs)
        found[:] = [answer[0]]
        return answer

    with replaced(scheduler, "step", step):
        yield found
