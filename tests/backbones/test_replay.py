"""Pipelines that run as a whole are trained as by the backbones of their own, and as their own code would have it."""

import math

import pytest
import torch

from lidar_lightning import DPOModule, backbones
from lidar_lightning.backbones.adapters import LoRA
from lidar_lightning.backbones.latent_map import learn_map
from lidar_lightning.backbones.replay import Replay
from lidar_lightning.backbones.watched import Watched
from lidar_lightning.solvers.scheduler import time_of
from lidar_lightning.solvers.stock import replaced
from lidar_lightning.utils.seeding import Generators
from tests.backbones.test_any_pipeline import make

DEDICATED = ["StableDiffusion", "StableDiffusionXL", "StableDiffusion3", "Flux"]
MODERN = ["QwenImage", "ZImage", "Flux2Klein", "Sana", "Lumina2", "AuraFlow", "PixArtSigma"]
PROMPTS = ["a cat", "a cat on a dog"]


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def trained(model):
    """A DPO module whose adapters act, and its adapters in the order of their layers."""
    module = DPOModule(model, beta=100.0, lora=LoRA(4), draws=2)
    own = [parameter for parameter in module.parameters() if parameter.requires_grad]
    with torch.no_grad():
        for place, parameter in enumerate(own):
            parameter.copy_(torch.randn(parameter.shape, generator=seeded(place)) / 3)
    return module, own


