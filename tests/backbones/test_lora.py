"""LoRA adapters of the user's own pipeline: what is on there is on in lookaheads, samples, fingerprints and presets."""

import pytest
import torch
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors.torch import save_file

from lidar_lightning import Lookahead, StableDiffusion
from lidar_lightning.backbones.adapters import LoRA, active_scales, adapters_off, add_lora
from lidar_lightning.lookahead.presets import Preset, lookahead_backbone
from lidar_lightning.sampling import sample
from lidar_lightning.utils.seeding import Generators
from tests.pipelines import build


@pytest.fixture(scope="module")
def lora(tmp_path_factory):
    """A folder with an adapter of the network and of the text encoder."""
    folder, pipe = tmp_path_factory.mktemp("lora"), build("StableDiffusion")
    for model, target in ((pipe.unet, "to_q"), (pipe.text_encoder, "q_proj")):
        torch.manual_seed(2)
        model.add_adapter(LoraConfig(r=2, lora_alpha=2, target_modules=[target], init_lora_weights=False))
    states = (get_peft_model_state_dict(model) for model in (pipe.unet, pipe.text_encoder))
    pipe.save_lora_weights(folder, *states)
    return folder


@pytest.fixture
def pipe(lora):
    """With the adapter on at scale 0.5."""
    pipe = build("StableDiffusion")
    pipe.load_lora_weights(lora, adapter_name="style")
    pipe.set_adapters(["style"], [0.5])
    return pipe


def wrap(pipe, **settings):
    return StableDiffusion(pipe, guidance_scale=3.0, name="tiny", **settings)


def draw(model, steps=2):
    return sample(model, model.solver(steps), Generators([0]), model.encode(["a cat"])).samples


def stock(pipe, steps=2):
    generator = Generators([0]).streams
    options = {"num_inference_steps": steps, "guidance_scale": 3.0, "generator": generator, "output_type": "latent"}
    return pipe("a cat", **options).images


def same(one, other):
    return torch.allclose(one, other, rtol=1e-4, atol=1e-4)


def test_what_is_on_in_the_pipeline_is_on(pipe):
    plain, model = wrap(build("StableDiffusion")), wrap(pipe)
    assert model.lora_scales == {"style": 0.5} and model.name == "tiny+style"
    assert same(draw(model), stock(pipe)) and not same(draw(model), draw(plain))
    assert model.fingerprint() != plain.fingerprint()
    assert not same(
        Lookahead(2, 1).bank(model, "a cat", 0, []).samples, Lookahead(2, 1).bank(plain, "a cat", 0, []).samples
    )
    half = model.fingerprint()
    pipe.set_adapters(["style"], [1.0])
    assert model.fingerprint() != half and same(draw(model), stock(pipe))
    pipe.disable_lora()
    assert model.lora_scales == {} and same(draw(model), draw(plain)) and model.fingerprint() == plain.fingerprint()
    assert not same(draw(wrap(pipe, lora_scales={"style": 1.0})), draw(plain))
    assert same(stock(pipe), draw(plain))


def test_what_is_off_by_name_is_off_in_the_text_encoder_too(pipe):
    off, plain = wrap(pipe, lora_scales={}), wrap(build("StableDiffusion"))
    torch.testing.assert_close(off.encode(["a cat"])["embeds"], plain.encode(["a cat"])["embeds"])
    assert same(draw(off), draw(plain)) and off.fingerprint() == plain.fingerprint() != wrap(pipe).fingerprint()


def test_presets_keep_what_is_on(pipe, lora, tmp_path, monkeypatch):
    save_file(build("StableDiffusion", seed=1).unet.state_dict(), tmp_path / "unet.safetensors")
    presets = {
        "quick": Preset(2, lora=str(lora), lora_scale=0.25),
        "other": Preset(2, weights=str(tmp_path / "unet.safetensors")),
        "dpm": Preset(2, scheduler="DPMSolverMultistepScheduler"),
    }
    monkeypatch.setattr("lidar_lightning.lookahead.presets.load_presets", lambda: presets)
    model, before = wrap(pipe), stock(pipe)
    assert Lookahead(n=1, preset="dpm").source(model).lora_scales == {"style": 0.5}
    lookahead = Lookahead(n=1, preset="quick")
    assert lookahead.source(model).lora_scales == {"style": 0.5, "quick": 0.25}
    assert torch.equal(stock(pipe), before) and model.lora_scales == {"style": 0.5}
    both = draw(lookahead.source(model))
    pipe.set_adapters(["style"], [1.0])
    assert lookahead.source(model).lora_scales == {"style": 1.0, "quick": 0.25}
    pipe.set_adapters(["style", "quick"], [0.5, 0.25])
    assert same(both, stock(pipe))
    pipe.set_adapters(["style"], [0.5])
    other, expected = lookahead_backbone(model, "other"), build("StableDiffusion", seed=1)
    expected.vae, expected.text_encoder = pipe.vae, pipe.text_encoder
    assert not same(draw(other), stock(expected))
    torch.manual_seed(2)
    expected.unet.add_adapter(LoraConfig(r=2, lora_alpha=2, target_modules=["to_q"], init_lora_weights=False), "style")
    expected.unet.set_adapters(["style"], [0.5])
    assert same(draw(other), stock(expected))


def test_adapters_of_a_loaded_pipeline_are_on_in_the_pipeline_itself(lora, tmp_path):
    build("StableDiffusion").save_pretrained(tmp_path)
    model = StableDiffusion.from_pretrained(tmp_path, lora={"style": str(lora)}, guidance_scale=3.0)
    assert same(draw(model), stock(model.pipe)) and model.lora_scales == {"style": 1.0}
    off = StableDiffusion.from_pretrained(tmp_path, lora={"style": str(lora)}, lora_scales={}, guidance_scale=3.0)
    assert same(draw(off), stock(off.pipe)) and not same(draw(off), draw(model))


def test_adapters_that_are_trained_leave_others_on(pipe):
    model = wrap(pipe)
    before = draw(model)
    add_lora(model, LoRA(rank=2))
    assert model.lora_scales == {"style": 0.5} and same(draw(model), before)
    trained = [p for p in model.parameters() if p.requires_grad]
    with torch.no_grad():
        for p in trained:
            p.normal_(std=0.5)
    assert not same(draw(model), before)
    with adapters_off(model):
        assert same(draw(model), before)
    assert [p for p in model.parameters() if p.requires_grad] == trained and active_scales(model) == {"style": 0.5}


def test_adapters_that_cannot_act_as_asked_are_named(pipe, lora):
    pipe.load_lora_weights(lora, adapter_name="other")
    pipe.set_adapters(["style"], [{"unet": {"down": 0.2, "mid": 0.5, "up": 0.5}}])
    with pytest.raises(ValueError, match="'style' has different scales in different layers, 0.2 and 0.5"):
        wrap(pipe)
    pipe.set_adapters(["style"], [1.0])
    together = stock(pipe)
    pipe.fuse_lora(adapter_names=["style"])
    assert wrap(pipe).lora_scales == {} and same(draw(wrap(pipe)), together)
    with pytest.raises(ValueError, match=r"LoRA \['style'\] is fused"):
        draw(wrap(pipe, lora_scales={"other": 1.0}))
