"""Diffusers schedulers as solvers of continuous data."""

import hashlib
import inspect
import json
from typing import Any

import torch
from torch import Tensor

from lidar_lightning.parametrisation import check_kind, from_x0
from lidar_lightning.schedules import FlowMatching, Schedule, VariancePreserving
from lidar_lightning.utils.seeding import Generators

VARIANCE_PRESERVING = (
    "DDIMScheduler",
    "DDPMScheduler",
    "DEISMultistepScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "LCMScheduler",
    "PNDMScheduler",
    "SASolverScheduler",
    "TCDScheduler",
    "UniPCMultistepScheduler",
)
VARIANCE_EXPLODING = ("EulerAncestralDiscreteScheduler", "EulerDiscreteScheduler")
FLOW_MATCHING = ("FlowMatchEulerDiscreteScheduler", "FlowMatchLCMScheduler")
SUPPORTED = VARIANCE_PRESERVING + VARIANCE_EXPLODING + FLOW_MATCHING


def check_scheduler(scheduler: Any) -> None:
    """Raises ValueError for a scheduler whose steps take more than one prediction, or that is not in `SUPPORTED`."""
    name = type(scheduler).__name__
    if name not in SUPPORTED:
        raise ValueError(f"cannot solve with a {name}: use one of {', '.join(SUPPORTED)}")
    if name == "PNDMScheduler" and not scheduler.config.skip_prk_steps:
        raise ValueError("PNDMScheduler calls the network four times a step unless skip_prk_steps=True: set it")


def is_flow(scheduler: Any) -> bool:
    """Whether a scheduler of diffusers steps through flow-matching noise."""
    return type(scheduler).__name__ in FLOW_MATCHING or bool(scheduler.config.get("use_flow_sigmas"))


def schedule_of(scheduler: Any) -> Schedule:
    """The noise schedule that a scheduler's network was trained with, over the times of `time_of`."""
    return FlowMatching() if is_flow(scheduler) else VariancePreserving(scheduler.alphas_cumprod)


def time_of(scheduler: Any, timestep: Any) -> float:
    """The time, or noise level, at which a scheduler is about to `step` from `timestep`.

    That is the timestep that the network is told, divided by the number N of timesteps; where a scheduler rounds its
    timesteps (Karras sigmas, flow sigmas), it is the rounded one. For flow-matching schedulers it is the sigma, since
    their timesteps need not be their noise levels (those of CogView4 are not shifted as its sigmas are).
    """
    if type(scheduler).__name__ not in FLOW_MATCHING:
        return float(timestep) / scheduler.config.num_train_timesteps
    place = scheduler.begin_index if scheduler.step_index is None else scheduler.step_index
    return float(scheduler.sigmas[scheduler.index_for_timestep(timestep) if place is None else place])


def times_of(scheduler: Any) -> Tensor:
    """The times of all steps that a scheduler was set to make, then 0: (steps + 1,) float64."""
    steps, total = len(scheduler.timesteps), scheduler.config.num_train_timesteps
    levels = type(scheduler).__name__ in FLOW_MATCHING
    times = scheduler.sigmas[:steps] if levels else scheduler.timesteps.double() / total
    return torch.cat((times.double().cpu(), torch.zeros(1, dtype=torch.float64)))


def kind_of(scheduler: Any) -> str:
    """What the network of a scheduler predicts. Raises ValueError if that is unknown."""
    return "flow_prediction" if is_flow(scheduler) else check_kind(scheduler.config.prediction_type)


def scale_of(scheduler: Any, place: int) -> float:
    """The ratio of the scheduler's own sample at step `place` to ours; it is above 1 where its variance explodes."""
    if type(scheduler).__name__ not in VARIANCE_EXPLODING:
        return 1.0
    return float((scheduler.sigmas[place].double().square() + 1).sqrt())


