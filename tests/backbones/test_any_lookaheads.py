"""Lookaheads of whole pipelines: other schedulers on every class, presets, adapters; offload; banks that do not fit."""

import accelerate
import pytest
import torch

from lidar_lightning import AnyPipeline, LiDARModule, Lookahead, StableDiffusion, guide
from lidar_lightning.rewards import CallableReward
from tests import pipelines
from tests.any_pipelines import NAMES, make
from tests.lookahead.test_presets import files  # noqa: F401

BRIGHT = CallableReward(lambda samples, prompts: samples.mean((1, 2, 3)) * 1e2, name="brightness", modality="image")
BATCH = {"prompts": ["a cat"], "indices": [0, 1]}


@pytest.mark.parametrize("name", NAMES)
def test_a_multistep_solver_draws_the_lookaheads_of_every_pipeline(name):
    backbone = make(name)
    bank = Lookahead(n=2, preset="dpm-3").bank(backbone, "a cat", 0, [BRIGHT])
    assert bank.provenance.solver.startswith(f"{type(backbone.pipe).__name__}(DPMSolverMultistepScheduler, config=")
    assert bank.provenance.space == backbone.space and bank.samples.isfinite().all()
    torch.testing.assert_close(backbone.times(3)[-1].item(), 0.0)


@pytest.mark.parametrize("preset", ["adapter", "other"])
def test_presets_are_those_of_the_models_own_backbone(files, preset):  # noqa: F811
    banks = []
    for kind in (AnyPipeline, StableDiffusion):
        call = {"guidance_scale": 3.0, "height": 32, "width": 32}
        pipe = pipelines.build("StableDiffusion")
        model = kind(pipe, call, name="tiny") if kind is AnyPipeline else kind(pipe, **call, name="tiny")
        plain = model.fingerprint()
        banks.append(Lookahead(n=3, preset=preset).bank(model, "a cat", 0, [BRIGHT]))
        assert model.fingerprint() == plain != banks[-1].provenance.fingerprint and model.name == "tiny"
    torch.testing.assert_close(banks[0].samples, banks[1].samples, rtol=1e-4, atol=1e-4)
    assert banks[0].provenance.backbone == banks[1].provenance.backbone == f"tiny+{preset}"


@pytest.fixture
def parameters_stay(monkeypatch):
    """On the CPU, accelerate leaves tensors in place of parameters, and stumbles over them when it puts them away."""
    plain = accelerate.hooks.set_module_tensor_to_device

    def put(module, name, *args, **options):
        plain(module, name, *args, **options)
        *path, last = name.split(".")
        owner = module.get_submodule(".".join(path))
        if last in owner._parameters and not isinstance(owner._parameters[last], torch.nn.Parameter):
            owner._parameters[last] = torch.nn.Parameter(owner._parameters[last], requires_grad=False)

    monkeypatch.setattr(accelerate.hooks, "set_module_tensor_to_device", put)


@pytest.mark.parametrize("offload", ["model", "sequential"])
def test_offloaded_pipelines_run_as_a_whole(offload, parameters_stay):
    settings = {"restart": 0.7, "temperature": 5.0}
    expected = LiDARModule(make("ZImage"), BRIGHT, Lookahead(2, 3), 3, **settings)
    backbone = make("ZImage")
    own = backbone.fingerprint()
    getattr(backbone.pipe, f"enable_{offload}_cpu_offload")(device="cpu")
    module = LiDARModule(backbone, BRIGHT, Lookahead(2, 3), 3, **settings).to("cpu")
    assert backbone.device.type == "cpu" and backbone.fingerprint() == own
    found, plain = (one.predict_step(BATCH, 0).decoded for one in (module, expected))
    torch.testing.assert_close(found, plain, rtol=0, atol=1e-5)


def test_guidance_runs_between_its_times_and_says_where_it_never_did():
    backbone = make("Lumina2")
    times = backbone.times(4)
    module = LiDARModule(backbone, BRIGHT, Lookahead(2, 4), 4, temperature=5.0, start=times[1].item(), stop=0.5)
    steps = module.predict_step(BATCH, 0).diagnostics
    torch.testing.assert_close(torch.tensor([row["t"] for row in steps]), times[1:4].float(), rtol=0, atol=1e-6)
    late = LiDARModule(backbone, BRIGHT, Lookahead(2, 4), 4, temperature=5.0, restart=0.9, stop=0.95)
    with pytest.warns(UserWarning, match=r"guidance never ran: all \d steps were at t from 0.\d+ .* a late restart"):
        late.predict_step(BATCH, 0)


def test_banks_of_another_size_are_refused():
    wide, square = (AnyPipeline(pipelines.build("Flux"), {"height": h, "width": w}) for h, w in ((16, 64), (32, 32)))
    with pytest.raises(ValueError, match="lie in the space .*-16x4x16', but .* works in .*-16x8x8"):
        Lookahead(2, 2, backbone=wide).bank(square, "a cat", 0, [BRIGHT])
    bank = Lookahead(2, 2).bank(wide, "a cat", 0, [BRIGHT])
    with (
        pytest.raises(ValueError, match="asked for pictures of 32x32 pixels, but the bank .* latents of 4x16"),
        guide(square.pipe, bank),
    ):
        square.pipe("a cat", num_inference_steps=2, height=32, width=32)
    video = make("Wan")
    tall = video.variant(call={**video.call, "height": 64})
    bank = Lookahead(2, 2).bank(tall, "a cat", 0, [BRIGHT])
    with (
        pytest.raises(ValueError, match="asked for pictures of 32x32 pixels, but the bank .* latents of 32x16"),
        guide(video.pipe, bank),
    ):
        video.pipe("a cat", num_inference_steps=2, **video.call)
