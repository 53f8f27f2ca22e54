"""Selection: more samples are drawn than were asked for, and some of them are kept."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from lidar_lightning.samplers.base import Keep, Sampler, check_keep, check_particles
from lidar_lightning.samplers.resampling import highest, pick
from lidar_lightning.samplers.task import Task


@dataclass(frozen=True)
class Selection:
    """Draws n samples for each one asked for, and keeps one in n.

    Args:
        n: number of samples drawn for each one that is kept, at least 1; a whole number unless they are pooled.
        keep: "best" keeps those of the highest reward; "draw" resamples in proportion to exp(lambda r), by which one
            sample of a pool may be kept several times.
        pooled: whether samples are chosen among all those of a prompt, as a bank is shared by all; otherwise each is
            chosen among n of its own.

    Raises:
        ValueError: if a setting is out of range or unknown.
    """

    n: float = 1
    keep: Keep = "best"
    pooled: bool = True

    def __post_init__(self) -> None:
        check_particles("a selection", self.n)
        check_keep(self.keep)
        if not self.pooled and self.n != int(self.n):
            raise ValueError(f"a selection that is not pooled draws a whole number for each sample, got n={self.n}")

    @property
    def whole(self) -> bool:
        """Whether samples are chosen among all those of a prompt."""
        return self.pooled and (self.n > 1 or self.keep == "draw")

    def drawn(self, count: int) -> int:
        """How many samples are drawn so that `count` are kept."""
        return max(count, round(self.n * count))

    def sizes(self, most: int, count: int) -> Iterator[Self]:
        """Selections that draw `most` samples in all to keep `count`, and then ever fewer."""
        for drawn in range(most, count - 1, -1) if self.pooled else range(most // count, 0, -1):
            yield replace(self, n=drawn / count if self.pooled else drawn)

    def __call__(self, task: Task, x: Tensor, count: int) -> Tensor:
        """The `count` samples of x (drawn, *S) that are kept; x is scored if there is a choice."""
        return x[self.rows(task, x, count)]

    def rows(self, task: Task, x: Tensor, count: int, values: Tensor | None = None) -> Tensor:
        """The places (count,) of the samples that are kept; those of a pool differ if it has enough.

        Args:
            values: (drawn,) float64, r of x if the best are kept and lambda r otherwise; None scores x.
        """
        best = self.keep == "best"
        if len(x) == count and best:
            return torch.arange(count, device=x.device)
        if values is None:
            values = task.utility(x, together=self.pooled) if best else task.value(x)
        if self.pooled and best:
            return best_of(task.backbone.identities(x), values, count)
        groups = values.expand(count, -1) if self.pooled else values.view(count, -1)
        chosen = groups.argmax(1) if best else pick(groups, task.generators(count, "keep").rand(1))
        first = 0 if self.pooled else torch.arange(count, device=x.device) * groups.shape[1]
        return first + chosen


class SelectingSampler(Sampler):
    """A sampler that keeps some of what it draws; a pooled one draws all samples of a prompt together."""

    selection: Selection

    @property
    def whole(self) -> bool:  # type: ignore[override]
        return self.selection.whole

    @property
    def several(self) -> bool:  # type: ignore[override]
        return not self.whole


class PoolingSampler(Sampler):
    """A sampler that ends with several candidates for each sample; with keep="best" it may pool those of all samples.

    keep="draw" never pools, since weights are right for the target only among the candidates of one sample.
    """

    pooled: bool = True

    @property
    def whole(self) -> bool:  # type: ignore[override]
        return self.pooled and self.keep == "best"

    def best(self, task: Task, x: Tensor, count: int, values: Tensor) -> Tensor:
        """The places (count,) of the best candidates x (count * n, *S), by their values (count * n,)."""
        return Selection(len(x) // count, "best", self.pooled).rows(task, x, count, values)


def first_of_each(identities: Tensor) -> Tensor:
    """Which samples differ from all those before them, by their `Backbone.identities` (n,): (n,) bool."""
    same = identities.unique(return_inverse=True)[1]
    places = torch.arange(len(same), device=same.device)
    first = torch.full_like(places, len(same)).scatter_reduce(0, same, places, "amin")
    return first[same] == places


def best_of(identities: Tensor, values: Tensor, count: int) -> Tensor:
    """The places (count,), in ascending order, of different samples with the highest values (n,).

    Samples with equal identities (n,) are the same. A sample is taken twice only if there are not enough others.
    """
    fresh = first_of_each(identities)
    ranks = torch.empty_like(values, dtype=torch.long)
    ranks[values.argsort(stable=True)] = torch.arange(len(values), device=values.device)
    return highest(ranks + len(values) * fresh, count)