class SchedulerSolver:
    """Steps with a copy of a diffusers scheduler.

    Its times are those of `time_of`, then 0. The scheduler receives the output of a network that would mean x0_hat, so
    that it does what it does in a stock pipeline. Call `start`, then `step` along `times` in order, since many
    schedulers remember their last steps.

    Args:
        scheduler: one of `SUPPORTED`; it is left unchanged.
        steps: number of network calls; None if `grid` gives the steps.
        eta: amount of noise of DDIM and TCD, from 0 (deterministic) to 1 (ancestral).
        grid: `timesteps`, `sigmas` or `mu`, which are passed to the scheduler's `set_timesteps`.

    Raises:
        ValueError: if the scheduler or its prediction type is not supported, if eta lies outside [0, 1] or the
            scheduler has none, if there is less than one step, or if the scheduler does not take the grid.
    """

    def __init__(self, scheduler: Any, steps: int | None = 50, eta: float = 0.0, **grid: Any):
        check_scheduler(scheduler)
        name, accepted = type(scheduler).__name__, inspect.signature(scheduler.step).parameters
        if steps is not None and steps < 1:
            raise ValueError(f"a solver needs at least 1 step, got {steps}")
        if not 0 <= eta <= 1 or (eta and "eta" not in accepted):
            raise ValueError(f"eta lies in [0, 1], and only DDIM and TCD take one other than 0, got {eta} with {name}")
        if unknown := set(grid) - set(inspect.signature(scheduler.set_timesteps).parameters):
            raise ValueError(f"{name} does not take {sorted(unknown)}: it spaces its steps by itself")
        self.scheduler = type(scheduler).from_config(scheduler.config)
        self.schedule, self.kind = schedule_of(scheduler), kind_of(scheduler)
        self.steps, self.grid = steps, grid
        self.extra = {"eta": eta} if "eta" in accepted else {}
        self.takes_generator = "generator" in accepted
        self.place = 0
        self.timesteps = self._restart("cpu")
        self.times = times_of(self.scheduler)
        self.name = f"{name}(eta={eta:g}, config={digest(dict(scheduler.config), grid)})"

    def _restart(self, device: torch.device | str) -> Tensor:
        count = {} if self.steps is None else {"num_inference_steps": self.steps}
        self.scheduler.set_timesteps(**count, **self.grid, device=device)
        return self.scheduler.timesteps

    def start(self, x: Tensor, place: int = 0) -> Tensor:
        """Begins at `times[place]` with x (B, *S), which is standard normal noise at the first of them.

        Raises:
            ValueError: if a PNDMScheduler is to start later, because its first steps are of another kind.
        """
        self.timesteps, self.place = self._restart(x.device), place
        if not place:
            return x * (float(getattr(self.scheduler, "init_noise_sigma", 1.0)) / scale_of(self.scheduler, 0))
        if type(self.scheduler).__name__ == "PNDMScheduler":
            raise ValueError("a PNDMScheduler starts at pure noise only: restart with another scheduler")
        if hasattr(self.scheduler, "set_begin_index"):
            self.scheduler.set_begin_index(place)
        return x

    def step(self, x0_hat: Tensor, x_t: Tensor, t: float, s: float, generators: Generators) -> Tensor:
        """x_s (B, *S), like x_t, from the prediction x0_hat (B, *S) at t; s is the time that follows t in `times`.

        Raises:
            ValueError: if t is not the next of this solver's times.
        """
        place = self.place
        if place >= len(self.timesteps) or abs(self.times[place].item() - t) > 1e-6:
            expected = self.times[place].item() if place < len(self.timesteps) else "the end, so start again"
            raise ValueError(f"t={t} is not the next time of this solver, which is {expected}")
        alpha, sigma = (c.to(x_t) for c in self.schedule(torch.tensor(t, dtype=torch.float64)))
        output = from_x0(x0_hat.to(x_t.dtype), x_t, alpha, sigma, self.kind)
        extra = {**self.extra, "generator": generators.streams} if self.takes_generator else self.extra
        sample = x_t * scale_of(self.scheduler, place)
        stepped = self.scheduler.step(output, self.timesteps[place], sample, return_dict=False, **extra)[0]
        self.place += 1
        return stepped / scale_of(self.scheduler, self.place)


def digest(*settings: dict[str, Any]) -> str:
    """Hashes the public settings of a scheduler to eight hexadecimal digits."""
    public = [{k: v for k, v in part.items() if not k.startswith("_")} for part in settings]
    return hashlib.sha256(json.dumps(public, sort_keys=True, default=str).encode()).hexdigest()[:8]
