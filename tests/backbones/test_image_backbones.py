"""Adapters of diffusers pipelines, on tiny random ones of the published classes."""

import diffusers
import numpy as np
import pytest
import torch

from lidar_lightning import BankStore, Lookahead, backbones
from lidar_lightning.rewards import CallableReward
from lidar_lightning.sampling import sample
from lidar_lightning.utils.seeding import Generators
from tests.pipelines import BUILDERS, build

NAMES = list(BUILDERS)


def make(name="StableDiffusion", seed=0, **settings):
    settings = {"guidance_scale": 3.0, "height": 32, "width": 32, "name": name, **settings}
    return getattr(backbones, name)(build(name, seed), **settings)


@pytest.fixture
def reward():
    return CallableReward(lambda samples, prompts: samples.mean((1, 2, 3)), name="brightness", modality="image")


@pytest.mark.parametrize("name", NAMES)
def test_pixels_are_those_of_the_pipeline(name):
    backbone = make(name)
    options = {"num_inference_steps": 3, "guidance_scale": 3.0, "height": 32, "width": 32, "output_type": "pt"}
    expected = backbone.pipe("a cat", generator=Generators([5]).streams, **options).images
    latents = sample(backbone, backbone.solver(3), Generators([5]), backbone.encode(["a cat"])).samples
    pixels = backbone.decode(latents)
    torch.testing.assert_close(pixels, expected, rtol=1e-4, atol=1e-4)
    assert pixels.shape == (1, 3, 32, 32) and pixels.min() >= 0 and pixels.max() <= 1
    assert backbone.x0_of(pixels).shape == latents.shape


@pytest.mark.parametrize("name", NAMES)
def test_prompts_are_encoded_once_and_expanded(name, monkeypatch):
    backbone, seen = make(name), []
    plain = backbone._encode
    monkeypatch.setattr(backbone, "_encode", lambda prompts: seen.append(prompts) or plain(prompts))
    condition = backbone.encode(["b", "a", "b"])
    assert seen == [["b", "a"]]
    for key, value in condition.items():
        assert len(value) == 3 and torch.equal(value[0], value[2])
        torch.testing.assert_close(value[1:2], backbone.encode(["a"])[key], rtol=1e-4, atol=1e-5)


def test_classifier_free_guidance_is_off_at_one():
    backbone = make(guidance_scale=1.0)
    condition = backbone.encode(["a cat"])
    assert list(condition) == ["embeds"]
    x, t = backbone.prior(Generators([0])), torch.tensor([0.5])
    unguided = make(guidance_scale=3.0)
    both = unguided.encode(["a cat"])
    same = unguided._predict(x, t, both, guided=False)
    torch.testing.assert_close(backbone.predict(x, t, condition), same)
    assert not torch.allclose(unguided.predict(x, t, both), same)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "flow_prediction"])
def test_error_is_the_training_loss_of_diffusers(kind):
    """Mean squared error of the network against the target that diffusers' training scripts build."""
    backbone = make("Flux" if kind == "flow_prediction" else "StableDiffusion", scheduler_options=(
        None if kind == "flow_prediction" else {"prediction_type": kind}
    ))  # fmt: skip
    x0, t = backbone.prior(Generators([1, 2])), torch.tensor([0.3, 0.7])
    noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(7))
    x_t = backbone.corrupt(x0, t, torch.Generator().manual_seed(7))
    condition = backbone.encode(["a", "b"])
    timesteps = (t * 1000).long()
    if kind == "flow_prediction":
        expected, target = (1 - t.view(-1, 1, 1)) * x0 + t.view(-1, 1, 1) * noise, noise - x0
    else:
        expected = backbone.scheduler.add_noise(x0, noise, timesteps)
        target = noise if kind == "epsilon" else backbone.scheduler.get_velocity(x0, noise, timesteps)
    torch.testing.assert_close(x_t, expected, rtol=1e-5, atol=1e-5)
    output = backbone._network(x_t, timesteps.float(), condition)
    loss = (output - target).square().flatten(1).mean(1)
    torch.testing.assert_close(backbone.error(x0, x_t, t, condition), loss, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_bfloat16_networks_keep_float32_latents(name):
    backbone = make(name)
    backbone.to(torch.bfloat16)
    latents = sample(backbone, backbone.solver(2), Generators([0]), backbone.encode(["a"])).samples
    assert latents.dtype == torch.float32 and latents.isfinite().all()
    assert backbone.decode(latents).dtype == torch.float32


def test_prompts_that_do_not_fit_are_named():
    backbone = make()
    with pytest.warns(
        UserWarning, match="'a b c d e f g h i j k l m n o p' has 18 tokens, 2 more than tokenizer takes"
    ):
        backbone.encode(["a b c d e f g h i j k l m n o p"])
    with pytest.raises(ValueError, match="prompt is empty"):
        backbone.encode([" "])


def test_pictures_of_another_size_are_refused():
    with pytest.raises(ValueError, match=r"must be \(3, 32, 32\), got \(3, 16, 16\)"):
        make().x0_of(torch.zeros(1, 3, 16, 16))


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (torch.full((1, 3, 32, 32), 200, dtype=torch.uint8), "got a tensor of torch.uint8: .* divide bytes by 255"),
        (torch.full((1, 3, 32, 32), 200.0), "images in .0, 1., got values from 200 to 200"),
        (torch.full((1, 3, 32, 32), -1.0), "got values from -1 to -1"),
        (torch.full((1, 3, 32, 32), float("nan")), "got values from nan to nan"),
        (torch.zeros(3, 32, 32), r"got shape \(3, 32, 32\)"),
        (np.zeros((1, 3, 32, 32)), "got ndarray"),
    ],
)
def test_only_pixels_from_0_to_1_are_encoded(pixels, message):
    """Bytes wrapped around, and other ranges gave latents of no picture."""
    with pytest.raises(ValueError, match=f"StableDiffusion encodes images.*{message}|encodes {message}"):
        make().x0_of(pixels)


