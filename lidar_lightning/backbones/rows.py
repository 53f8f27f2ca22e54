"""Rows of tensors, which are kept in one tensor if their shapes agree."""

from collections.abc import Sequence

import torch
from torch import Tensor

Rows = Tensor | list[Tensor]


def stacked(rows: Sequence[Tensor]) -> Rows:
    """One tensor (B, ...) if all rows have the same shape, otherwise the list of rows."""
    return torch.stack(list(rows)) if len({row.shape for row in rows}) == 1 else list(rows)


def repeated(rows: Rows, times: int) -> Rows:
    """All rows one after the other, repeated `times` times."""
    return torch.cat([rows] * times) if isinstance(rows, Tensor) else rows * times
