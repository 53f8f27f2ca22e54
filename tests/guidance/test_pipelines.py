"""`guide` in stock pipelines against the own loop, the plain pipeline, and float64 loops written from the papers."""

import diffusers
import numpy as np
import pytest
import torch

from lidar_lightning import LiDARGuidance, LiDARSettings, Lookahead, LookaheadBank, backbones, guide
from lidar_lightning.rewards import CallableReward
from lidar_lightning.sampling import sample
from lidar_lightning.solvers.scheduler import FLOW_MATCHING, VARIANCE_EXPLODING, VARIANCE_PRESERVING
from lidar_lightning.utils.seeding import Generators
from tests import reference
from tests.pipelines import build

PROMPTS = ["a cat", "two dogs"]
STEPS, N, SETTINGS = 5, 6, {"scale": 0.7, "temperature": 300.0, "stop": 0.3}
STREAMS: list[torch.Generator] = []
SKIPPED = {"skip_prk_steps": True, "clip_sample": False}
CASES = (
    [("StableDiffusion", name, {}) for name in VARIANCE_PRESERVING + VARIANCE_EXPLODING]
    + [("StableDiffusion", "DDIMScheduler", {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True})]
    + [("StableDiffusion", "DPMSolverMultistepScheduler", {"use_karras_sigmas": True})]
    + [("StableDiffusionXL", name, {}) for name in ("EulerDiscreteScheduler", "DDIMScheduler")]
    + [("Flux", name, {}) for name in FLOW_MATCHING]
    + [("Flux", "UniPCMultistepScheduler", {"use_flow_sigmas": True, "prediction_type": "flow_prediction"})]
    + [("StableDiffusion3", "FlowMatchEulerDiscreteScheduler", {})]
    + [("StableDiffusion3", "DPMSolverMultistepScheduler", {"use_flow_sigmas": True})]
)


def make(name, scheduler=None, options=None):
    pipe = build(name)
    if scheduler:
        cls = getattr(diffusers, scheduler)
        changes = {k: v for k, v in SKIPPED.items() if k in dict(cls().config)}
        flow = {"prediction_type": "flow_prediction"} if (options or {}).get("use_flow_sigmas") else {}
        pipe.scheduler = cls.from_config(pipe.scheduler.config, **{**changes, **flow, **(options or {})})
    if scheduler == "FlowMatchLCMScheduler":  # the stock pipeline draws its noise from the global generator
        plain = pipe.scheduler.step
        pipe.scheduler.step = lambda *args, **options: plain(*args, generator=STREAMS, **options)
    backbone = getattr(backbones, name)(pipe, guidance_scale=3.0, height=32, width=32, name=name)
    return pipe, backbone


def brightness(samples, prompts):
    return samples.mean((1, 2, 3)) * 1e4


@pytest.fixture
def reward():
    return CallableReward(brightness, name="brightness", modality="image")


def banks_of(backbone, reward):
    return [Lookahead(2, N).bank(backbone, prompt, 0, [reward]) for prompt in PROMPTS]


def stock(pipe, **options):
    STREAMS[:] = Generators([1, 2, 3, 4]).streams
    return pipe(
        PROMPTS, num_inference_steps=STEPS, guidance_scale=3.0, num_images_per_prompt=2, height=32, width=32,
        generator=STREAMS, output_type="latent", **options,
    ).images  # fmt: skip


def own(backbone, guidance=None):
    condition = backbone.encode([prompt for prompt in PROMPTS for _ in range(2)])
    return sample(backbone, backbone.solver(STEPS), Generators([1, 2, 3, 4]), condition, guidance).samples


