"""How much memory a setting would take, checked before anything is drawn."""

import psutil

ROW = 256
"""Bytes, at least, that a sample takes beside itself: its stream, its scores, its row of a table."""


def check_memory(what: str, count: int, each: int = ROW) -> None:
    """Raises ValueError if `count` items of `each` bytes do not fit into the memory of this machine."""
    need, there = count * each, psutil.virtual_memory().total
    if need > there:
        raise ValueError(
            f"{what} would take at least {need / 2**30:,.0f} GiB of memory, and this machine has {there / 2**30:,.0f} "
            "GiB: choose a smaller number"
        )
