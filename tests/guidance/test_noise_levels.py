"""The noise level of a step is what sigmas say, whatever the network is told; and the times of random solvers."""

import diffusers
import numpy as np
import pytest
import torch

from lidar_lightning import LookaheadBank, backbones, guide
from lidar_lightning.lookahead.bank import Provenance
from lidar_lightning.solvers import SchedulerSolver
from lidar_lightning.solvers.scheduler import time_of
from lidar_lightning.utils.seeding import Generators
from tests import modern_pipelines, reference
from tests.pipelines import build

SHIFTED = {"use_dynamic_shifting": True, "base_shift": 0.25, "max_shift": 0.75, "time_shift_type": "linear"}


def told(steps):
    """As CogView4 drives its scheduler: sigmas are shifted afterwards, timesteps are not."""
    timesteps = np.linspace(1000, 1, steps).astype(np.int64).astype(np.float32)
    return {"timesteps": timesteps.tolist(), "sigmas": (timesteps / 1000).tolist(), "mu": 0.6}


def test_cogview4_is_guided_at_its_sigmas():
    pipe = modern_pipelines.build("CogView4")
    generator, outputs, guided = torch.Generator().manual_seed(1), [], []
    samples, rewards = torch.randn(6, 4, 16, 16, generator=generator), torch.randn(6, generator=generator)
    space = backbones.StableDiffusion(build("StableDiffusion")).space
    pipe.vae = build("StableDiffusion").vae
    bank = LookaheadBank(samples, {"r": rewards}, Provenance("a cat", "x", "y", space, "z", 1, 6, 0))
    plain = pipe.scheduler.step

    def inner(output, *args, **options):
        guided.append(output)
        return plain(output, *args, **options)

    pipe.scheduler.step = inner
    with guide(pipe, bank, scale=0.7, temperature=2.0) as guidance:
        step = pipe.scheduler.step

        def outer(output, timestep, sample, **options):
            outputs.append((output, float(timestep), sample))
            return step(output, timestep, sample, **options)

        pipe.scheduler.step = outer
        pipe("a cat", height=32, width=32, num_inference_steps=5, generator=generator, output_type="latent")
    sigmas = pipe.scheduler.sigmas.tolist()
    rows = guidance.take_diagnostics()
    assert [row["t"] for row in rows] == sigmas[:5]
    assert max(abs(t / 1000 - sigma) for (_, t, _), sigma in zip(outputs, sigmas, strict=False)) > 0.05
    for (output, _, x), given, sigma in zip(outputs, guided, sigmas, strict=False):
        shift = reference.gaussian_shift(
            x.double().flatten(1).numpy(), 1 - sigma, sigma, samples.double().flatten(1).numpy(),
            rewards.double().numpy(), 2.0,
        ).reshape(x.shape)  # fmt: skip
        torch.testing.assert_close(given.double(), output.double() - 0.7 / sigma * shift, rtol=1e-4, atol=1e-4)


def test_solver_times_are_noise_levels():
    """Exact data at 3 and its noise: every x of the run is (1 - t) 3 + t noise at the solver's own t."""
    solver = SchedulerSolver(diffusers.FlowMatchEulerDiscreteScheduler(**SHIFTED), None, **told(5))
    assert not torch.allclose(solver.times[:-1], solver.timesteps.double() / 1000, atol=0.05)
    noise = torch.randn(2, 3, generator=torch.Generator().manual_seed(0))
    x, times = solver.start(noise), solver.times.tolist()
    for t, s in zip(times, times[1:], strict=False):
        torch.testing.assert_close(x, (1 - t) * torch.full_like(x, 3.0) + t * noise)
        x = solver.step(torch.full_like(x, 3.0), x, t, s, Generators([0, 1]))
    torch.testing.assert_close(x, torch.full_like(x, 3.0))


def test_time_of_a_run_that_begins_late():
    """As image to image does: the first step is not the scheduler's first."""
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(**SHIFTED)
    scheduler.set_timesteps(**told(5))
    assert time_of(scheduler, scheduler.timesteps[3]) == scheduler.sigmas[3].item()
    scheduler.set_begin_index(2)
    assert time_of(scheduler, scheduler.timesteps[2]) == scheduler.sigmas[2].item()
    scheduler.step(torch.zeros(1), scheduler.timesteps[2], torch.zeros(1))
    assert time_of(scheduler, scheduler.timesteps[3]) == scheduler.sigmas[3].item()


@pytest.mark.parametrize("name", ["Flux", "StableDiffusion3"])
def test_random_steps_of_a_flow_are_where_the_pipeline_has_them(name):
    pipe = build(name)
    seen = []
    backbone = getattr(backbones, name)(pipe, height=32, width=32)
    pipe(
        "a cat", height=32, width=32, num_inference_steps=4, output_type="latent",
        callback_on_step_end=lambda _, i, t, kept: seen.append(float(t) / 1000) or kept,
    )  # fmt: skip
    times = backbone.random_solver(4).times
    torch.testing.assert_close(times, torch.tensor([*seen, 0.0], dtype=torch.float64), rtol=1e-6, atol=1e-6)
    assert (times - torch.linspace(1, 0, 5, dtype=torch.float64)).abs().max() > 0.1
    fixed = backbone.variant(grid={"sigmas": [1.0, 0.5]})
    assert torch.equal(fixed.random_solver(4).times, times)
    larger = backbone.variant(height=64, width=64).random_solver(4).times
    assert torch.equal(larger, times) == (name == "StableDiffusion3")


def test_random_steps_of_a_diffusion_are_equally_spaced():
    times = backbones.StableDiffusion(build("StableDiffusion")).random_solver(4).times
    torch.testing.assert_close(times, torch.linspace(1, 0, 5, dtype=torch.float64))
