"""How a pipeline turns what its scheduler steps into what its autoencoder decodes; one call is enough to learn it."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

DIGIT = 1024
"""The base of the two digits that number places; float32 tells them apart after any scale and offset."""


class LatentMap(NamedTuple):
    """The map z = offset + scale * x0[place], entry by entry: it undoes packing and any normalisation of latents."""

    place: Tensor
    """For each entry of z, the place of the entry of x0 that it is made of: (N,) int64, a permutation."""
    scale: Tensor
    """The scale of each entry of z: (N,) float32, not 0."""
    offset: Tensor
    """The offset of each entry of z: (N,) float32."""
    z_shape: torch.Size
    """The shape of one z: (C, H, W) or (C, 1, H, W)."""
    shape: torch.Size
    """The shape of one x0."""

    def inverse(self, z: Tensor) -> Tensor:
        """The clean samples x0 (B, *shape) float32 that become z (B, *z_shape).

        Raises:
            ValueError: if z is of another shape.
        """
        if z.shape[1:] != self.z_shape:
            raise ValueError(f"the autoencoder made latents {tuple(z.shape[1:])}, but decodes {tuple(self.z_shape)}")
        x0 = torch.empty(len(z), len(self.place), device=z.device)
        x0[:, self.place.to(z.device)] = (z.float().flatten(1) - self.offset.to(z)) / self.scale.to(z)
        return x0.view(-1, *self.shape)


def learn_map(decoded: Callable[[Tensor], Tensor], shape: torch.Size) -> LatentMap:
    """Learns the map of a pipeline from four samples: zeros, ones, and two that hold the numbers of their places.

    Args:
        decoded: a function of samples (4, *shape) float32 that returns what the autoencoder would decode, in float32.
        shape: the shape of one sample.

    Raises:
        ValueError: if the pipeline does more to a sample than move, scale and shift its entries.
    """
    count = math.prod(shape)
    index = torch.arange(count, dtype=torch.float32)
    digits = (index / DIGIT).floor(), index % DIGIT
    probes = torch.stack((torch.zeros(count), torch.ones(count), *digits)).view(4, *shape)
    z = decoded(probes).cpu()
    zero, one, *told = z.flatten(1).double()
    scale = one - zero
    high, low = ((digit - zero) / scale for digit in told) if len(scale) == count else (index + 0.5, index)
    place = (high.round() * DIGIT + low.round()).nan_to_num(-1)
    worst = max(float((digit - digit.round()).abs().nan_to_num(1).max()) for digit in (high, low))
    if worst > 0.1 or not torch.equal(place.sort().values, index.double()):
        raise ValueError(
            f"pictures cannot be encoded for this pipeline: it turns samples {tuple(shape)} into latents "
            f"{tuple(z.shape[1:])} by more than moving, scaling and shifting their entries"
        )
    return LatentMap(place.long(), scale.float(), zero.float(), z.shape[1:], shape)
