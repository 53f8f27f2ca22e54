"""Diffusers schedulers as solvers of continuous data."""

import hashlib
import json
from typing import Any

import torch
from torch import Tensor

from lidar_lightning.schedules import VariancePreserving
from lidar_lightning.seeding import Generators

SUPPORTED = ("DDIMScheduler", "DDPMScheduler", "DPMSolverMultistepScheduler")


class SchedulerSolver:
    """Steps with a copy of a diffusers scheduler that is told the clean sample (prediction_type="sample").

    Times are timesteps / num_train_timesteps, then 0. `step` wants them in order: a multistep scheduler remembers its
    last predictions, and forgets them at the first time. Clipping and thresholding are off: x0_hat is used as it is.

    Args:
        scheduler: a DDIM, DDPM or DPMSolverMultistep scheduler of variance-preserving noise; it is left unchanged.
        steps: network calls.
        eta: noise of DDIM, from 0 (deterministic) to 1 (ancestral).

    Raises:
        ValueError: for another scheduler, flow sigmas, eta without DDIM or out of [0, 1], or less than one step.
    """

    def __init__(self, scheduler: Any, steps: int = 50, eta: float = 0.0):
        name, config = type(scheduler).__name__, scheduler.config
        if name not in SUPPORTED:
            raise ValueError(f"cannot solve with a {name}: use one of {', '.join(SUPPORTED)}")
        if config.get("use_flow_sigmas"):
            raise ValueError(f"{name} with use_flow_sigmas=True is not variance preserving: set it to False")
        if steps < 1:
            raise ValueError(f"a solver needs at least 1 step, got {steps}")
        if not 0 <= eta <= 1 or (eta and name != "DDIMScheduler"):
            raise ValueError(f"eta lies in [0, 1] and is 0 but for DDIM, got {eta} with {name}")
        plain = {"prediction_type": "sample", "clip_sample": False, "thresholding": False}
        self.scheduler = type(scheduler).from_config(config, **{k: v for k, v in plain.items() if k in config})
        self.scheduler.set_timesteps(steps)
        public = {k: v for k, v in self.scheduler.config.items() if not k.startswith("_")}
        digest = hashlib.sha256(json.dumps(public, sort_keys=True, default=str).encode()).hexdigest()[:8]
        self.name = f"{name}(eta={eta:g}, config={digest})"
        self.schedule = VariancePreserving(self.scheduler.alphas_cumprod)
        self.steps, self.extra = steps, {"eta": eta} if name == "DDIMScheduler" else {}
        self.timesteps = self.scheduler.timesteps.double()
        self.times = torch.cat((self.timesteps / config.num_train_timesteps, torch.zeros(1, dtype=torch.float64)))

    def step(self, x0_hat: Tensor, x_t: Tensor, t: float, s: float, generators: Generators) -> Tensor:
        """x_s (B, *S), like x_t, from the prediction x0_hat (B, *S) at t; s is the time that follows t in `times`.

        Raises:
            ValueError: if t is not one of the times of this solver.
        """
        place = (self.times[:-1] - t).abs().argmin()
        if abs(self.times[place].item() - t) > 1e-6:
            raise ValueError(f"t={t} is not a time of this solver: step along its times, got {self.steps} steps")
        if place == 0:
            self.scheduler.set_timesteps(self.steps)
        timestep = int(self.timesteps[place])
        return self.scheduler.step(
            x0_hat.to(x_t.dtype), timestep, x_t, generator=generators.streams, return_dict=False, **self.extra
        )[0]