def test_banks_of_another_latent_space_are_refused(reward):
    with pytest.raises(ValueError, match="lie in the space"):
        Lookahead(2, 3, make(seed=1)).bank(make(), "a", 0, [reward])
    with pytest.raises(ValueError, match="lie in the space"):
        Lookahead(2, 3, make(height=16, width=16)).bank(make(), "a", 0, [reward])


def test_variant_shares_weights_and_draws_its_own_banks(reward, tmp_path):
    backbone, store = make(), BankStore(tmp_path)
    fast = backbone.variant(scheduler="DPMSolverMultistepScheduler", guidance_scale=1.0)
    assert fast.network is backbone.network and type(fast.scheduler).__name__ == "DPMSolverMultistepScheduler"
    slow = Lookahead(3, 4).bank(backbone, "a", 0, [reward], store)
    quick = Lookahead(3, 4, fast).bank(backbone, "a", 0, [reward], store)
    assert slow.provenance.key() != quick.provenance.key() and not torch.equal(slow.samples, quick.samples)
    assert slow.provenance.space == quick.provenance.space


def test_helpers_move_with_the_network_unless_offloaded():
    moved, offloaded = make().double(), make(offload=True).double()
    assert moved.pipe.vae.dtype == torch.float64
    assert offloaded.pipe.vae.dtype == torch.float32 and next(offloaded.network.parameters()).dtype == torch.float64
    assert {key.split(".")[0] for key in moved.state_dict()} == {"network"}


def test_flux_with_true_classifier_free_guidance_is_the_stock_pipeline():
    settings = {"true_cfg_scale": 3.0, "max_sequence_length": 16}
    backbone = make("Flux", negative_prompt="a dog", **settings)
    options = {"num_inference_steps": 3, "guidance_scale": 3.0, "height": 32, "width": 32, "output_type": "latent"}
    expected = backbone.pipe("a cat", negative_prompt="a dog", generator=Generators([5]).streams, **settings, **options)
    condition = backbone.encode(["a cat"])
    assert condition["embeds"].shape[1] == 16 and backbone.guided and not make("Flux").guided
    latents = sample(backbone, backbone.solver(3), Generators([5]), condition).samples
    torch.testing.assert_close(latents, expected.images, rtol=1e-4, atol=1e-4)
    assert backbone.variant().settings == backbone.settings
    assert backbone.fingerprint() != backbone.variant(true_cfg_scale=2.0).fingerprint()
    with pytest.warns(UserWarning, match="more than tokenizer_2 takes"):
        backbone.encode(["a very long prompt of many letters"])


def test_lookaheads_are_scored_by_a_tiny_decoder(tmp_path, reward):
    torch.manual_seed(0)
    blocks = {"encoder_block_out_channels": (8, 8), "decoder_block_out_channels": (8, 8)}
    blocks |= {"num_encoder_blocks": (1, 1), "num_decoder_blocks": (1, 1)}
    tiny = diffusers.AutoencoderTiny(**blocks)
    tiny.save_pretrained(tmp_path / "tiny")
    diffusers.AutoencoderTiny(latent_channels=8, **blocks).save_pretrained(tmp_path / "other")
    store, backbone = BankStore(tmp_path / "banks"), make()
    plain = Lookahead(2, 3).bank(backbone, "a cat", 0, [reward], store)
    bank = Lookahead(2, 3, decoder=str(tmp_path / "tiny")).bank(backbone, "a cat", 0, [reward], store)
    assert torch.equal(bank.samples, plain.samples)
    with torch.no_grad():
        pictures = (tiny.decode(bank.samples).sample / 2 + 0.5).clamp(0, 1)
    torch.testing.assert_close(bank.rewards[reward.name], pictures.mean((1, 2, 3)))
    assert not torch.equal(bank.rewards[reward.name], plain.rewards[reward.name])
    again = Lookahead(2, 3).bank(backbone, "a cat", 0, [reward], store)
    assert torch.equal(again.rewards[reward.name], plain.rewards[reward.name])
    with pytest.raises(ValueError, match="takes latents of 8 channels, but those of 'StableDiffusion' have 4"):
        Lookahead(2, 3, decoder=str(tmp_path / "other")).bank(backbone, "a cat", 0, [reward])
    with pytest.raises(ValueError, match="no AutoencoderTiny at 'nobody/nothing'"):
        Lookahead(2, 3, decoder="nobody/nothing").bank(backbone, "a cat", 0, [reward])
