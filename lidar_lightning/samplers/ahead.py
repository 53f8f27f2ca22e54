"""Looking ahead: a few steps take a state in the middle of a run to a clean sample, which a reward can score."""

from torch import Tensor

from lidar_lightning.samplers.task import Task
from lidar_lightning.solvers import GaussianAncestral
from lidar_lightning.utils.seeding import Generators


def ahead(task: Task, x: Tensor, x0_hat: Tensor, place: int, steps: int, generators: Generators) -> Tensor:
    """Clean samples (B, *S) to which a few steps lead from x (B, *S) at a time of the task's solver.

    The steps are evenly spread over the solver's times that are left. For continuous data they are deterministic (DDIM
    with eta = 0), for tokens they are draws of the solver itself. The last one goes to the clean sample that the
    prediction there stands for. A single step gives the predicted clean sample that most samplers score, and takes no
    network call.

    Args:
        x0_hat: the prediction at x: (B, *S), or (B, L, V) for tokens.
        place: the place of x among the times of the solver, which is not the last.
        steps: number of steps, at least 1; it takes min(steps, the solver's steps that are left) - 1 network calls.
        generators: one stream per sample, which only tokens use.
    """
    times = task.solver.times.tolist()
    left = len(times) - 1 - place
    count = min(steps, left)
    grid = [times[place + number * left // count] for number in range(count)]
    plain = GaussianAncestral(task.backbone.schedule, 1, eta=0.0) if x.is_floating_point() else None
    for t, s in zip(grid, grid[1:], strict=False):
        x = plain.transition(x0_hat, x, t, s).mean if plain else task.solver.step(x0_hat, x, t, s, generators)
        x0_hat = task.predict(x, s)
    return x0_hat if plain else task.solver.estimate(x0_hat, x, grid[-1])
