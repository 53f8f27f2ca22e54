"""Keeps the pictures that a pipeline made of clean samples until the samples are decoded."""

import hashlib

import torch
from torch import Tensor

MOST = 2**30
"""The number of bytes of pictures that are kept."""


class Pictures:
    """The pictures that were made last, found by the bytes of their clean samples."""

    def __init__(self) -> None:
        self._made: dict[str, Tensor] = {}

    def put(self, x0: Tensor, pictures: Tensor) -> None:
        """Keeps the pictures (B, ...) of clean samples (B, *S), and as many earlier ones as fit into `MOST` bytes."""
        for one, picture in zip(x0, pictures.cpu(), strict=True):
            self._made[_hash(one)] = picture
        for key in list(self._made)[: -max(len(x0), MOST // (4 * pictures[0].numel()))]:
            del self._made[key]

    def get(self, x0: Tensor) -> Tensor | None:
        """The pictures (B, ...) of clean samples (B, *S), on the device of these; None unless all are kept."""
        found = [self._made.get(_hash(one)) for one in x0]
        kept = [picture for picture in found if picture is not None]
        return torch.stack(kept).to(x0.device) if len(kept) == len(x0) else None

    def clear(self) -> None:
        self._made.clear()


def _hash(x: Tensor) -> str:
    return hashlib.sha256(x.detach().cpu().contiguous().numpy().tobytes()).hexdigest()