@pytest.mark.parametrize(("name", "scheduler", "options"), CASES)
def test_own_loop_is_the_stock_pipeline_guided_or_not(name, scheduler, options, reward):
    pipe, backbone = make(name, scheduler, options)
    plain = stock(pipe)
    torch.testing.assert_close(own(backbone), plain, rtol=1e-4, atol=1e-4)
    banks = banks_of(backbone, reward)
    with guide(pipe, banks, **SETTINGS) as guidance:
        guided = stock(pipe)
    rows = guidance.take_diagnostics()
    ours = LiDARGuidance.from_banks(
        banks, [bank.rewards["brightness"] for bank in banks], backbone, LiDARSettings(**SETTINGS)
    )
    torch.testing.assert_close(own(backbone, ours), guided, rtol=1e-4, atol=1e-4)
    assert (guided - plain).abs().max() > 0.01
    assert [row["t"] for row in ours.take_diagnostics()] == [row["t"] for row in rows] and rows
    with guide(pipe, banks, temperature=0.0):
        torch.testing.assert_close(stock(pipe), plain, rtol=0, atol=1e-5)
    assert torch.equal(stock(pipe), plain)


def network(backbone, x, timestep, condition):
    """The unguided and guided outputs of the network in float64, with guidance scale 3."""
    outputs = [
        backbone._network(x, torch.full((len(x),), timestep), part)
        for part in (
            {k.removeprefix("negative_"): v for k, v in condition.items() if k.startswith("negative_")},
            {k: v for k, v in condition.items() if not k.startswith("negative_")},
        )
        if part
    ]
    return (outputs[0] + 3.0 * (outputs[1] - outputs[0])) if len(outputs) == 2 else outputs[0]


def shift(x, alpha, sigma, bank):
    """The broadcast form, in float64."""
    return SETTINGS["scale"] * reference.gaussian_shift(
        x.flatten(1).numpy(), alpha, sigma, bank.samples.double().flatten(1).numpy(),
        bank.rewards["brightness"].double().numpy(), SETTINGS["temperature"],
    ).reshape(x.shape)  # fmt: skip


