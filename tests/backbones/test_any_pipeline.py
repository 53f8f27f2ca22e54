"""Whole pipelines as backbones: what they draw is the stock call's, and a run of them is like any other."""

import inspect

import pytest
import torch

from lidar_lightning import AnyPipeline, LiDARModule, Lookahead, StableDiffusion, backbones, guide, samplers
from lidar_lightning.modules import SamplingModule
from lidar_lightning.rewards import CallableReward, score
from lidar_lightning.samplers import SMC, BestOfN
from lidar_lightning.sampling import sample
from lidar_lightning.utils.seeding import Generators, stream_seed
from tests import modern_pipelines, pipelines
from tests.any_pipelines import NAMES, make

STEPS = 3


def brightness(samples, prompts):
    return samples.mean((1, 2, 3)) * 1e2


@pytest.fixture
def reward():
    return CallableReward(brightness, name="brightness", modality="image")


def stock(backbone, prompt, seeds, steps=STEPS):
    streams = [torch.Generator().manual_seed(seed) for seed in seeds]
    return backbone.pipe(
        prompt=[prompt] * len(seeds), num_inference_steps=steps, generator=streams, output_type="pt", **backbone.call
    )[0]


@pytest.mark.parametrize("name", NAMES)
def test_plain_and_guided_pictures_are_those_of_the_stock_call(name, reward):
    backbone = make(name)
    lookahead, seeds = Lookahead(2, 4), [stream_seed(0, "a cat", index) for index in (0, 1)]
    batch = {"prompts": ["a cat"], "indices": [0, 1]}
    plain = LiDARModule(backbone, reward, None, STEPS).predict_step(batch, 0)
    torch.testing.assert_close(plain.decoded, stock(backbone, "a cat", seeds), rtol=0, atol=1e-5)
    module = LiDARModule(backbone, reward, lookahead, STEPS, temperature=0.5)
    guided = module.predict_step(batch, 0)
    bank = module.bank("a cat")
    with guide(backbone.pipe, bank, reward, temperature=0.5):
        expected = stock(backbone, "a cat", seeds)
    torch.testing.assert_close(guided.decoded, expected, rtol=0, atol=1e-5)
    assert not torch.equal(guided.samples, plain.samples)
    lookaheads = stock(backbone, "a cat", [stream_seed(0, "lookahead\0a cat", index) for index in range(4)], 2)
    expected = score(reward, lookaheads, ["a cat"] * 4)
    torch.testing.assert_close(bank.rewards["brightness"], expected, rtol=1e-4, atol=1e-4)
    backbone._pictures.clear()
    torch.testing.assert_close(backbone.decode(guided.samples), guided.decoded, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["StableDiffusion", "StableDiffusionXL", "StableDiffusion3", "Flux"])
def test_it_draws_what_the_dedicated_backbone_draws(name):
    whole = make(name)
    own = getattr(backbones, name)(whole.pipe, guidance_scale=3.0, height=32, width=32)
    assert (whole.space == own.space) == (name != "Flux")
    draws = [
        sample(one, one.solver(STEPS), Generators([1, 2]), one.encode(["a cat"] * 2)).samples for one in (whole, own)
    ]
    torch.testing.assert_close(*draws, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(whole.decode(draws[1]), own.decode(draws[1]), rtol=0, atol=1e-4)


def test_other_schedulers_draw_lookaheads(reward):
    whole = make("StableDiffusion")
    fast = whole.variant(scheduler="DPMSolverMultistepScheduler")
    own = StableDiffusion(whole.pipe, guidance_scale=3.0, height=32, width=32, scheduler="DPMSolverMultistepScheduler")
    banks = [
        Lookahead(2, 4, backbone=source).bank(model, "a cat", 0, [reward]).samples
        for model, source in ((whole, fast), (own, own))
    ]
    torch.testing.assert_close(*banks, rtol=1e-4, atol=1e-4)
    assert type(whole.pipe.scheduler).__name__ == "DDIMScheduler"
    assert fast.solver(2).name != whole.solver(2).name


def test_packed_spaces_tell_aspect_ratios_apart():
    pipe = pipelines.build("Flux")
    wide, square = (AnyPipeline(pipe, {"height": h, "width": w}) for h, w in ((16, 64), (32, 32)))
    assert wide.space.endswith("-16x4x16") and square.space.endswith("-16x8x8")


def test_what_only_runs_as_a_whole_is_not_stepped(reward):
    backbone = make("StableDiffusion")
    with pytest.raises(ValueError, match="SMC asks for single steps, but AnyPipeline only runs .* as a whole"):
        SamplingModule(backbone, reward, SMC(), STEPS, temperature=1.0)
    assert SamplingModule(backbone, reward, BestOfN(2), STEPS).sampler.stepwise is False
    for name, kind in inspect.getmembers(samplers, inspect.isclass):
        if issubclass(kind, samplers.Sampler) and name not in ("LiDAR", "BestOfN", "BestLookaheads", "Sampler"):
            assert kind.stepwise is True


@pytest.mark.parametrize("call", [{"latents": 1}, {"heigth": 32}, {"num_inference_steps": 3}])
def test_calls_that_the_run_decides_or_the_pipeline_lacks_are_refused(call):
    with pytest.raises(ValueError, match=rf"call={{{next(iter(call))}}} is not taken, .* 'height'"):
        AnyPipeline(pipelines.build("StableDiffusion"), call)


def test_pipelines_of_any_class_are_loaded(tmp_path):
    modern_pipelines.build("Sana").save_pretrained(tmp_path / "sana")
    backbone = AnyPipeline.from_pretrained(tmp_path / "sana", call={"height": 32, "width": 32})
    assert type(backbone.pipe).__name__ == "SanaPipeline" and backbone.name == "sana"
    with pytest.raises(ValueError, match="no pipeline at .* neither a folder"):
        AnyPipeline.from_pretrained(tmp_path / "nothing")
