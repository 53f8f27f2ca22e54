"""The space of a bank: the same VAE in every precision, banks that do not fit, and the direction of rewards."""

import warnings
from dataclasses import replace

import diffusers
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from lidar_lightning import Flux, LiDARGuidance, Lookahead, LookaheadBank, StableDiffusion, guide
from lidar_lightning.backbones.vae import vae_fingerprint
from lidar_lightning.guidance.calls import check_aspect, check_prompts
from lidar_lightning.lookahead.bank import Provenance, check_space
from lidar_lightning.rewards import CallableReward
from tests.conftest import tiny
from tests.pipelines import build, vae

QWEN = {"base_dim": 8, "z_dim": 4, "dim_mult": [1, 1], "num_res_blocks": 1, "temperal_downsample": [False]}
FLUX2 = {
    "block_out_channels": (8, 8), "norm_num_groups": 4, "latent_channels": 4,
    "down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2,
}  # fmt: skip


def brightness(samples, prompts):
    return samples.mean((1, 2, 3)) * 1e4


BRIGHT = CallableReward(brightness, name="brightness", modality="image")
DARK = CallableReward(brightness, name="brightness", higher_is_better=False, modality="image")


def by_hand(space="x-4x16x16", n=4, shape=(4, 16, 16), prompt="a cat", **settings):
    samples = torch.randn(n, *shape, generator=torch.Generator().manual_seed(0))
    provenance = Provenance(prompt, "model", "0", space, "solver", 1, n, 0)
    return LookaheadBank(samples, {"r": torch.arange(float(n))}, provenance, **settings)


def generated(pipe, **changes):
    options = {"height": 32, "width": 32, "num_inference_steps": 2, "output_type": "latent", **changes}
    return pipe(options.pop("prompt", "a cat"), **options)


def test_a_vae_is_itself_in_every_precision():
    torch.manual_seed(0)
    one, other = vae(), vae()
    expected = vae_fingerprint(one)
    for dtype in (torch.bfloat16, torch.float16):
        assert vae_fingerprint(vae().to(dtype)) != expected
        copy = vae()
        copy.load_state_dict(one.state_dict())
        assert vae_fingerprint(copy.to(dtype)) == expected
    assert vae_fingerprint(other) != expected
    for change in ({"scaling_factor": 0.13}, {"shift_factor": 0.1}):
        copy = vae()
        copy.load_state_dict(one.state_dict())
        copy.register_to_config(**change)
        assert vae_fingerprint(copy) != expected
    with torch.no_grad():
        for parameter in one.parameters():
            parameter.mul_(2)
    assert vae_fingerprint(one) != expected


@pytest.mark.parametrize(
    ("name", "settings", "change"),
    [
        ("AutoencoderKLQwenImage", QWEN, {"latents_mean": [0.5] * 4}),
        ("AutoencoderKLWan", QWEN, {"latents_std": [2.0] * 4}),
        ("AutoencoderKLFlux2", FLUX2, None),
    ],
)
def test_vaes_without_a_scaling_factor_have_an_identity(name, settings, change):
    torch.manual_seed(0)
    one = getattr(diffusers, name)(**settings)
    expected = vae_fingerprint(one)
    assert vae_fingerprint(one.to(torch.bfloat16)) == expected
    if change:
        one.register_to_config(**change)
    else:
        one.bn.running_mean.neg_().sub_(1)
    assert vae_fingerprint(one) != expected


def test_a_bank_guides_its_own_pipeline_in_half_precision():
    pipe = build("StableDiffusion")
    bank = Lookahead(2, 4).bank(StableDiffusion(pipe, name="tiny"), "a cat", 0, [BRIGHT])
    pipe.to(torch.bfloat16)
    with guide(pipe, bank) as guidance:
        assert generated(pipe).images.isfinite().all()
    assert len(guidance.take_diagnostics()) == 2


def test_offloaded_pipelines_are_guided():
    pipe = build("StableDiffusion")
    bank = Lookahead(2, 4).bank(StableDiffusion(pipe, name="tiny"), "a cat", 0, [BRIGHT])
    with guide(pipe, bank) as guidance:
        expected = generated(pipe, generator=torch.Generator().manual_seed(0)).images
    pipe.enable_model_cpu_offload(device="cpu")
    with guide(pipe, bank) as guidance:
        torch.testing.assert_close(generated(pipe, generator=torch.Generator().manual_seed(0)).images, expected)
    assert len(guidance.take_diagnostics()) == 2
    apart, own = build("StableDiffusion"), vae_fingerprint(pipe.vae)
    apart.enable_sequential_cpu_offload(device="cpu")
    assert apart.device.type == "meta" and vae_fingerprint(apart.vae) == own
    with warnings.catch_warnings(), guide(apart, bank) as guidance:
        warnings.filterwarnings("ignore", message="guidance never ran")
        assert guidance.rewards.device.type == "cpu"


