"""What a run is doing, on a terminal: a line with the share that is done, the time that is left and the mean reward.

Elsewhere, as in a file or a notebook, nothing is shown.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor

_lines: list[tuple[Progress, TaskID] | None] = []
"""What is being shown, innermost last; None where it was hidden."""


@contextmanager
def working(
    what: str, total: float | None = None, done: float = 0, reward: float | None = None, hidden: bool = False
) -> Iterator[None]:
    """Shows a progress line while its block runs, below those of the blocks around it.

    Args:
        what: the text that says what is being done.
        total: the sum of what `advance` will be told; None if it is not known.
        done: how much of the total was done before, in a run that goes on.
        reward: the mean reward so far, if there is one.
        hidden: whether to show nothing, nor anything of the blocks within.
    """
    console = Console(stderr=True)
    outer = _lines[-1] if _lines else None
    if hidden or not console.is_terminal or (_lines and outer is None):
        _lines.append(None)
        try:
            yield
        finally:
            _lines.pop()
        return
    progress = outer[0] if outer else _new(console)
    line = progress.add_task(what, total=total, completed=int(done), reward=_said(reward))
    _lines.append((progress, line))
    try:
        yield
    finally:
        _lines.pop()
        progress.remove_task(line)
        if outer is None:
            progress.stop()


def is_working() -> bool:
    """Whether a block of `working` runs. Its line then stands for all that the block does: show no other bar."""
    return bool(_lines)


def advance(amount: float) -> None:
    """Adds an amount to what is done of the innermost work."""
    if _lines and _lines[-1]:
        progress, line = _lines[-1]
        progress.update(line, advance=amount)


def scored(rewards: Tensor) -> None:
    """Shows the mean of these rewards, until others are given."""
    if _lines and _lines[-1]:
        progress, line = _lines[-1]
        progress.update(line, reward=_said(rewards.double().mean().item()))


def _said(reward: float | None) -> str:
    return "" if reward is None else f"mean reward {reward:.3g}"


def _new(console: Console) -> Progress:
    texts = [
        TextColumn(text) for text in ("{task.description}", "{task.percentage:>3.0f}%", "left", "{task.fields[reward]}")
    ]
    what, share, left, reward = texts
    bar = BarColumn(bar_width=24)
    progress = Progress(
        what, bar, share, TimeElapsedColumn(), left, TimeRemainingColumn(), reward, console=console, transient=True
    )
    progress.start()
    return progress
