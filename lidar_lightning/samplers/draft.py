"""Draft, then finish: runs of few steps are scored, and the best of them made in full."""

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
    """Ends several noises for each sample in few steps, scores these drafts, and runs the best ones' noise in full.

    The finished samples are plain samples, chosen before they were made. A draft may also leave its run later, at a
    time t: up to there its steps are those of the full run, which goes on from the state that was kept. The authors do
    that too, and a solver with random steps needs it, for its noise at t = 1 says little about where it ends. Their
    drafts leave out layers and reuse activations of the network as well, which takes a network of a certain kind; these
    leave out steps alone.
    Source: Rawal et al., "Flash-BoN: Instant Drafts for Inference-Time Scaling in Diffusion Models", arXiv 2607.04461.

    Args:
        drafts: for each sample, at least 1; a whole number unless they are pooled.
        draft_steps: with which a draft ends, at least 1; see `ahead`.
        at: the time in (0, 1] at which drafts leave their runs; 1 is pure noise.
        pooled: choose among all drafts of a prompt together; otherwise among each sample's own.
        steps: of the full run, see `Sampler`.

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
            raise ValueError(f"draft_steps is at least 1 and at lies in (0, 1], got {draft_steps} and {at}")
        self.selection, self.draft_steps, self.at = Selection(drafts, "best", pooled), draft_steps, at

    def place(self, times: Tensor) -> int:
        """Where drafts leave their runs, among the times of the solver (steps + 1,)."""
        return min(place_of(times, self.at), len(times) - 2)

    def calls(self, times: Tensor) -> tuple[int, int]:
        """Network calls of each draft, and of finishing one: its first prediction serves both."""
        left = len(times) - 1 - self.place(times)
        return self.place(times) + min(self.draft_steps, left), left - 1

    def cost(self, steps: int, count: int, times: Grid = equal_times) -> int:
        drawn, (draft, rest) = self.selection.drawn(count), self.calls(times(steps))
        return steps * count if drawn == count else draft * drawn + rest * count

    def sized(self, calls: int, steps: int, count: int, times: Grid = equal_times) -> Self:
        """As many drafts as fit, more than are finished."""
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