def test_a_vae_that_shares_the_space_is_declared():
    model = StableDiffusion(build("StableDiffusion"), name="tiny")
    other = StableDiffusion(build("StableDiffusion", seed=1), name="other")
    bank = Lookahead(2, 4).bank(other, "a cat", 0, [BRIGHT])
    with pytest.raises(ValueError, match="say same_space=True"), guide(model.pipe, bank):
        pass
    with pytest.warns(UserWarning, match="is told that it is the same"), guide(model.pipe, bank, same_space=True):
        generated(model.pipe)
    shared = Lookahead(2, 4, backbone=other, same_space=True)
    with pytest.warns(UserWarning, match="is told that it is the same"):
        assert shared.of_size(3).bank(model, "a cat", 0, [BRIGHT]).provenance.space == model.space
    small = Lookahead(2, 4, backbone=other.variant(height=16, width=16), same_space=True)
    with pytest.raises(ValueError, match="at the same size"):
        small.bank(model, "a cat", 0, [BRIGHT])


def test_a_pipeline_without_a_vae_is_named():
    pipe = build("StableDiffusion")
    pipe.vae = None
    with pytest.raises(ValueError, match="this StableDiffusionPipeline has none"), guide(pipe, by_hand()):
        pass


def test_packed_latents_of_another_aspect_ratio_are_refused():
    pipe = build("Flux")
    wide = Flux(pipe, height=16, width=64, name="tiny")
    bank = Lookahead(2, 4).bank(wide, "a cat", 0, [BRIGHT])
    with guide(pipe, bank), pytest.raises(ValueError, match="of 32x32 pixels, but .* holds latents of 8x32"):
        generated(pipe)
    with guide(pipe, bank) as guidance:
        generated(pipe, height=16, width=64)
    assert len(guidance.take_diagnostics()) == 2 and "check_inputs" not in vars(pipe)
    with pytest.raises(ValueError, match="lie in the space"):
        LiDARGuidance.from_banks([bank], [bank.rewards["brightness"]], wide.variant(height=32, width=32))


def test_sizes_that_round_to_the_same_patches_fit():
    bank = by_hand("x-16x128x96")
    check_aspect([bank], 1024, 768)
    check_aspect([bank], 1025, 770)
    check_aspect([bank], None, None)
    check_aspect([replace(bank, provenance=replace(bank.provenance, space="smiles-35x32"))], 1024, 1024)
    for height, width in ((768, 1024), (1024, 832)):
        with pytest.raises(ValueError, match="at the same aspect ratio"):
            check_aspect([bank], height, width)


def test_each_prompt_needs_its_bank():
    pipe = build("StableDiffusion")
    model = StableDiffusion(pipe, name="tiny")
    cat, dogs = (Lookahead(2, 4).bank(model, prompt, 0, [BRIGHT]) for prompt in ("a cat", "two dogs"))
    with guide(pipe, cat), pytest.raises(ValueError, match=r"called with 2 prompts, .* by 1 bank\(s\), of \['a cat'\]"):
        generated(pipe, prompt=["a cat", "two dogs"])
    with guide(pipe, [cat, dogs]), pytest.raises(ValueError, match="called with 3 prompts"):
        generated(pipe, prompt=["a cat", "two dogs", "a cat"])
    with guide(pipe, [cat, dogs]), pytest.warns(UserWarning, match="'two dogs' is guided by the bank of 'a cat'"):
        generated(pipe, prompt=["two dogs", "a cat"])
    embeds = pipe.encode_prompt(["a cat", "two dogs"], "cpu", 1, False)[0]
    with guide(pipe, cat), pytest.raises(ValueError, match="called with 2 prompts"):
        generated(pipe, prompt=None, prompt_embeds=embeds, negative_prompt_embeds=embeds)
    with warnings.catch_warnings(), guide(pipe, cat):
        warnings.filterwarnings("error", message=".*guided by.*")
        generated(pipe, prompt=["a cat", "a cat"])
        generated(pipe, prompt=None, prompt_embeds=embeds[[0, 0]], negative_prompt_embeds=embeds[[0, 0]])
    check_prompts([cat, dogs], ["a cat", "two dogs"])


