"""Work that several processes share: each prompt of each run is drawn by one of them."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Generic, TypeVar

from tqdm.auto import tqdm

from lidar_lightning.runs.folder import RunFolder
from lidar_lightning.runs.parts import Part
from lidar_lightning.utils.files import locked

C = TypeVar("C")


class SharedWork(Generic[C]):
    """The drawing of several runs. Finished prompts are on disk, so that the work goes on where it was stopped.

    Args:
        runs: the runs, by what tells them apart.
        prompts: the prompts that each run draws.
        indices: the indices of the samples of each prompt.
    """

    def __init__(self, runs: Mapping[C, RunFolder], prompts: Sequence[str], indices: Sequence[int]):
        self.runs, self.prompts, self.indices = runs, prompts, indices
        self.done: set[tuple[C, str]] = set()

    def finished(self, cell: C, prompt: str) -> bool:
        """Whether all samples of a prompt are on disk; a prompt that was once found is not looked for again."""
        if (cell, prompt) not in self.done:
            part = self.runs[cell].get(prompt, self.indices)
            if part is None or len(part.indices) < len(self.indices):
                return False
            self.done.add((cell, prompt))
        return True

    def pending(self) -> Iterator[tuple[C, str]]:
        """The runs and prompts that are not on disk yet."""
        return ((cell, prompt) for cell in self.runs for prompt in self.prompts if not self.finished(cell, prompt))

    def work(self, draw: Callable[[C, str], Part], told: Callable[[C], str]) -> None:
        """Draws everything that is left, and waits for what another process has begun.

        Args:
            draw: draws the samples of a prompt for a run.
            told: the text with which the progress line names a run.
        """
        with tqdm(total=len(self.runs) * len(self.prompts), unit="prompt") as bar:
            while left := list(self.pending()):
                bar.n = bar.total - len(left)
                for cell, prompt in left:
                    bar.set_description(told(cell))
                    run = self.runs[cell]
                    try:
                        with locked(run.home(prompt), timeout=0):
                            if not self.finished(cell, prompt):
                                run.put(draw(cell, prompt))
                                bar.update()
                                self.done.add((cell, prompt))
                    except TimeoutError:
                        time.sleep(0.05)
