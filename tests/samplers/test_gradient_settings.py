"""Methods that differentiate the reward: what they refuse, their budgets, and gradients through decoders."""

import pytest
import torch

from lidar_lightning.backbones.vae import decode
from lidar_lightning.rewards import CallableReward
from lidar_lightning.samplers.best_of_n import BestOfN
from lidar_lightning.samplers.das import DAS
from lidar_lightning.samplers.date import DATE
from lidar_lightning.samplers.dps import DPS
from lidar_lightning.samplers.gradient import reward_slope
from lidar_lightning.samplers.universal import UniversalGuidance
from tests.exact import FIVE, TOKENS, task
from tests.pictures import BLUNT, backbone, brightness, pictures
from tests.pipelines import build
from tests.samplers.test_gradient import LAMBDA, QUADRATIC


@pytest.mark.parametrize(
    ("sampler", "temperature"),
    [(UniversalGuidance(1e3), 100.0), (DPS(best=1.0), 100.0), (DAS(2), 1e4), (DATE(5.0, every=1), 100.0)],
    ids=lambda given: type(given).__name__,
)
def test_pictures_become_brighter_and_weights_have_no_gradient(sampler, temperature):
    given, plain = pictures(temperature=temperature), pictures()
    assert brightness(given, sampler(given, 4)) > brightness(plain, BestOfN(1)(plain, 4))
    assert all(parameter.grad is None for parameter in given.backbone.parameters())


@pytest.mark.parametrize("sampler", [UniversalGuidance(), DPS(), DAS(), DATE()], ids=lambda s: type(s).__name__)
def test_rewards_without_gradient_are_refused(sampler):
    with pytest.raises(ValueError, match="'blunt' is not differentiable: use a sampler without gradients"):
        sampler(task(FIVE, BLUNT), 1)


def test_gradients_that_are_not_finite_are_named():
    steep = CallableReward(lambda x, _: (0 * x).sum(-1).abs().sqrt(), name="steep", modality="any", differentiable=True)
    with pytest.raises(ValueError, match="gradient of the reward 'steep' is not finite at t = 1"):
        UniversalGuidance()(task(FIVE, steep, LAMBDA), 2)


def test_tokens_are_refused():
    with pytest.raises(ValueError, match="no gradient"):
        UniversalGuidance()(task(TOKENS, QUADRATIC), 1)


@pytest.mark.parametrize(
    ("make", "settings"),
    [
        (UniversalGuidance, {"scale": -1}), (UniversalGuidance, {"recurrence": 0}), (UniversalGuidance, {"spread": 0}),
        (UniversalGuidance, {"start": 0.2, "stop": 0.4}), (DPS, {"norm": "none"}), (DPS, {"curvature": -1}),
        (DAS, {"gamma": 0}), (DAS, {"particles": 0}), (DATE, {"rho": 0}), (DATE, {"every": 0}), (DATE, {"anchor": -1}),
    ],
)  # fmt: skip
def test_bad_settings_are_refused(make, settings):
    with pytest.raises(ValueError, match="got"):
        make(**settings)


@pytest.mark.parametrize(
    ("sampler", "calls", "name", "value"),
    [(UniversalGuidance(), 35, "calls", 35), (DPS(), 35, "steps", 35), (DAS(), 36, "particles", 3)],
)
def test_within_a_budget(sampler, calls, name, value):
    given = task(FIVE, QUADRATIC, LAMBDA, steps=10)
    fitted = sampler.within(calls, 10, 1)
    fitted(given, 2)
    assert getattr(fitted, name) == value and given.meter.network <= calls * 2
    with pytest.raises(ValueError, match="at least"):
        sampler.within(9, 10, 1)


def test_gradients_pass_a_float16_vae_that_decodes_in_float32():
    vae = build("StableDiffusion").vae.requires_grad_(False).half()
    vae.register_to_config(force_upcast=True)
    latents = torch.randn(1, 4, 16, 16)
    assert not decode(vae, latents).requires_grad and vae.dtype == torch.float16
    given = latents.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(decode(vae, given).sum(), given)
    assert gradient.isfinite().all() and gradient.any()


def test_an_offloaded_vae_stays_where_a_gradient_has_to_pass_it(monkeypatch):
    model, moves = backbone(offload=True), []
    monkeypatch.setattr(model.pipe.vae, "to", lambda device: moves.append(str(device)))
    latents = torch.randn(1, *model.latent_shape)
    model.decode(latents)
    assert len(moves) == 2
    model.decode(latents.requires_grad_())
    assert len(moves) == 3


def test_slope_leaves_gradients_off_outside():
    with torch.no_grad():
        slope = reward_slope(task(FIVE, QUADRATIC, LAMBDA), torch.zeros(2, 2, dtype=torch.float64), 0.5)
        assert not torch.is_grad_enabled() and not any(part.requires_grad for part in slope)
