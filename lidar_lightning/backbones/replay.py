"""Calls a network as a stock call did, but with other noised samples, so that it can be trained without an adapter.

A call of one row and a call of two rows show which arguments grow with the rows, which one is the noised sample, how
the network is told the time, and how its answer becomes the prediction that the scheduler receives. All other arguments
are repeated as they were.
"""

import inspect
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lidar_lightning.backbones.rows import Rows
from lidar_lightning.backbones.watched import Watched, leaves

Condition = dict[str, Rows]
"""From the arguments that prompts decide to one tensor per row; rows are stacked where their shapes agree."""


class Replay:
    """Calls a network as a stock call did, with other samples, times and prompts.

    Args:
        one: the steps of a stock call of one row, at least two; in each the network must have run once.
        two: the steps of the same call with two rows of the same prompt.

    Raises:
        ValueError: if a stock call cannot be repeated, and why: the network runs several times in a step, its answer is
            neither the scheduler's prediction nor its negative, the time is neither proportional to t nor to 1 - t, or
            another argument changes from step to step.
    """

    def __init__(self, one: Sequence[Watched], two: Sequence[Watched]):
        if any(len(step.calls) != 1 for step in (*one, *two)):
            raise ValueError(f"its network runs {len(one[0].calls)} times in a step: guidance cannot be told apart")
        self.told = one[0].calls[0][0]
        self.shape = one[0].x_t.shape[1:]
        self.dims: dict[str, int] = {}
        self.lists: set[str] = set()
        self._compare(self.told, two[0].calls[0][0], "")
        steps = [leaves(step.calls[0][0]) for step in one]
        self.noisy = self._find_noisy(steps, [step.x_t for step in one])
        self.time = self._find_time(steps)
        self.reverse, self.scale = self._fit_time([float(step[self.time]) for step in steps], [step.t for step in one])
        self.sign = self._fit_sign(one)

    def _compare(self, one: Any, two: Any, path: str) -> None:
        """Finds the arguments that grow with the rows: tensors do in one dimension, lists in their length."""
        if isinstance(one, (list, tuple)) and (len(one), len(two)) == (1, 2):
            self.lists.add(path)
        elif isinstance(one, (dict, list, tuple)):
            for key in one if isinstance(one, dict) else range(len(one)):
                self._compare(one[key], two[key], f"{path}.{key}" if path else str(key))
        elif isinstance(one, Tensor) and one.shape != two.shape:
            (self.dims[path],) = [d for d, size in enumerate(one.shape) if size != two.shape[d]]

    def _find_noisy(self, steps: list[dict[str, Any]], samples: list[Tensor]) -> str:
        for path, first in steps[0].items():
            if isinstance(first, Tensor) and first.numel() == samples[0].numel():
                pairs = [(step[path].float().flatten(), x.flatten()) for step, x in zip(steps, samples, strict=True)]
                if all(close(told, x, first) for told, x in pairs):
                    return path
        raise ValueError("none of the arguments of its network is the noised sample that its scheduler steps")

    def _find_time(self, steps: list[dict[str, Any]]) -> str:
        def changes(path: str) -> bool:
            first, *rest = (step[path] for step in steps)
            return not all(same(first, other) for other in rest)

        changing = [path for path in steps[0] if path != self.noisy and changes(path)]
        if len(changing) != 1 or not isinstance(steps[0][changing[0]], Tensor) or steps[0][changing[0]].numel() != 1:
            raise ValueError(f"its network's arguments {changing} change from step to step, but only the time may")
        return changing[0]

    def _fit_time(self, told: list[float], times: list[float]) -> tuple[bool, float]:
        leaf = leaves(self.told)[self.time]
        value = torch.tensor(told, dtype=torch.float64)
        for reverse in (False, True):
            t = torch.tensor(times, dtype=torch.float64)
            t = 1 - t if reverse else t
            scale = float((t @ value) / (t @ t).clamp_min(1e-12))
            power = math.copysign(10.0 ** round(math.log10(abs(scale))), scale) if scale else 1.0
            scale = power if abs(scale - power) < 0.01 * abs(power) else scale
            if (value - scale * t).abs().max() <= margin(leaf) * abs(scale):
                return reverse, scale
        shown = ", ".join(f"{v:.3f} at {t:.3f}" for v, t in zip(told, times, strict=True))
        raise ValueError(f"its network is told times that are not proportional to the noise level: {shown}")

    def _fit_sign(self, steps: Sequence[Watched]) -> float:
        for sign in (1.0, -1.0):
            fits = [
                close(sign * answer.float(), step.output.float(), answer)
                for step in steps
                if (answer := predicted(step.calls[0][1], step.x_t)) is not None
            ]
            if len(fits) == len(steps) and all(fits):
                return sign
        raise ValueError("its scheduler receives neither its network's answer nor the negative of that")

    @property
    def names(self) -> list[str]:
        """The arguments that a prompt decides."""
        rows = [*self.dims, *(f"{path}.0" for path in self.lists)]
        own = leaves(self.told)
        return [path for path in rows if isinstance(own.get(path), Tensor) and path not in (self.noisy, self.time)]

    def rows(self, told: dict[str, Any]) -> dict[str, Tensor]:
        """The arguments `names` of another stock call of one row.

        Raises:
            ValueError: if other arguments differ from those of the first call too.
        """
        own, given, names = leaves(self.told), leaves(told), self.names
        kept = {path for path in own.keys() | given.keys() if path not in (*names, self.noisy, self.time)}
        if differ := sorted(path for path in kept if not same(own.get(path, ...), given.get(path, ...))):
            raise ValueError(f"prompts decide its network's {', '.join(differ)}, which has not one row per prompt")
        return {path: given[path] for path in names}

    def __call__(self, network: nn.Module, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """The prediction (B, *S) that the scheduler would receive at x_t (B, *S) and t (B,).

        Rows whose conditions differ in shape are put into separate calls.
        """
        groups: dict[tuple[torch.Size, ...], list[int]] = {}
        for row in range(len(x_t)):
            shapes = tuple(condition[path][row].shape for path in self.names if path in self.dims)
            groups.setdefault(shapes, []).append(row)
        parts = [self._call(network, x_t[rows], t[rows], condition, rows) for rows in groups.values()]
        order = torch.tensor([row for rows in groups.values() for row in rows], device=x_t.device)
        return parts[0] if len(parts) == 1 else torch.cat(parts)[order.argsort()]

    def _call(self, network: nn.Module, x_t: Tensor, t: Tensor, condition: Condition, rows: list[int]) -> Tensor:
        own = leaves(self.told)
        values: dict[str, Any] = {path: [condition[path][row] for row in rows] for path in self.names}
        values |= {path: torch.cat(values[path], dim) for path, dim in self.dims.items() if path in values}
        noisy, time = own[self.noisy], own[self.time]
        if self.noisy in self.dims:
            values[self.noisy] = x_t.to(noisy.dtype).reshape(-1, *noisy.shape[1:])
        else:
            values[self.noisy] = list(x_t.to(noisy.dtype).reshape(-1, *noisy.shape))
        level = self.scale * (1 - t.double() if self.reverse else t.double())
        values[self.time] = level.to(time.dtype if time.is_floating_point() else torch.float32)

        def build(told: Any, path: str) -> Any:
            if path in self.lists:
                return values.get(f"{path}.0", list(told) * len(rows))
            if isinstance(told, dict):
                return {key: build(part, f"{path}.{key}") for key, part in told.items()}
            if isinstance(told, (list, tuple)):
                return type(told)(build(part, f"{path}.{key}") for key, part in enumerate(told))
            return values.get(path, told)

        arguments = {name: build(part, name) for name, part in self.told.items()}
        bound = inspect.BoundArguments(inspect.signature(network.forward), arguments)  # type: ignore[arg-type]
        answer = predicted(network(*bound.args, **bound.kwargs), x_t)
        assert answer is not None
        return self.sign * answer


def predicted(answer: Any, x_t: Tensor) -> Tensor | None:
    """A network's answer in the shape of x_t (B, *S), without a learned variance; None if it has no such shape."""
    first = answer if isinstance(answer, Tensor) else answer[0]
    output = first if isinstance(first, Tensor) else torch.stack(list(first))
    output = output.chunk(2, dim=1)[0] if output.numel() == 2 * x_t.numel() else output
    return output.reshape(x_t.shape) if output.numel() == x_t.numel() else None


def margin(like: Tensor) -> float:
    """How far two numbers of order 1 may differ and still count as equal in the type of a tensor."""
    return 2e-2 if like.dtype in (torch.float16, torch.bfloat16) else 1e-4


def close(one: Tensor, other: Tensor, like: Tensor) -> bool:
    """Whether two tensors are equal up to the rounding of the type of a third one."""
    return torch.allclose(one, other, rtol=margin(like), atol=margin(like))


def same(one: Any, other: Any) -> bool:
    """Whether two arguments are equal."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one.shape == other.shape and torch.equal(one, other)
    return type(one) is type(other) and one == other
