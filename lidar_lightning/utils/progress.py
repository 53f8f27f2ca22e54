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
    """Shows a line while its block runs; within another, one below it.

    Args:
        what: is being done.
        total: of what `advance` will be told; None does not know it.
        done: of it, before.
        reward: the mean so far, if there is one.
        hidden: show nothing, also within.
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


def advance(amount: float) -> None:
    """So much more of the innermost work is done."""
    if _lines and _lines[-1]:
        progress, line = _lines[-1]
        progress.update(line, advance=amount)


def scored(rewards: Tensor) -> None:
    """Shows the mean of the rewards that were given last."""
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
