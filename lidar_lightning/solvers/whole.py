"""Runs of a stock pipeline whose steps are spaced in another way, begin in the middle, or are random."""

import functools
import inspect
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from diffusers.schedulers.scheduling_utils import SchedulerOutput
from torch import Tensor

from lidar_lightning.parametrisation import to_x0
from lidar_lightning.solvers.gaussian import GaussianAncestral
from lidar_lightning.solvers.scheduler import kind_of, scale_of, times_of
from lidar_lightning.solvers.stock import replaced
from lidar_lightning.utils.seeding import Generators


class Enough(Exception):
    """Ends the call of a pipeline once it has done what is needed."""


@contextmanager
def spaced(scheduler: Any, ends: bool = False) -> Iterator[list[Tensor]]:
    """While the block runs, the list that it yields holds the times of the steps that a pipeline sets, and then 0.

    Many pipelines pass sigmas to any scheduler, and a shift `mu` that only some schedulers use. Here a scheduler that
    takes no sigmas spaces the same number of steps by itself. The list holds one tensor (steps + 1,).

    Args:
        ends: whether `Enough` ends the call of the pipeline as soon as its steps are set.
    """
    plain = scheduler.set_timesteps
    taken = inspect.signature(plain).parameters
    found: list[Tensor] = []

    def set_timesteps(
        num_inference_steps: int | None = None,
        device: Any = None,
        timesteps: Any = None,
        sigmas: Any = None,
        mu: float | None = None,
        **options: Any,
    ) -> None:
        if sigmas is not None and "sigmas" not in taken:
            num_inference_steps, timesteps, sigmas = len(sigmas), None, None
        told = {"num_inference_steps": num_inference_steps, "timesteps": timesteps, "sigmas": sigmas}
        if mu is not None and scheduler.config.get("use_dynamic_shifting") and "mu" in taken:
            # Multistep solvers know the exponential shift only: the linear one by mu is that by its logarithm.
            if scheduler.config.get("time_shift_type") == "linear" and "flow_shift" in scheduler.config:
                scheduler.register_to_config(flow_shift=mu)
            else:
                told["mu"] = mu
        plain(device=device, **{key: value for key, value in told.items() if value is not None}, **options)
        found[:] = [times_of(scheduler)]
        if ends:
            raise Enough

    with replaced(scheduler, "set_timesteps", set_timesteps):
        yield found


@contextmanager
def begun(pipe: Any, scheduler: Any, x0: Tensor, place: int, alpha: Tensor, sigma: Tensor) -> Iterator[None]:
    """While the block runs, a call of the pipeline begins at step number `place` of a scheduler, from
    alpha x0 + sigma eps, where eps is the noise that the call would have begun with.

    The steps before it are hidden from the pipeline, but not from its scheduler, which makes the later steps as it does
    in a whole run.

    Args:
        x0: clean samples (B, *S), one for each picture of the call, as the scheduler steps them.
        alpha, sigma: the coefficients at that step, each a tensor of one number.

    Raises:
        ValueError: if the pipeline prepares no noise or noise of another shape, or its scheduler is a PNDMScheduler.
    """
    kind = type(pipe).__name__
    if not hasattr(pipe, "prepare_latents"):
        raise ValueError(f"a {kind} has no prepare_latents, so that it can begin at pure noise only: leave restart out")
    if type(scheduler).__name__ == "PNDMScheduler":
        raise ValueError("a PNDMScheduler starts at pure noise only: restart with another scheduler")
    set_timesteps, prepare, step = scheduler.set_timesteps, pipe.prepare_latents, scheduler.step
    set_begin = getattr(scheduler, "set_begin_index", None)
    every: list[Tensor] = []

    @functools.wraps(set_timesteps)
    def shortened(*args: Any, **options: Any) -> None:
        set_timesteps(*args, **options)
        every[:] = [scheduler.timesteps]
        scheduler.timesteps = scheduler.timesteps[place:]
        if set_begin:
            set_begin(place)

    @functools.wraps(prepare)
    def prepared(*args: Any, **options: Any) -> Any:
        answer = prepare(*args, **options)
        noise = answer[0] if isinstance(answer, tuple) else answer
        if noise.shape != x0.shape:
            raise ValueError(
                f"a {kind} begins with noise {tuple(noise.shape)}, but its clean samples are {tuple(x0.shape)}: "
                "leave restart out"
            )
        eps = noise.float() / float(getattr(scheduler, "init_noise_sigma", 1.0))
        x = (scale_of(scheduler, place) * (alpha.item() * x0.to(eps) + sigma.item() * eps)).to(noise.dtype)
        return (x, *answer[1:]) if isinstance(answer, tuple) else x

    @functools.wraps(step)
    def stepped(*args: Any, **options: Any) -> Any:
        scheduler.timesteps = every[0]
        return step(*args, **options)

    with ExitStack() as stack:
        for owner, name, value in (
            (scheduler, "set_timesteps", shortened), (scheduler, "step", stepped), (pipe, "prepare_latents", prepared),
        ):  # fmt: skip
            stack.enter_context(replaced(owner, name, value))
        if set_begin:
            stack.enter_context(replaced(scheduler, "set_begin_index", lambda begin=0: set_begin(place + begin)))
        yield


@contextmanager
def random_steps(scheduler: Any, law: GaussianAncestral, generators: Generators, place: int = 0) -> Iterator[None]:
    """While the block runs, the steps of a scheduler are draws from `law`, at the scheduler's own times.

    Args:
        law: the solver that makes the steps, from the predictions that the scheduler receives.
        generators: one stream per sample, from which the noise of the steps is drawn.
        place: number of the first step that is made.
    """
    plain, kind, steps = scheduler.step, kind_of(scheduler), iter(range(place, len(law.times) - 1))

    @functools.wraps(plain)
    def step(output: Tensor, timestep: Any, sample: Tensor, *args: Any, **options: Any) -> SchedulerOutput:
        number = next(steps)
        t, s = law.times[number : number + 2].tolist()
        x_t = sample.float() / scale_of(scheduler, number)
        alpha, sigma = (c.to(x_t) for c in law.schedule(torch.tensor(t, dtype=torch.float64)))
        x_s = law.step(to_x0(output.float(), x_t, alpha, sigma, kind), x_t, t, s, generators)
        plain(output, timestep, sample, *args, **options)  # So that it counts its steps.
        return SchedulerOutput(prev_sample=(scale_of(scheduler, number + 1) * x_s).to(sample.dtype))

    with replaced(scheduler, "step", step):
        yield