def test_banks_that_do_not_go_together_are_named():
    pipe, few, many = build("StableDiffusion"), by_hand(n=4), by_hand(n=5, prompt="two dogs")
    for banks in ([], [few, many]):
        with pytest.raises(ValueError, match="got none|of 'a cat', .* draw them with the same n"), guide(pipe, banks):
            pass
        with pytest.raises(ValueError, match="got none|of 'a cat', .* draw them with the same n"):
            LiDARGuidance.from_banks(banks, [bank.rewards["r"] for bank in banks], tiny())


def test_any_caller_can_check_a_space():
    check_space(by_hand("a-4x8x8").provenance, "a-4x8x8", "'model'")
    with pytest.raises(ValueError, match="'a cat' by 'model' lie in the space 'a-4x8x8', but 'it' works in 'b-4x8x8'"):
        check_space(by_hand("a-4x8x8").provenance, "b-4x8x8", "'it'")


def test_a_bank_knows_what_its_scores_mean(tmp_path):
    pipe = build("StableDiffusion")
    bank = Lookahead(2, 4).bank(StableDiffusion(pipe, name="tiny"), "a cat", 0, [DARK])
    bank.save(tmp_path / "bank.safetensors")
    bank = LookaheadBank.load(tmp_path / "bank.safetensors")
    assert bank.higher_is_better == {"brightness": False}
    for reward in (None, "brightness", DARK):
        with guide(pipe, bank, reward) as guidance:
            generated(pipe)
        torch.testing.assert_close(guidance.rewards[0], -bank.rewards["brightness"])
    with guide(pipe, bank, BRIGHT) as guidance:
        generated(pipe)
    torch.testing.assert_close(guidance.rewards[0], bank.rewards["brightness"])
    turned = bank.scored([BRIGHT], lambda _: pytest.fail("decoded again"))
    assert turned.higher_is_better == {"brightness": True} and turned.scored([BRIGHT], None) is turned


def test_files_that_do_not_say_it_are_taken_as_higher_is_better(tmp_path):
    path = tmp_path / "bank.safetensors"
    space = StableDiffusion(build("StableDiffusion")).space
    by_hand(space).save(path)
    with safe_open(path, "pt") as file:
        header = {key: value for key, value in file.metadata().items() if key != "higher_is_better"}
        save_file({key: file.get_tensor(key) for key in file.keys()}, path, header)  # noqa: SIM118
    bank, pipe = LookaheadBank.load(path), build("StableDiffusion")
    assert bank.higher_is_better == {}
    with pytest.warns(UserWarning, match="does not say what the scores of 'r' mean"), guide(pipe, bank) as guidance:
        generated(pipe)
    torch.testing.assert_close(guidance.rewards[0], bank.rewards["r"])


def test_guidance_that_never_ran_warns():
    pipe = build("StableDiffusion")
    bank = Lookahead(2, 4).bank(StableDiffusion(pipe, name="tiny"), "a cat", 0, [BRIGHT])
    late = "all 2 steps were at t from 0.50 to 0.00, and it runs while 0.6 < t <= 1.0"
    with pytest.warns(UserWarning, match=late), guide(pipe, bank, stop=0.6):
        generated(pipe)
    with pytest.warns(UserWarning, match="scheduler that the pipeline had took no step"), guide(pipe, bank):
        pipe.scheduler = diffusers.EulerDiscreteScheduler.from_config(pipe.scheduler.config)
        generated(pipe)
    with warnings.catch_warnings(), pytest.raises(RuntimeError, match="on purpose"), guide(pipe, bank):
        warnings.simplefilter("error")
        raise RuntimeError("on purpose")


@pytest.mark.parametrize("settings", [{"steps": 3, "preset": "dpm-5"}, {"steps": 8, "preset": "dpm-5"}])
def test_steps_that_a_preset_would_ignore_are_refused(settings):
    with pytest.raises(ValueError, match=f"preset 'dpm-5' is of 5 steps, got steps={settings['steps']}"):
        Lookahead(**settings)


def test_steps_of_presets_and_without():
    assert [one.steps for one in (Lookahead(), Lookahead(3), Lookahead(5, preset="dpm-5"))] == [8, 3, 5]
    assert Lookahead(preset="dpm-3").of_size(7).steps == 3
