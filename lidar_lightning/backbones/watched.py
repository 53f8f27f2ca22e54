"""Records what a pipeline passes to its network and its scheduler in a stock call."""

import functools
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from torch import Tensor, nn

from lidar_lightning.solvers.scheduler import scale_of, time_of
from lidar_lightning.solvers.stock import replaced
from lidar_lightning.solvers.whole import Enough


class Watched(NamedTuple):
    """One step of a stock call."""

    calls: list[tuple[dict[str, Any], Any]]
    """The arguments by name, and the answer, of each call of the network before the scheduler's step."""
    x_t: Tensor
    """The noised sample (B, *S) float32, on the scale of a variance preserving or flow-matching schedule."""
    t: float
    """The time of the sample, as `time_of` finds it."""
    output: Tensor
    """The prediction (B, *S) that the scheduler received."""


@contextmanager
def watched(network: nn.Module, scheduler: Any) -> Iterator[list[Watched]]:
    """While the block runs, the list that it yields gets one entry for each step of a stock call."""
    steps: list[Watched] = []
    calls: list[tuple[dict[str, Any], Any]] = []
    plain, takes = scheduler.step, inspect.signature(network.forward)

    def heard(module: nn.Module, args: Any, kwargs: Any, answer: Any) -> None:
        calls.append((dict(takes.bind(*args, **kwargs).arguments), answer))

    @functools.wraps(plain)
    def step(model_output: Tensor, timestep: Any, sample: Tensor, *args: Any, **kwargs: Any) -> Any:
        x_t = sample.float() / scale_of(scheduler, getattr(scheduler, "step_index", 0))
        steps.append(Watched(list(calls), x_t.clone(), time_of(scheduler, timestep), model_output.clone()))
        calls.clear()
        return plain(model_output, timestep, sample, *args, **kwargs)

    handle = network.register_forward_hook(heard, with_kwargs=True)
    try:
        with replaced(scheduler, "step", step):
            yield steps
    finally:
        handle.remove()


@contextmanager
def first_call(network: nn.Module) -> Iterator[dict[str, Any]]:
    """Within the block a stock call ends at its first call of the network, whose arguments fill the dict it yields."""
    told: dict[str, Any] = {}
    takes = inspect.signature(network.forward)

    def heard(module: nn.Module, args: Any, kwargs: Any) -> None:
        told.update(takes.bind(*args, **kwargs).arguments)
        raise Enough

    handle = network.register_forward_pre_hook(heard, with_kwargs=True)
    try:
        yield told
    except Enough:
        pass
    finally:
        handle.remove()


def leaves(told: Any, path: str = "") -> dict[str, Any]:
    """Every tensor and constant within nested arguments, by its path, such as "added_cond_kwargs.time_ids"."""
    if not isinstance(told, (dict, list, tuple)):
        return {path: told}
    items = told.items() if isinstance(told, dict) else enumerate(told)
    return {
        key: leaf for name, part in items for key, leaf in leaves(part, f"{path}.{name}" if path else str(name)).items()
    }