@pytest.mark.parametrize("name", DEDICATED)
def test_loss_and_gradients_are_those_of_the_dedicated_backbone(name):
    found = []
    for whole in (True, False):
        model = make(name)
        if not whole:
            model = getattr(backbones, name)(model.pipe, guidance_scale=3.0, height=32, width=32)
        module, own = trained(model)
        chosen, rejected = model.x0_of(torch.rand(4, 3, 32, 32, generator=seeded(1))).chunk(2)
        terms, policy, fixed = module.terms(chosen, rejected, seeded(2), model.told(PROMPTS))
        terms.loss.mean().backward()
        found.append(((chosen, terms.loss, policy, fixed), [parameter.grad for parameter in own]))
        assert not torch.allclose(policy, fixed, rtol=1e-2)
    (values, gradients), (expected, wanted) = found
    for one, other in zip(values, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    assert len(wanted) >= 8 and sum(bool(gradient.any()) for gradient in wanted) > len(wanted) / 2
    largest = max(float(gradient.abs().max()) for gradient in wanted)
    for one, other in zip(gradients, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3 * largest)


def stock_steps(backbone, prompt, seed):
    """What the scheduler of a stock call is given at each step, with its noise level."""
    scheduler, plain, steps = backbone.scheduler, backbone.scheduler.step, []

    def step(output, timestep, sample, *args, **kwargs):
        steps.append((sample.float().clone(), time_of(scheduler, timestep), output.float().clone()))
        return plain(output, timestep, sample, *args, **kwargs)

    call = {key: value for key, value in backbone.call.items() if key != "negative_prompt"}
    off = {scale: 0.0 for scale in ("guidance_scale", "true_cfg_scale") if scale in call}
    with replaced(scheduler, "step", step), replaced(backbone.pipe, "scheduler", scheduler):
        backbone.pipe(
            prompt=[prompt], num_inference_steps=3, generator=[seeded(seed)], output_type="latent", **{**call, **off}
        )
    return steps


@pytest.mark.parametrize("name", MODERN)
def test_a_batch_is_told_what_stock_calls_of_its_prompts_are_told(name):
    backbone = make(name)
    steps = [step for seed, prompt in enumerate(PROMPTS) for step in stock_steps(backbone, prompt, seed + 5)]
    x_t, t, expected = zip(*steps, strict=True)
    condition = backbone.told([prompt for prompt in PROMPTS for _ in range(3)])
    with torch.no_grad():
        found = backbone.replay(backbone.network, torch.cat(x_t), torch.tensor(t), condition)
    torch.testing.assert_close(found, torch.cat(expected), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", MODERN)
def test_pictures_become_the_latents_that_the_pipeline_decodes_to_them(name):
    backbone = make(name)
    pictures = torch.rand(2, 3, backbone.height, backbone.width, generator=seeded(0))
    x0, vae = backbone.x0_of(pictures), backbone.pipe.vae
    assert x0.dtype == torch.float32 and x0.shape[1:] == backbone.prior(Generators([0])).shape[1:]
    with torch.no_grad():
        given = pictures * 2 - 1
        encoded = vae.encode(given[:, :, None] if name == "QwenImage" else given)
        z = encoded.latent if name == "Sana" else encoded.latent_dist.mode()
        decoded = (vae.decode(z, return_dict=False)[0] / 2 + 0.5).clamp(0, 1).view(pictures.shape)
    torch.testing.assert_close(backbone.decode(x0), decoded, rtol=0, atol=1e-4)
    with pytest.raises(ValueError, match=rf"pictures must be \(3, {backbone.height}, {backbone.width}\)"):
        backbone.x0_of(pictures[..., :-1])


def test_half_precision_is_learnt_as_exactly():
    whole, half = make("QwenImage"), make("QwenImage")
    half.pipe.to(torch.bfloat16)
    assert (half.replay.scale, half.replay.sign, half.replay.reverse) == (1.0, 1.0, False)
    for one, other in zip(half.latents, whole.latents, strict=True):
        assert torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other
    assert {value.dtype for value in half.parameters()} == {torch.bfloat16}
    assert half.told(["a cat"])["encoder_hidden_states"].dtype == torch.bfloat16


def test_full_fine_tuning_has_a_second_network_only():
    model = make("ZImage")
    module = DPOModule(model, lora=None)
    (reference,) = module._reference
    assert reference.pipe.vae is model.pipe.vae and reference.network is not model.network
    x0 = torch.randn(2, 4, 16, 16, generator=seeded(0))
    loss = module.terms(x0, x0.flip(0), seeded(1), model.told(PROMPTS))[0].loss
    torch.testing.assert_close(loss, torch.full((2,), math.log(2)))
    loss.sum().backward()
    touched = {name.split(".")[2] for name, p in module.named_parameters() if p.grad is not None and p.grad.any()}
    assert touched == {"transformer"} and all(p.grad is None for p in reference.parameters())


def test_what_cannot_be_told_again_is_named():
    with pytest.raises(ValueError, match=r"CogView4Pipeline cannot be trained .* 667.000 at 0.5\d\d"):
        make("CogView4").told(["a cat"])
    with pytest.raises(ValueError, match="the prompt is empty"):
        make("ZImage").told([" "])
    with pytest.raises(ValueError, match="a PixArtSigmaPipeline of diffusers loads no LoRA"):
        make("PixArtSigma").export_lora("folder")


def step(told, answer, output, x_t, t):
    return Watched([(told, answer)], x_t, t, output)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"output": 0.5}, "neither its network's answer nor the negative"),
        ({"x": 2.0}, "none of the arguments of its network is the noised sample"),
        ({"t": 2.0}, "not proportional to the noise level"),
        ({"more": 1.0}, r"arguments \['time', 'more'\] change"),
    ],
)
def test_odd_calls_are_refused(change, message):
    def told(rows, t):
        x = torch.arange(1.0, 5.0).repeat(rows, 1) * (1 + t)
        arguments = {
            "x": x * change.get("x", 1.0), "time": torch.tensor([t ** change.get("t", 1.0)] * rows),
            "more": t if "more" in change else None, "text": torch.ones(rows, 3),
        }  # fmt: skip
        return step(arguments, (x + 1,), (x + 1) * change.get("output", 1.0), x, t)

    with pytest.raises(ValueError, match=message):
        Replay([told(1, t) for t in (1.0, 0.6, 0.2)], [told(2, 1.0)])


def test_maps_of_latents_are_permutations_with_scales():
    place, scale, shape = torch.randperm(24, generator=seeded(0)), torch.rand(24) + 0.5, torch.Size((4, 6))
    made = learn_map(lambda x: (3 + scale * x.flatten(1)[:, place]).view(4, 2, 3, 4), shape)
    x0 = torch.randn(5, 4, 6, generator=seeded(1))
    z = (3 + scale * x0.flatten(1)[:, place]).view(5, 2, 3, 4)
    torch.testing.assert_close(made.inverse(z), x0)
    for mixed in (lambda x: x.cumsum(1), lambda x: x[:, :2], lambda x: 0 * x, lambda x: x.square()):
        with pytest.raises(ValueError, match="by more than moving, scaling and shifting"):
            learn_map(mixed, shape)
    with pytest.raises(ValueError, match=r"made latents \(2, 3, 3\), but decodes \(2, 3, 4\)"):
        made.inverse(z[..., :3])