@torch.no_grad()
def test_ddim_in_float64(reward):
    """x_s = sqrt(a_s) x0 + sqrt(1 - a_s) eps along leading-spaced timesteps with offset 1."""
    pipe, backbone = make("StableDiffusion")
    (bank, _) = banks_of(backbone, reward)
    ours = LiDARGuidance(bank.samples, bank.rewards["brightness"], backbone.schedule, LiDARSettings(**SETTINGS))
    condition = backbone.encode([PROMPTS[0]] * 2)
    got = sample(backbone, backbone.solver(STEPS), Generators([1, 2]), condition, ours).samples
    kept = np.cumprod(1 - np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2)
    x = Generators([1, 2]).randn(*backbone.latent_shape).double()
    backbone.double()
    condition = {key: value.double() for key, value in condition.items()}
    for step in range(STEPS):
        timestep = (STEPS - 1 - step) * 1000 // STEPS + 1
        a_t, a_s = kept[timestep], kept[max(timestep - 1000 // STEPS, 0)]
        eps = network(backbone, x, float(timestep), condition)
        x0 = (x - (1 - a_t) ** 0.5 * eps) / a_t**0.5
        if timestep / 1000 > SETTINGS["stop"]:
            x0 = x0 + torch.from_numpy(shift(x, a_t**0.5, (1 - a_t) ** 0.5, bank))
        eps = (x - a_t**0.5 * x0) / (1 - a_t) ** 0.5
        x = a_s**0.5 * x0 + (1 - a_s) ** 0.5 * eps
    torch.testing.assert_close(got.double(), x, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_flow_matching_in_float64(reward):
    """x_s = x_t + (s - t) v along times shifted by exp(mu) / (exp(mu) + 1 / t - 1); the first step has alpha = 0."""
    pipe, backbone = make("Flux")
    (bank, _) = banks_of(backbone, reward)
    ours = LiDARGuidance(bank.samples, bank.rewards["brightness"], backbone.schedule, LiDARSettings(**SETTINGS))
    condition = backbone.encode([PROMPTS[0]] * 2)
    got = sample(backbone, backbone.solver(STEPS), Generators([1, 2]), condition, ours).samples
    x = backbone.prior(Generators([1, 2])).double()
    backbone.double()
    condition = {key: value.double() for key, value in condition.items()}
    mu = 0.5 + (1.15 - 0.5) * (64 - 256) / (4096 - 256)
    times = [np.exp(mu) / (np.exp(mu) + 1 / t - 1) for t in np.linspace(1, 1 / STEPS, STEPS)] + [0.0]
    for t, s in zip(times, times[1:], strict=False):
        velocity = network(backbone, x, 1000 * t, condition)
        x0 = x - t * velocity
        if t > SETTINGS["stop"]:
            x0 = x0 + torch.from_numpy(shift(x, 1 - t, t, bank))
        x = x + (s - t) * (x - x0) / t
    torch.testing.assert_close(got.double(), x, rtol=1e-4, atol=1e-4)


def test_pipeline_is_restored_and_saves_inside(reward, tmp_path):
    pipe, backbone = make("StableDiffusion")
    bank = Lookahead(2, N).bank(backbone, "a cat", 0, [reward])
    with pytest.raises(RuntimeError, match="on purpose"), guide(pipe, bank):
        pipe.save_pretrained(tmp_path)
        raise RuntimeError("on purpose")
    assert "step" not in vars(pipe.scheduler)
    loaded = diffusers.StableDiffusionPipeline.from_pretrained(tmp_path)
    assert type(loaded.scheduler) is diffusers.DDIMScheduler


def test_two_guidances_add_up(reward):
    pipe, backbone = make("StableDiffusion")
    banks = banks_of(backbone, reward)
    with guide(pipe, banks, **{**SETTINGS, "scale": 1.4}):
        together = stock(pipe)
    with guide(pipe, banks, **SETTINGS), guide(pipe, banks, **SETTINGS):
        torch.testing.assert_close(stock(pipe), together, rtol=1e-4, atol=1e-4)
    assert "step" not in vars(pipe.scheduler)


def test_image_to_image_is_guided(reward):
    pipe, backbone = make("StableDiffusion")
    bank = Lookahead(2, N).bank(backbone, "a cat", 0, [reward])
    other = diffusers.StableDiffusionImg2ImgPipeline(**pipe.components, requires_safety_checker=False)
    other.set_progress_bar_config(disable=True)

    def run():
        return other(
            "a cat", image=torch.full((1, 3, 32, 32), 0.5), strength=0.6, num_inference_steps=5,
            generator=torch.Generator().manual_seed(0), output_type="latent",
        ).images  # fmt: skip

    plain = run()
    with guide(other, bank, ess=0.3) as guidance:
        assert not torch.equal(run(), plain)
    assert len(guidance.take_diagnostics()) == 3


def test_refusals(reward):
    pipe, backbone = make("StableDiffusion")
    bank = Lookahead(2, N).bank(backbone, "a cat", 0, [reward])
    other = build("StableDiffusion", seed=1)
    with pytest.raises(ValueError, match="this StableDiffusionPipeline works in"), guide(other, bank):
        pass
    with pytest.raises(ValueError, match="no scores of 'beauty', only of"), guide(pipe, bank, "beauty"):
        pass
    small = Lookahead(2, N).bank(backbone.variant(height=16, width=16), "a cat", 0, [reward])
    with guide(pipe, small), pytest.raises(ValueError, match="does not fit"):
        pipe("a cat", height=32, width=32)
    pipe.scheduler = diffusers.HeunDiscreteScheduler()
    with pytest.raises(ValueError, match="cannot solve with a HeunDiscreteScheduler"), guide(pipe, bank):
        pass


def test_reward_that_is_lower_better_and_empty_reward_name(reward):
    pipe, backbone = make("StableDiffusion")
    dark = CallableReward(brightness, name="brightness", higher_is_better=False)
    bank = Lookahead(2, N).bank(backbone, "a cat", 0, [reward])
    both = LookaheadBank(bank.samples, {**bank.rewards, "other": bank.rewards["brightness"]}, bank.provenance)
    with guide(pipe, bank, dark) as guidance:
        torch.testing.assert_close(guidance.rewards[0], -bank.rewards["brightness"])
    with pytest.raises(ValueError, match="say which one"), guide(pipe, both):
        pass


@pytest.mark.parametrize("settings", [{"restart": 0.4}, {"candidates": 2}, {"restart": 0.4, "moves": 1}])
def test_settings_of_whole_runs_are_refused(settings, reward):
    pipe, backbone = make("StableDiffusion")
    with pytest.raises(ValueError, match="image-to-image"), guide(pipe, banks_of(backbone, reward)[0], **settings):
        pass
