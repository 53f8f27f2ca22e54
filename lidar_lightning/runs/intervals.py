"""Confidence intervals of means over samples that come in clusters; every ± in a table is one of these.

Samples of one prompt and seed share a bank, a pool or particles, and seeds of one prompt share the prompt, so neither
are independent of each other. What is independent are the prompts or, if there is just one, its seeds. The interval is
that of the mean of the means of these clusters: whatever happens within a cluster shows in the spread of their means
(Field and Welsh, "Bootstrapping clustered data", J. R. Stat. Soc. B 69(3), 2007).
"""

import math
from collections.abc import Hashable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

LEVEL = 0.95
FEW = 40
"""Clusters below which the interval is Student's; from here on it is the cluster bootstrap's, which follows a skew."""
RESAMPLES = 2000


class Interval(NamedTuple):
    """A mean and the ends of its confidence interval, which are NaN (unknown) if there is just one cluster."""

    low: float
    mean: float
    high: float

    @property
    def half(self) -> float:
        """Half of the interval's width."""
        return (self.high - self.low) / 2

    def text(self, digits: int = 3, sign: bool = False) -> str:
        """A text such as "2.083 ± 0.252", or the mean alone if the ends are unknown; `sign` shows a plus as well."""
        known = "" if math.isnan(self.half) else f" ± {self.half:.{digits}f}"
        return f"{self.mean:{'+' if sign else ''}.{digits}f}{known}"


def interval(values: Tensor | Sequence[float], prompts: Sequence[Hashable], seeds: Sequence[Hashable]) -> Interval:
    """The 95% confidence interval of the mean of values (n,), each of which belongs to a prompt and a seed.

    Raises:
        ValueError: if there are no values, or if there is not one prompt and one seed for each.
    """
    values = torch.as_tensor(values, dtype=torch.float64)
    if not len(values) or not len(values) == len(prompts) == len(seeds):
        raise ValueError(
            f"an interval needs values with a prompt and a seed each, got {len(values)}, {len(prompts)} and "
            f"{len(seeds)}"
        )
    means = cluster_means(values, prompts if len(set(prompts)) > 1 else seeds)
    middle = means.mean().item()
    if len(means) == 1:
        return Interval(math.nan, middle, math.nan)
    if len(means) < FEW:
        half = student(len(means) - 1) * means.std().item() / math.sqrt(len(means))
        return Interval(middle - half, middle, middle + half)
    rows = torch.randint(len(means), (RESAMPLES, len(means)), generator=torch.Generator().manual_seed(0))
    ends = torch.tensor([(1 - LEVEL) / 2, (1 + LEVEL) / 2], dtype=torch.float64)
    low, high = means[rows].mean(1).quantile(ends).tolist()
    return Interval(low, middle, high)


def student(degrees: int) -> float:
    """The t within which Student's distribution of so many degrees of freedom has 95% of its mass, by bisection.

    The mass within t is a finite sum in cos(arctan(t / sqrt(degrees))) (Abramowitz and Stegun, 26.7.3 and 26.7.4).
    """

    def mass(t: float) -> float:
        angle = math.atan(t / math.sqrt(degrees))
        odd, total = degrees % 2, 0.0
        term = math.cos(angle) if odd else 1.0
        for k in range(odd, degrees - 1, 2):
            term *= math.cos(angle) ** 2 * (k - 1) / k if k > odd else 1.0
            total += math.sin(angle) * term
        return (angle + total) * 2 / math.pi if odd else total

    low, high = 0.0, 100.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if mass(middle) < LEVEL else (low, middle)
    return high


def cluster_means(values: Tensor, clusters: Sequence[Hashable]) -> Tensor:
    """The mean of each cluster (k,), in the order in which they first occur."""
    places = {name: place for place, name in enumerate(dict.fromkeys(clusters))}
    index = torch.tensor([places[name] for name in clusters])
    sums = torch.zeros(len(places), dtype=values.dtype).index_add(0, index, values)
    return sums / index.bincount()
