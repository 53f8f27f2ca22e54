"""One scheduler in place of another: what the network was trained with stays, and latents are not cut."""

import diffusers
import pytest
import torch

from lidar_lightning.backbones.loading import make_scheduler
from lidar_lightning.solvers import SchedulerSolver
from lidar_lightning.solvers.scheduler import VARIANCE_EXPLODING, VARIANCE_PRESERVING
from lidar_lightning.utils.seeding import Generators

LATENT = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
SKIPPED = {"PNDMScheduler": {"skip_prk_steps": True}}


@pytest.mark.parametrize("name", VARIANCE_PRESERVING + VARIANCE_EXPLODING)
@pytest.mark.parametrize("own", ["EulerDiscreteScheduler", "DPMSolverMultistepScheduler", "LCMScheduler"])
def test_latents_keep_their_size(own, name):
    """A denoiser that knows the answer, 3, is followed to it by every scheduler that replaces another."""
    scheduler = make_scheduler(getattr(diffusers, own)(**LATENT), name, SKIPPED.get(name))
    solver = SchedulerSolver(scheduler, 10)
    generators = Generators([0, 1])
    x, times = solver.start(generators.randn(4)), solver.times.tolist()
    for t, s in zip(times, times[1:], strict=False):
        x = solver.step(torch.full_like(x, 3.0), x, t, s, generators)
    torch.testing.assert_close(x, torch.full_like(x, 3.0), rtol=0, atol=0.2)


def test_what_a_class_would_default_otherwise_is_kept():
    """LCM's own defaults are the noise of Stable Diffusion, DDIM's are not."""
    lcm = diffusers.LCMScheduler(rescale_betas_zero_snr=True)
    ddim = make_scheduler(lcm, "DDIMScheduler")
    assert torch.equal(ddim.alphas_cumprod, lcm.alphas_cumprod)
    trained = diffusers.DDIMScheduler(prediction_type="v_prediction", num_train_timesteps=500, clip_sample=False)
    assert make_scheduler(trained, "EulerDiscreteScheduler").config.prediction_type == "v_prediction"
    assert make_scheduler(trained, "DDPMScheduler").config.num_train_timesteps == 500


def test_what_is_asked_for_is_cut():
    cut = diffusers.DDIMScheduler(**LATENT, clip_sample=True)
    assert make_scheduler(cut, "DDPMScheduler").config.clip_sample
    assert make_scheduler(diffusers.EulerDiscreteScheduler(), "DDIMScheduler", {"clip_sample": True}).config.clip_sample
