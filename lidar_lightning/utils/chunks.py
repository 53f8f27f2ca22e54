"""Working on no more rows at a time than fit into the memory of the device."""

import logging
from collections.abc import Callable

import torch
from torch import Tensor

logger = logging.getLogger(__name__)


def in_chunks(work: Callable[[int, int], Tensor], total: int, size: int | None = None) -> list[Tensor]:
    """Calls work(start, stop) on consecutive ranges of `total` rows and returns the list of results.

    A range has `size` rows, or all of them if that is None. If a range does not fit into the memory of the device, it
    is halved, and the ranges after it are no larger.

    Raises:
        torch.OutOfMemoryError: if a single row does not fit.
    """
    size, start, parts = size or max(total, 1), 0, []
    while start < total:
        stop = min(start + size, total)
        part = _attempt(work, start, stop)
        if part is None:
            size = (stop - start) // 2
            logger.warning("%d rows do not fit the memory of the device: going on with %d", stop - start, size)
        else:
            parts.append(part)
            start = stop
    return parts


def _attempt(work: Callable[[int, int], Tensor], start: int, stop: int) -> Tensor | None:
    try:
        return work(start, stop)
    except torch.OutOfMemoryError:
        if stop - start == 1:
            raise
    # Outside of the except clause, where the exception no longer holds the tensors of the failed attempt.
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return None
