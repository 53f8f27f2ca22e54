"""Draft, then finish: runs of few steps are scored, and the best of them are repeated in full."""

from itertools import islice
from typing import Self

from torch import Tensor

from lidar_lightning.samplers.ahead import ahead
from lidar_lightning.samplers.budget import Grid, check_budget, equal_times, spending
from lidar_lightning.samplers.restart import place_of
from lidar_lightning.samplers.select import SelectingSampler, Selection
from lidar_lightning.samplers.task import Task
from lidar_lightning.sampling import last, trajectory


class DraftThenFinish(SelectingSampler):
    """Takes several noises for each sample to drafts in few steps, scores the drafts, and runs the best noises in full.

    The finished samples are plain samples that were chosen before they were made. A draft may also leave the full run
    later, at a time `at`. Its steps up to that time are those of the full run, which then goes on from the state that
    was kept. The authors do so too, and a solver with random steps needs it, since the noise at t = 1 says little about
    where its run ends. Their drafts also skip layers and reuse activations, which only some networks allow; those made
    here take fewer steps and nothing else.
    Source: Rawal et al., "Flash-BoN: Instant Drafts for Inference-Time Scaling in Diffusion Models", arXiv 2607.04461.

    Args:
        drafts: number of drafts for each sample, at least 1; a whole number unless they are pooled.
        draft_steps: number of steps from `at` to the end of a draft, at least 1; see `ahead`.
        at: the time in (0, 1] at which drafts leave their runs; 1 is pure noise.
        pooled: whether drafts are chosen among all those of a prompt; otherwise among each sample's own.
        steps: number of steps of the full run, see `Sampler`.

    Raises:
        ValueError: if a setting is out of range.
    """

    random = False
    keep = "best"

    def __init__(
        self,
        drafts: float = 4,
        draft_steps: int = 4,
        at: float = 1.0,
        pooled: bool = True,
        steps: int | None = None,
    ):
        super().__init__(steps)
        if draft_steps < 1 or not 0 < at <= 1:
            raise ValueError(f"draft_steps must be at least 1 and at in (0, 1], got {draft_steps} and {at}")
        self.selection, self.draft_steps, self.at = Selection(drafts, "best", pooled), draft_steps, at

    def place(self, times: Tensor) -> int:
        """The place among the times of the solver (steps + 1,) at which drafts leave their runs."""
        return min(place_of(times, self.at), len(times) - 2)

    def calls(self, times: Tensor) -> tuple[int, int]:
        """Network calls of each draft, and those that finish one; the first prediction serves both."""
        left = len(times) - 1 - self.place(times)
        return self.place(times) + min(self.draft_steps, left), left - 1

    def cost(self, steps: int, count: int, times: Grid = equal_times) -> int:
        drawn, (draft, rest) = self.selection.drawn(count), self.calls(times(steps))
        return steps * count if drawn == count else draft * drawn + rest * count

    def sized(self, calls: int, steps: int, count: int, times: Grid = equal_times) -> Self:
        """Makes as many drafts as the budget pays for, but more than are finished."""
        draft, rest = self.calls(times(steps))
        fewest = count + 1 if self.selection.pooled else 2 * count
        least = -(-draft * fewest // count) + rest
        check_budget("DraftThenFinish", calls, least, "the full runs, and more drafts than are finished")
        sizes = self.selection.sizes((calls - rest) * count // draft, count)
        return spending((self.changed(selection=one) for one in sizes if one.n > 1), calls, steps, count, times)

    def draw(self, task: Task, count: int) -> Tensor:
        drawn = self.selection.drawn(count)
        streams = task.generators(drawn)
        if drawn == count:
            return task.solve(streams)
        place, x = self.place(task.solver.times), task.start(streams)
        x = last(x, islice(trajectory(task.predict, task.solver, x, streams), place))
        t, s = task.steps[place]
        x0_hat = task.predict(x, t)
        drafts = ahead(task, x, x0_hat, place, self.draft_steps, task.generators(drawn, "drafts"))
        rows = self.selection.rows(task, drafts, count)
        x, streams = task.solver.start(x[rows], place) if place else x[rows], streams.take(rows.tolist())
        x = task.solver.step(x0_hat[rows], x, t, s, streams)
        return last(x, trajectory(task.predict, task.solver, x, streams, place=place + 1))
